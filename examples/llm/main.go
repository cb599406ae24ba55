// Command llm stands in for a language model: it streams an answer, a word at a
// time, as the OpenAI API does.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"
)

const text = "A millstream is the water that turns a mill. It does not wait for the miller."

func main() {
	listen := flag.String("listen", "127.0.0.1:8090", "address")
	pace := flag.Duration("pace", 150*time.Millisecond, "time between two words")
	flag.Parse()
	http.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, time.Tick(*pace))
	})
	log.Fatal(http.ListenAndServe(*listen, nil))
}

func answer(w http.ResponseWriter, r *http.Request, tick <-chan time.Time) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, word := range strings.SplitAfter(text, " ") {
		fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", word)
		if http.NewResponseController(w).Flush() != nil {
			return // nobody listens
		}
		select {
		case <-tick:
		case <-r.Context().Done():
			return
		}
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}
