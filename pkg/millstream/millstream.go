// Package millstream is the front of the library: it builds the parts of a
// Millstream server and runs them until the first of them stops.
//
//	err := millstream.New(millstream.Config{}, millstream.Func("greet",
//		func(ctx context.Context, t *millstream.Task) (any, error) {
//			return "hello " + string(t.Input()), nil
//		})).Run(ctx)
package millstream

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/millstream/millstream/broker"
	"github.com/millstream/millstream/handlers"
	"github.com/millstream/millstream/pkg/access"
	"github.com/millstream/millstream/pkg/hub"
	"github.com/millstream/millstream/pkg/index"
	"github.com/millstream/millstream/pkg/janitor"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
	"github.com/millstream/millstream/pkg/standardwebhooks"
	"github.com/millstream/millstream/pkg/webhook"
	"github.com/millstream/millstream/pkg/worker"
)

// Server is a Millstream.
type Server struct {
	config Config
	kinds  []Kind
}

// New returns a Server of these kinds. It does nothing before Run.
func New(config Config, kinds ...Kind) *Server {
	s := &Server{config: config.withDefaults(), kinds: slices.Clone(kinds)}
	for i := range s.kinds {
		k := &s.kinds[i]
		k.MaxInput = cmp.Or(k.MaxInput, s.config.Limits.Body)
	}
	return s
}

// parts are what a running server is made of. They know each other only through
// the functions that build hands them.
type parts struct {
	broker  *broker.Broker
	queue   *queue.Queue
	hub     *hub.Hub
	index   *index.Index
	janitor *janitor.Janitor
	desk    *worker.Desk
	sender  *webhook.Sender
	api     *handlers.API
	server  *http.Server
	ln      net.Listener

	worked   chan struct{} // closed when the work has ended
	stopping atomic.Bool
	deadline *time.Timer // of an orderly stop; set by drain
}

// Run serves until ctx ends, then stops in order, within Config.Drain. It returns
// nil after an orderly stop.
func (s *Server) Run(ctx context.Context) error {
	p, err := s.build(ctx)
	if err != nil {
		return err
	}
	url := "http://" + p.ln.Addr().String()
	s.config.Log.Info("serving", zap.String("url", "http://"+askable(p.ln.Addr())), zap.Stringer("listen", p.ln.Addr()), zap.Int("kinds", len(s.kinds)))
	if s.config.Ready != nil {
		s.config.Ready(url)
	}
	g, ctx := errgroup.WithContext(ctx)
	work, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	finish := max(0, s.config.Drain-maxGrace(s.kinds))
	g.Go(func() error { defer close(p.worked); return p.broker.Work(work, finish, s.attempt(p.desk)) })
	g.Go(func() error { p.sweep(ctx); return nil })
	g.Go(func() error { p.janitor.Run(ctx); return nil })
	g.Go(func() error { p.sender.Run(ctx); return nil })
	g.Go(func() error { return served(p.server.Serve(p.ln)) })
	g.Go(func() error { <-ctx.Done(); return s.drain(p, endWork) })
	err = g.Wait()
	p.deadline.Stop()
	err = errors.Join(err, p.broker.Close())
	if err == nil {
		s.config.Log.Info("stopped") // a log that does not end so was cut by a kill
	}
	return err
}

// sweep forgets the jobs that expire, until ctx ends. The log does so by itself.
func (p *parts) sweep(ctx context.Context) { p.index.Sweep(ctx, p.hub.Forget) }

// askable returns an address that requests can name: what means any of this machine's is
// refused as a Host.
func askable(at net.Addr) string {
	if tcp, ok := at.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return at.String()
}

// lastAnswers is how much of Config.Drain is left for answers under way when nobody new is
// let in any more, if work takes all the rest.
const lastAnswers = time.Second

// drain stops what readers and callers see; the work ends meanwhile. As long as it does,
// whoever comes is told so by us: a proxy in front would end an EventSource for good.
//
//	no new jobs ─▶ streams say goodbye, and so do new ones ─▶ the door closes ─▶ requests end
//	           └─▶ attempts finish, or are handed back ──┴─────▶ the log closes (Run)
func (s *Server) drain(p *parts, endWork func()) error {
	s.config.Log.Info("stopping", zap.Duration("within", s.config.Drain), zap.Int("streams", p.hub.Readers()))
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Drain)
	defer cancel()
	p.deadline = time.AfterFunc(s.config.Drain, func() { _ = p.broker.Close() }) // who is not done by then is taken back at the next start
	p.stopping.Store(true)
	p.broker.Drain()
	p.hub.Close()
	p.api.Drain()
	endWork()
	select {
	case <-p.worked:
	case <-time.After(s.config.Drain - min(lastAnswers, s.config.Drain/2)):
	}
	err := s.shut(ctx, p.server)
	p.api.Wait(ctx)
	return err
}

// shut closes the door, and what is still open when ctx ends: a connection that never
// asked for anything is no reason to call a stop a failure.
func (s *Server) shut(ctx context.Context, server *http.Server) error {
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.config.Log.Warn("connections cut: they did not end in time")
		return server.Close()
	}
	return err
}

