// Command func serves a Go function as a kind of job.
//
//	go run ./examples/func
//	millstream submit primes --input '{"below": 200000}' --watch
package main

import (
	"context"
	"flag"
	"log"
	"os/signal"
	"syscall"

	"github.com/millstream/millstream/pkg/millstream"
)

func main() {
	var config millstream.Config
	flag.StringVar(&config.Listen, "listen", millstream.Defaults.Listen, "address of the HTTP API")
	flag.StringVar(&config.Data, "data", millstream.Defaults.Data, "directory of the store")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := millstream.New(config, millstream.Func("primes", primes)).Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// primes counts the primes below a number, and says each hundredth on its way.
func primes(ctx context.Context, t *millstream.Task) (any, error) {
	var in struct{ Below int }
	if err := t.Bind(&in); err != nil {
		return nil, err
	}
	count := 0
	for n := 2; n < in.Below && ctx.Err() == nil; n++ {
		if !prime(n) {
			continue
		}
		if count++; count%100 == 0 {
			if err := t.Emit("prime", map[string]int{"n": n, "count": count}); err != nil {
				return nil, err
			}
		}
		t.Progress(float64(n), float64(in.Below), "counting")
	}
	return map[string]int{"count": count}, context.Cause(ctx)
}

func prime(n int) bool {
	for d := 2; d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return true
}
