package millstream

import (
	"cmp"
	"context"
	"time"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// Kind is one sort of work: its rules, of which zeros are defaults, and what runs
// an attempt at it.
type Kind struct {
	job.Kind
	Run worker.Func // nil: other programs pull the work

	target *Target // of a route; nil: it is none
}

// Task is one attempt, as a Go function sees it.
type Task = worker.Task

// Result is a result with a media type of its own.
type Result = worker.Result

// Func returns a kind that is a Go function. The function must return when ctx
// ends. What it returns is the result: a Result, []byte, string, nil, or anything
// that encodes as JSON. An error is retried, unless it is a *job.Problem that says
// otherwise.
func Func(name string, run func(ctx context.Context, t *Task) (any, error)) Kind {
	return Kind{Kind: job.Kind{Name: name, Worker: "func"}, Run: run}
}

// killTime is what a command takes to be gone and its last words stored, after the
// grace that it has itself.
const killTime = 5 * time.Second

// Exec returns a kind that is a command.
func Exec(name string, e worker.Exec) Kind {
	k := Kind{Kind: job.Kind{Name: name, Worker: "exec"}, Run: e.Func()}
	if e.Grace > 0 {
		k.Grace = e.Grace + killTime
	}
	return k
}

// HTTP returns a kind that is an HTTP upstream. Unless it is idempotent, a request
// that was sent is never sent again, but after a 429 or a 503, which say that nothing was done.
func HTTP(name string, h worker.HTTP) Kind {
	return Kind{Kind: job.Kind{Name: name, Worker: "http", AtMostOnce: !h.Idempotent}, Run: h.Func()}
}

// Pull returns a kind whose work other programs take, over HTTP, and do. A worker that
// says nothing for as long as a lease lives has lost it; 0 is job.DefaultLease.
func Pull(name string, lease time.Duration) Kind {
	lease = cmp.Or(lease, job.DefaultLease)
	k := Kind{Kind: job.Kind{Name: name, Worker: "pull", Lease: lease}}
	k.Grace = lease/heartbeats + job.DefaultGrace // it learns of a cancel with its next heartbeat
	return k
}

// heartbeats is how many a worker sends while its lease lives: one may be lost, and one
// late.
const heartbeats = 3

// maxGrace returns the longest grace of all kinds. Work that is done elsewhere goes on
// when we stop: it needs none.
func maxGrace(kinds []Kind) (grace time.Duration) {
	for _, k := range rulesOf(kinds) {
		if k.Lease == 0 {
			grace = max(grace, k.Grace)
		}
	}
	return grace
}

// rulesOf returns the rules of kinds.
func rulesOf(kinds []Kind) []job.Kind {
	rules := make([]job.Kind, len(kinds))
	for i, k := range kinds {
		rules[i] = k.WithDefaults()
	}
	return rules
}

// byName returns the rules of kinds by their names.
func byName(kinds []Kind) map[string]job.Kind {
	m := map[string]job.Kind{}
	for _, k := range rulesOf(kinds) {
		m[k.Name] = k
	}
	return m
}
