package torture

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// upstream is the service behind the http kinds: /tokens streams, /once answers at
// its end, and must not be asked twice.
type upstream struct {
	diary *diary
	http  *http.Server
	ln    net.Listener

	mu     sync.Mutex
	frozen chan struct{} // closed: it is not
	cut    chan struct{} // closed by the next cut

	awaited  map[string]bool // jobs of whose end a delivery is to come
	received map[string]bool // and those of which one has
	refused  map[string]bool // deliveries that were, once
}

const (
	steps    = 12 // that a piece of work has
	stepTime = 50 * time.Millisecond
)

func newUpstream(path string) (*upstream, error) {
	d, err := openDiary(path)
	if err != nil {
		return nil, err
	}
	u := &upstream{diary: d, frozen: make(chan struct{}), cut: make(chan struct{}), awaited: map[string]bool{}, received: map[string]bool{}, refused: map[string]bool{}}
	close(u.frozen)
	if u.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/tokens", u.tokens)
	mux.HandleFunc("/once", u.once)
	mux.HandleFunc(hookPath, u.hook)
	u.http = &http.Server{Handler: mux}
	go func() { _ = u.http.Serve(u.ln) }()
	return u, nil
}

func (u *upstream) url() string { return "http://" + u.ln.Addr().String() }

func (u *upstream) close() {
	_ = u.http.Close()
	u.diary.close()
}

// freeze holds up all answers until thaw is called.
func (u *upstream) freeze() (thaw func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := make(chan struct{})
	u.frozen = c
	return func() { close(c) }
}

// cutAll ends all answers in the middle.
func (u *upstream) cutAll() {
	u.mu.Lock()
	defer u.mu.Unlock()
	close(u.cut)
	u.cut = make(chan struct{})
}

func (u *upstream) state() (frozen, cut chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.frozen, u.cut
}

// ask notes a request, and returns what it will call itself.
func (u *upstream) ask(r *http.Request) (run string) {
	run = rand.Text()
	var in input
	_ = json.NewDecoder(r.Body).Decode(&in)
	u.diary.note(entry{What: asked, Job: r.Header.Get("Millstream-Job"), Kind: r.URL.Path[1:], Key: in.Key, Run: run})
	return run
}

// step takes its time; false: the answer ends here. A cut counts for those who were
// there when it came.
func (u *upstream) step(r *http.Request, cut chan struct{}) bool {
	frozen, _ := u.state()
	for _, c := range []<-chan struct{}{frozen, after(stepTime)} {
		select {
		case <-c:
		case <-cut:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			return false
		}
	}
	return true
}

// after returns a channel that is closed then.
func after(d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(d, func() { close(c) })
	return c
}

func (u *upstream) tokens(w http.ResponseWriter, r *http.Request) {
	run := u.ask(r)
	_, cut := u.state()
	w.Header().Set("Content-Type", "text/event-stream")
	for n := range steps {
		if !u.step(r, cut) {
			return
		}
		_, _ = fmt.Fprintf(w, "event: token\ndata: {\"run\":%q,\"n\":%d,\"of\":%d}\n\n", run, n+1, steps)
		_ = http.NewResponseController(w).Flush()
	}
}

// onceDone is what an answer of /once begins with; who gave it follows.
const onceDone = "done by "

func (u *upstream) once(w http.ResponseWriter, r *http.Request) {
	run := u.ask(r)
	_, cut := u.state()
	for range steps / 2 {
		if !u.step(r, cut) {
			return
		}
	}
	_, _ = fmt.Fprintf(w, "%s%s\n", onceDone, run)
}
