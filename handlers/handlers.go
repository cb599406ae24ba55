// Package handlers is the HTTP face of Millstream: one file for each route, and
// the only place that knows status codes. It declares the few things it needs of
// the others and is handed them.
//
//	request → logged (log.go) → guarded (guard.go) → wellFormed (query.go) → authenticated (auth.go)
//	    POST a job    submit.go, raw.go → body.go → strict.go → options.go → schema.go
//	                  → Log.Submit → 202, 200 (wait.go) or a stream
//	    many          batch.go → the same for each → Log.SubmitAll → 202
//	    its events    events.go → cursor.go → stream.go or page.go
//	    of many       many.go → the same
//	an existing API   route.go → pass.go, or a job: call.go → Log.Submit → 202, or replay.go
//	an error anywhere → error.go → a problem document
package handlers

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/millstream/millstream/handlers/graph"
	"github.com/millstream/millstream/pkg/access"
	"github.com/millstream/millstream/pkg/forward"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// Log is what the routes write to, and where results are read. Its errors are
// *job.Problem where a client may see them.
type Log interface {
	// Submit stores a new job; it is stored when Submit returns.
	Submit(ctx context.Context, id job.ID, r *job.Request) (job.Job, error)
	// SubmitOnce is Submit, unless the owner has used the key already: then it returns
	// the job that was stored for it, as it is now, and replayed.
	SubmitOnce(ctx context.Context, key, fingerprint string, r *job.Request) (j job.Job, replayed bool, err error)
	// SubmitAll stores new jobs as one batch, which run in this order, and says what became
	// of each; requests that are nil are passed over. With a key it finds what was stored for
	// it, as SubmitOnce, and stores what is missing.
	SubmitAll(ctx context.Context, key, fingerprint string, requests []*job.Request) (job.Batch, error)
	// Upload stores a large input for the next Submit, which keeps it or removes it. Errors of
	// r come back as they are.
	Upload(ctx context.Context, kind string, r io.Reader) (*job.Upload, error)
	// UploadOnce is Upload for the next SubmitOnce with this key of the owner: if its job is
	// there, nothing is stored.
	UploadOnce(ctx context.Context, owner, key, kind string, r io.Reader) (*job.Upload, error)
	// OpenUpload opens an input that was stored so.
	OpenUpload(ctx context.Context, u *job.Upload) io.ReadSeekCloser
	// Request returns what a job was asked for, with its input.
	Request(ctx context.Context, id job.ID) (*job.Request, error)
	// Cancel asks for the job's end and returns it as it stands afterwards. A job
	// that is over comes back unchanged.
	Cancel(ctx context.Context, id job.ID, by, reason string) (job.Job, error)
	// Erase removes a job and all that is stored of it; one that runs is told to stop.
	Erase(ctx context.Context, id job.ID, by string) error
	// Deliveries returns what is known of a job's webhook deliveries, the oldest first; of a
	// job that is gone too.
	Deliveries(ctx context.Context, id job.ID) ([]job.Delivery, error)
	// Replay makes a delivery due now, whatever has become of it; job.ErrNotFound.
	Replay(ctx context.Context, id job.ID, event string) (job.Delivery, error)
	// Result returns the bytes of the result of a job that succeeded.
	Result(ctx context.Context, j job.Job) (io.ReadSeekCloser, error)
	// Ready returns nil if a write would be stored now.
	Ready(ctx context.Context) error
}

// Jobs is where jobs are looked up. It is told of an event before Hub shows it to
// a reader, so that who waits for an event finds its job changed.
type Jobs interface {
	Job(ctx context.Context, id job.ID) (job.Job, error) // job.ErrNotFound
	List(q job.Query) job.ListPage
	// Named returns those of the jobs that the selector names that are there, and selected.
	Named(s job.Selector) []job.ID
}

// Queue is what waits for a worker.
type Queue interface {
	Position(id job.ID) (ahead int, ok bool)
	Depth(kind string) (queued, running int)
}

// Hub is where events are read. Events that are there already come from its
// readers before an idle channel that has fired is looked at.
type Hub interface {
	Open(ctx context.Context, id job.ID, after job.Cursor) (tape.Reader, error) // job.ErrCursor, job.ErrNotFound
	// OpenMany opens the events of many jobs, in the order of the log. It begins behind all
	// there is if after is the zero cursor, and ends only if the selector names jobs. Its
	// Cursor moves past what is not selected, too.
	OpenMany(ctx context.Context, s job.Selector, after job.Cursor) (tape.Capped, error) // job.ErrCursor; io.EOF: these are over and read
}

// Desk is where pull workers take work and say what becomes of it.
type Desk interface {
	// Lease waits for work of the kinds, and returns as much as there is then, but no
	// more than most attempts.
	Lease(ctx context.Context, wait time.Duration, worker string, most int, kinds ...string) ([]job.Lease, error)
	// Leased returns an attempt as its worker has it; job.ErrLeaseLost: it does not.
	Leased(ctx context.Context, id job.ID, lease uint64) (job.Lease, error)
	// Report stores what the worker of an attempt says: nothing of what is invalid-input,
	// or comes behind the end of the lease, job.ErrLeaseLost.
	Report(ctx context.Context, id job.ID, lease uint64, said []job.Said) (job.Standing, error)
}

