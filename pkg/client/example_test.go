package client_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// A job is submitted and watched to its end; whatever becomes of the connection
// meanwhile, no event is lost and none comes twice.
func ExampleClient_Events() {
	ctx := context.Background()
	c, err := client.New("http://127.0.0.1:8080", nil)
	if err != nil {
		log.Fatal(err)
	}
	j, err := c.Submit(ctx, "wordcount", strings.NewReader("slow is smooth"), &client.SubmitOptions{ContentType: "text/plain"})
	if err != nil {
		log.Fatal(err)
	}
	for e, err := range c.Events(ctx, j.ID, "") {
		if err != nil {
			log.Fatal(err) // e of the last turn has the ID to go on from
		}
		fmt.Println(e.Type, string(e.Data))
		if e.Type == job.Succeeded {
			printResult(ctx, c, j.ID)
		}
	}
}

func printResult(ctx context.Context, c *client.Client, id job.ID) {
	r, err := c.Result(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Body.Close()
	_, _ = io.Copy(os.Stdout, r.Body)
}
