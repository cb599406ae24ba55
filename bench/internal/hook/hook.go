// Package hook is both ends of webhooks: who receives them, and the least that can send them.
package hook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millstream/millstream/pkg/standardwebhooks"
)

// Receiver is the role of who answers 204 to all that come.
type Receiver struct {
	mu   sync.Mutex // protects the field below
	seen map[string]bool
	more chan struct{} // holds one while there may be something new
}

// Listen starts the receiver and answers with its URL.
func (r *Receiver) Listen(_ struct{}, url *string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r.seen, r.more = map[string]bool{}, make(chan struct{}, 1)
	go func() { _ = http.Serve(ln, http.HandlerFunc(r.receive)) }() // until the process ends
	*url = "http://" + ln.Addr().String() + "/"
	return nil
}

func (r *Receiver) receive(w http.ResponseWriter, req *http.Request) {
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return
	}
	r.mu.Lock()
	r.seen[req.Header.Get("webhook-id")] = true
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
	w.WriteHeader(http.StatusNoContent)
}

// patience is how long deliveries may take to come.
const patience = time.Minute

// Wait returns once so many different deliveries have come, and forgets them.
func (r *Receiver) Wait(n int, _ *struct{}) error {
	late := time.After(patience)
	for {
		r.mu.Lock()
		got := len(r.seen)
		if got >= n {
			r.seen = map[string]bool{}
		}
		r.mu.Unlock()
		if got == n {
			return nil
		}
		if got > n {
			return fmt.Errorf("%d deliveries in place of %d", got, n)
		}
		select {
		case <-r.more:
		case <-late:
			return fmt.Errorf("%d deliveries in place of %d", got, n)
		}
	}
}

// Sender is the role of who signs and sends, and stores nothing.
type Sender struct{}

// Sending says what to send.
type Sending struct {
	URL    string
	Count  int
	AtOnce int
	Bytes  int // of each body
}

// Run sends, and returns when all is answered.
func (Sender) Run(s Sending, _ *struct{}) error {
	keys, err := standardwebhooks.ParseKeys(standardwebhooks.NewSecret())
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: s.AtOnce}}
	body := bytes.Repeat([]byte("x"), s.Bytes)
	errs := make([]error, s.AtOnce)
	var next atomic.Int64
	var all sync.WaitGroup
	for i := range s.AtOnce {
		all.Go(func() {
			for n := next.Add(1); n <= int64(s.Count) && errs[i] == nil; n = next.Add(1) {
				errs[i] = post(client, keys, s.URL, "bench-"+strconv.FormatInt(n, 10), body)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func post(client *http.Client, keys standardwebhooks.Keys, url, id string, body []byte) error {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	keys.SetHeader(req.Header, id, time.Now(), body)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the answer was %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