// Tokens signs and checks read tokens and leases.
type Tokens interface {
	Mint(id job.ID, owner string, expires time.Time) string
	MintBatch(batch, owner string, expires time.Time) string
	Verify(token string) (access.Claims, error)
	MintLease(l access.Lease) string
	VerifyLease(token string) (access.Lease, error) // job.ErrLeaseLost: it has expired
}

// API holds what the routes share. All of it is required but Admin, Webhooks, Hosts, Origins
// and Proxied, and Desk if there are no pull kinds.
type API struct {
	Store  Log
	Jobs   Jobs
	Queue  Queue
	Hub    Hub
	Desk   Desk
	Tokens Tokens
	Kinds  map[string]job.Kind
	Admin  func(key string) bool // knows who may do everything; nil: anybody may
	Log    *zap.Logger

	Webhooks Webhooks // nil: none are sent, as there is nothing to sign them with

	Proxied map[string]forward.Target // by the kind of the jobs that requests to it become

	Heartbeat time.Duration // silence on a stream after which it says that it lives
	Body      int64         // bytes of a request's body
	Streams   int           // streams and waits at once; more are told to come back
	Hosts     []string      // Host headers served beside localhost and addresses of this machine
	Origins   []string      // web pages that may call the API from elsewhere

	routes  []*route
	hosts   map[string]bool
	origins map[string]bool
	cross   *http.CrossOriginProtection
	kinds   map[string]*kind
	schemas *semaphore.Weighted // bytes of inputs that are checked
	open    atomic.Int64        // streams and waits
	senders senders             // of jobs that end with them
	uploads atomic.Int64        // large inputs that come in
	sockets sync.WaitGroup      // that are open
	graph   *graph.Engine
	down    chan struct{} // closed: sockets say goodbye
	quit    sync.Once
}

// Handler returns the API as one handler. It fails on a kind whose schema does
// not compile and on an origin that is none.
func (a *API) Handler() (http.Handler, error) {
	if err := a.compile(); err != nil {
		return nil, err
	}
	if err := a.admit(); err != nil {
		return nil, err
	}
	a.graph, a.down = graph.New(graphService{a}, a.graphProblem), make(chan struct{})
	r := gin.New()
	r.HandleMethodNotAllowed = true
	r.RedirectTrailingSlash = false // who follows a redirected stream comes back to the wrong place
	r.RedirectFixedPath = false
	if err := r.SetTrustedProxies(nil); err != nil {
		return nil, err
	}
	r.Use(a.logged, a.recovered, a.guarded, a.routed)
	r.NoRoute(a.handle(noRoute))
	r.NoMethod(a.handle(noMethod))
	a.Routes(r)
	return r, nil
}

// Routes registers every route, so this is the table of contents of the package.
func (a *API) Routes(r gin.IRouter) {
	get(r, "/livez", a.handle(a.livez))              // health.go
	get(r, "/readyz", a.handle(a.readyz))            // health.go
	get(r, "/problems/:name", a.handle(problemPage)) // problems.go
	get(r, "/client.js", a.handle(webFile))          // web.go
	get(r, "/client.d.ts", a.handle(webFile))        // web.go

	r.GET("/graphql", a.graphql)  // graphql.go
	r.POST("/graphql", a.graphql) // graphql.go

	v1 := r.Group("/v1", a.handle(wellFormed), a.handle(a.authenticated))   // query.go, auth.go
	v1.POST("/jobs", a.handle(a.submit))                                    // submit.go
	get(v1, "/jobs", a.handle(a.list))                                      // list.go
	v1.POST("/kinds/:kind/jobs", a.handle(a.raw))                           // raw.go
	get(v1, "/jobs/:id", a.handle(a.job))                                   // job.go
	v1.DELETE("/jobs/:id", a.handle(a.erase))                               // erase.go
	get(v1, "/jobs/:id/events", a.handle(a.events))                         // events.go
	get(v1, "/jobs/:id/result", a.handle(a.result))                         // result.go
	v1.POST("/jobs/:id/cancel", a.handle(a.cancel))                         // cancel.go
	v1.POST("/jobs/:id/retry", a.handle(a.resubmit))                        // retry.go
	get(v1, "/events", a.handle(a.many))                                    // many.go
	get(v1, "/jobs/:id/deliveries", a.handle(a.deliveries))                 // deliveries.go
	v1.POST("/jobs/:id/deliveries/:delivery/replay", a.handle(a.redeliver)) // deliveries.go
	v1.POST("/leases", a.handle(a.lease))                                   // lease.go
	v1.POST("/leases/:lease/events", a.handle(a.report))                    // report.go
	get(v1, "/leases/:lease/input", a.handle(a.leasedInput))                // lease_input.go
	get(v1, "/kinds", a.handle(a.listKinds))                                // kinds.go
	get(v1, "/kinds/:kind", a.handle(a.describeKind))                       // kinds.go
}

// get registers a route that is read: with HEAD, which probes and link checkers
// send and Gin does not add by itself.
func get(r gin.IRouter, path string, route gin.HandlerFunc) {
	r.GET(path, route)
	r.HEAD(path, route)
}

func noRoute(*gin.Context) error { return job.Problemf("not-found", "There is no such path.") }

func noMethod(c *gin.Context) error {
	return job.Problemf("method-not-allowed", "It has %s.", c.Writer.Header().Get("Allow"))
}