// farewell has each connection end with its next answer once the server stops: one that
// Shutdown has to close may have a request on its way.
func (p *parts) farewell(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.stopping.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// served turns the error of an orderly stop into none.
func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// build makes the parts, bottom up. The folds hear of each commit in this order:
// the index first, so that a job is found before anybody hears of it.
func (s *Server) build(ctx context.Context) (*parts, error) {
	if err := s.config.validate(s.kinds); err != nil {
		return nil, err
	}
	if err := free(s.config.Listen); err != nil {
		return nil, err
	}
	p := &parts{worked: make(chan struct{})}
	kinds := rulesOf(s.kinds)
	p.queue = queue.New(kinds...)
	log := new(openLog)
	p.index = index.New(log)
	p.hub = hub.New(log, p.index, hub.Options{Memory: int(s.config.TapeMemory)})
	p.janitor = janitor.New(log, s.config.Log)
	signing, err := standardwebhooks.ParseKeys(s.config.Webhooks.Secrets...)
	if err != nil {
		return nil, fmt.Errorf("webhooks: %w", err)
	}
	p.sender = webhook.New(log, webhook.Options{Keys: signing, Allow: s.config.Webhooks.Allow, Log: s.config.Log})
	p.broker, err = broker.Open(ctx, broker.Options{
		Dir: s.config.dir(), MaxStore: s.config.MaxStore, PowerSafe: s.config.PowerSafe, URL: s.config.NATS, Kinds: kinds, Queue: p.queue, Log: s.config.Log,
		Due:   p.sender.Due,
		Folds: []func(*job.Commit){p.index.Fold, p.queue.Fold, p.hub.Fold, p.janitor.Fold, p.sender.Fold}, Tail: p.hub,
	})
	if err != nil {
		return nil, err
	}
	log.Broker = p.broker
	p.desk = worker.NewDesk(p.broker.Lease, p.broker.Job)
	if err := s.face(ctx, p); err != nil {
		return nil, errors.Join(err, p.broker.Close())
	}
	return p, nil
}

// free fails where nobody can listen: the store is not touched then, and not mended. The
// address is let go again, so that who comes before the store is open is refused at once.
func free(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return ln.Close()
}

// openLog is the log that hub and index ask; there is none until it is open, and
// nobody asks before.
type openLog struct{ *broker.Broker }

// The limits of a connection before a handler has it: a slow or fat head is no
// request of ours. There is no WriteTimeout, it would end every stream.
const (
	headerTime = 5 * time.Second
	headerSize = 64 << 10        // twice what the API takes, so that it says so itself
	idleTime   = 2 * time.Minute // longer than clients poll, so that they keep their connection
)

// face builds the HTTP side and begins to listen.
func (s *Server) face(ctx context.Context, p *parts) error {
	fresh := make([]byte, access.KeySize)
	_, _ = rand.Read(fresh) // never fails
	key, err := p.broker.Secret(ctx, "token-key", fresh)
	if err != nil {
		return fmt.Errorf("token key: %w", err)
	}
	if p.ln, err = listen(s.config.Listen, s.config.Heartbeat); err != nil {
		return err
	}
	admin, err := s.admin(ctx, p.broker, p.ln.Addr())
	if err != nil {
		return errors.Join(err, p.ln.Close())
	}
	gin.SetMode(gin.ReleaseMode)
	p.api = &handlers.API{
		Admin: admin, Store: p.broker, Jobs: p.index, Queue: p.queue, Hub: p.hub, Desk: p.desk, Tokens: access.NewSigner(key),
		Kinds: byName(s.kinds), Proxied: targets(s.kinds), Log: s.config.Log,
		Heartbeat: s.config.Heartbeat, Body: s.config.Limits.Body, Streams: s.config.Limits.Streams,
		Hosts: s.config.Hosts, Origins: s.config.Origins,
	}
	if len(s.config.Webhooks.Secrets) > 0 {
		p.api.Webhooks = p.sender
	}
	handler, err := p.api.Handler()
	if err != nil {
		return errors.Join(err, p.ln.Close())
	}
	p.server = &http.Server{
		Handler: p.farewell(handler), ReadHeaderTimeout: headerTime, MaxHeaderBytes: headerSize, IdleTimeout: idleTime,
		ErrorLog: zap.NewStdLog(s.config.Log),
	}
	return nil
}

// attempt returns what runs one attempt at a job of any kind.
func (s *Server) attempt(desk *worker.Desk) broker.Handler {
	funcs := map[string]worker.Func{}
	for _, k := range s.kinds {
		if funcs[k.Name] = k.Run; k.Lease > 0 {
			funcs[k.Name] = desk.Func(k.Lease, k.Grace)
		}
	}
	opt := worker.Options{Log: s.config.Log, Limits: worker.Limits{
		Events: s.config.Limits.EventsPerJob, Bytes: s.config.Limits.BytesPerJob, ProgressRate: s.config.Limits.ProgressRate,
	}}
	return func(ctx context.Context, t *broker.Task) error {
		a := worker.Attempt{Job: t.Job, Input: t.Input, Upload: t.Upload, Open: t.OpenUpload, InputType: t.InputType, Call: t.Call, Sink: t}
		if !t.Job.LeasedUntil.IsZero() {
			a.Hold = t
		}
		out, err := worker.Run(ctx, funcs[t.Job.Kind], a, opt)
		if err != nil {
			return err
		}
		t.Succeed(broker.Success{Record: out.Record, Piece: out.Piece})
		return nil
	}
}
