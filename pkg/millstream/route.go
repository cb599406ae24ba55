package millstream

import (
	"fmt"

	"github.com/millstream/millstream/handlers"
	"github.com/millstream/millstream/pkg/forward"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// Target is an existing API, and what of a request goes there.
type Target = forward.Target

// Route returns a kind whose jobs are requests to an existing API that is served under its own
// paths: a request passes straight through, or becomes a job with Prefer: respond-async. Unless
// the target is idempotent, a request that was sent is never sent again, but after a 429 or
// a 503, which say that nothing was done.
func Route(name string, t Target) Kind {
	return Kind{
		Kind: job.Kind{
			Name: name, Worker: "route", AtMostOnce: !t.Idempotent,
			Description: fmt.Sprintf("Requests to %s with Prefer: respond-async.", t.Path),
		},
		Run:    worker.Route{Upstream: t.Upstream, Idempotent: t.Idempotent}.Func(),
		target: &t,
	}
}

// Path returns the path of a route; "": the kind is none.
func (k Kind) Path() string {
	if k.target == nil {
		return ""
	}
	return k.target.Path
}

// CheckRoute fails on a path that a route cannot have: it is no path, or one of ours.
func CheckRoute(path string) error {
	if handlers.Own(path) {
		return fmt.Errorf("%q would take paths of Millstream's own: name those of the API, such as /legacy/*", path)
	}
	return forward.CheckPath(path)
}

// checkTarget fails on a target that could not be served.
func checkTarget(t *Target) error {
	if t.Upstream == nil {
		return fmt.Errorf("route %s: it has no upstream", t.Path)
	}
	return CheckRoute(t.Path)
}

// targets returns the targets of the kinds that are routes.
func targets(kinds []Kind) map[string]Target {
	m := map[string]Target{}
	for _, k := range kinds {
		if k.target != nil {
			m[k.Name] = *k.target
		}
	}
	return m
}
