package torture

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// hookSecret signs the deliveries, as Standard Webhooks has it.
var hookSecret = []byte("of the torture, and of nobody else")

const (
	hookPath  = "/hook"
	hookTime  = 30 * time.Second // for the last deliveries, when nothing is done to the server any more
	hookLater = 10               // of a hundred deliveries are refused at their first try
)

// webhooks is the configuration of a server that sends some.
func webhooks() object {
	return object{"secret": "whsec_" + base64.StdEncoding.EncodeToString(hookSecret), "allow": []string{"127.0.0.0/8"}}
}

// hook receives deliveries. Some of them it wants a second time.
func (u *upstream) hook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	e, err := parseEvent(body)
	id := r.Header.Get("Webhook-Id")
	signed := hmac.New(sha256.New, hookSecret)
	_, _ = fmt.Fprintf(signed, "%s.%s.%s", id, r.Header.Get("Webhook-Timestamp"), body)
	want := "v1," + base64.StdEncoding.EncodeToString(signed.Sum(nil))
	note := entry{What: delivered, Job: e.Job, Event: json.RawMessage(body), Detail: id, Status: http.StatusNoContent}
	if err != nil || r.Header.Get("Webhook-Signature") != want {
		note = entry{What: surprise, Detail: fmt.Sprintf("a delivery %q that is not signed, or no event: %q", id, body)}
	}
	u.mu.Lock()
	if !u.refused[id] && sha256.Sum256([]byte(id))[0] < 256*hookLater/100 {
		u.refused[id], note.Status = true, http.StatusServiceUnavailable
	} else {
		u.received[e.Job] = true
		delete(u.awaited, e.Job)
	}
	u.mu.Unlock()
	u.diary.note(note)
	w.WriteHeader(note.Status)
}

// await says that a delivery of a job's end is to come.
func (u *upstream) await(job string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.received[job] {
		u.awaited[job] = true
	}
}

// forget says that none is to come any more: the job is erased.
func (u *upstream) forget(job string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.awaited, job)
}

// settled waits until no delivery is to come any more, for a while.
func (u *upstream) settled(ctx context.Context) {
	for end := time.Now().Add(hookTime); time.Now().Before(end); {
		u.mu.Lock()
		n := len(u.awaited)
		u.mu.Unlock()
		if n == 0 || !pause(ctx, againTime) {
			return
		}
	}
}

// delivery judges what was delivered of a job that has a webhook: its end, and nothing that the
// log does not have.
func (j *judge) delivery(t *trial) {
	if !t.hooked || len(t.log.events) == 0 {
		return
	}
	last := &t.log.events[len(t.log.events)-1]
	received := false
	for i := range t.deliveries {
		d := &t.deliveries[i]
		e, _ := parseEvent(d.Event)
		switch {
		case e.ID != last.ID || e.Type != last.Type || e.Seq != last.Seq:
			j.v.lost("%s: the delivery %s says %s %s, and it ends with %s %s", t.id, d.Detail, e.Type, e.ID, last.Type, last.ID)
		case d.Detail != t.deliveries[0].Detail:
			j.v.doubled("%s: its end was delivered as %s and as %s", t.id, t.deliveries[0].Detail, d.Detail)
		}
		received = received || d.Status/100 == 2
	}
	if !received {
		j.v.lost("%s: its end was never delivered", t.id)
	}
}
