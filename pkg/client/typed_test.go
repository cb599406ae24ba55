package client_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

type size struct{ Width, Height int }

// typedServer has one job, which ends with an answer.
func typedServer(t *testing.T, result func(w http.ResponseWriter)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/kinds/resize/jobs", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		require.Equal(t, `{"Width":3,"Height":0}`, string(b))
		require.Equal(t, "application/json", r.Header.Get("Content-Type"))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprintf(w, `{"id":%q,"kind":"resize","status":"queued","cursor":"1-101-1"}`, testJob)
	})
	cuts := 0
	mux.HandleFunc("GET /v1/jobs/"+string(testJob)+"/events", func(w http.ResponseWriter, r *http.Request) {
		begin(w, time.Second)
		cuts++
		_, _ = io.WriteString(w, frame(event(after(r)+1, 4)))
	})
	mux.HandleFunc("GET /v1/jobs/"+string(testJob)+"/result", func(w http.ResponseWriter, _ *http.Request) {
		require.Equal(t, 3, cuts, "it is not asked for before there is one")
		result(w)
	})
	return mux
}

func TestCall(t *testing.T) {
	for name, tc := range map[string]struct {
		status            int
		mediaType, result string
		want              size
		err               string
	}{
		"a value":      {200, "application/json", `{"Width":3,"Height":4}`, size{3, 4}, ""},
		"a +json":      {200, "application/vnd.size+json", `{"Width":3}`, size{3, 0}, ""},
		"another type": {200, "application/json", `[1]`, size{}, "cannot unmarshal array"},
		"not JSON":     {200, "text/plain", `{"Width":3}`, size{}, "is text/plain, not JSON"},
		"failed":       {409, "application/problem+json", `{"type":"/problems/job-failed","title":"t","status":409,"detail":"exit status 3"}`, size{}, "exit status 3"},
		"too large":    {200, "application/json", `"` + strings.Repeat("x", 64<<20) + `"`, size{}, "more than 64 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, stop := serve(t, typedServer(t, func(w http.ResponseWriter) {
					w.Header().Set("Content-Type", tc.mediaType)
					w.WriteHeader(tc.status)
					_, _ = io.WriteString(w, tc.result)
				}), client.Options{})
				defer stop()
				got, err := client.Call[size](t.Context(), c, "resize", size{Width: 3}, nil)
				if tc.err != "" {
					require.ErrorContains(t, err, tc.err)
					return
				}
				require.NoError(t, err)
				require.Equal(t, tc.want, got)
			})
		})
	}
}

// A kind is called as if it were a function, however long it takes.
func ExampleCall() {
	c, err := client.New("http://127.0.0.1:8080", nil)
	if err != nil {
		log.Fatal(err)
	}
	n, err := client.Call[int](context.Background(), c, "countdown", map[string]int{"from": 3}, &client.SubmitOptions{Tags: []string{"nightly"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n)
}

// All jobs with a tag are watched on one connection.
func ExampleClient_EventsOf() {
	c, err := client.New("http://127.0.0.1:8080", nil)
	if err != nil {
		log.Fatal(err)
	}
	for e, err := range c.EventsOf(context.Background(), client.Selection{Tags: []string{"nightly"}}, "") {
		if err != nil {
			log.Fatal(err)
		}
		if e.Type == job.Failed {
			fmt.Println(e.Job, string(e.Data))
		}
	}
}
