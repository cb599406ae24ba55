package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

const (
	// tryTime is how long a receiver may take to answer, by Standard Webhooks.
	tryTime = 15 * time.Second
	// storeAgain is how long is waited for a store that does not answer.
	storeAgain = time.Second
)

// deliver makes one try at a delivery, and stores what came of it.
func (s *Sender) deliver(ctx context.Context, c *claimed) {
	try := s.tryOnce
	if c.event.Start() {
		try = s.followOnce
	}
	ctx, end := s.begin(ctx, c)
	o, again := try(ctx, c)
	end()
	s.release(c, o, again)
}

// tryOnce returns what the try says of the host, and when the next one is; zero: there is none.
func (s *Sender) tryOnce(ctx context.Context, c *claimed) (outcome, time.Time) {
	d, err := s.store.Delivery(ctx, c.id(), c.event.String())
	switch {
	case errors.Is(err, job.ErrNotFound), err == nil && (d.State != job.DeliveryPending || d.Round != c.round):
		return unasked, time.Time{}
	case errors.Is(err, job.ErrDamaged): // it stays in the store, for who might mend it
		s.log.Error("damaged delivery", zap.String("job", string(c.id())), zap.Error(err))
		return unasked, time.Time{}
	case err != nil:
		s.pains.Warn("delivery not read yet", zap.String("job", string(c.id())), zap.Error(err))
		return unasked, time.Now().Add(storeAgain)
	}
	a := answer{err: errPatience}
	if !c.late {
		a = s.send(ctx, c, &d)
	}
	if ctx.Err() != nil {
		return unasked, time.Now() // nobody will
	}
	a.settle(&d, time.Now())
	if !s.tried(ctx, &d) || d.State != job.DeliveryPending {
		return a.outcome(), time.Time{}
	}
	return a.outcome(), d.NextAt
}

// tried stores what came of a try, and reports whether the delivery is still there.
func (s *Sender) tried(ctx context.Context, d *job.Delivery) bool {
	if d.State == job.DeliveryDead {
		s.log.Warn("webhook given up", zap.String("job", string(d.Job)), zap.String("delivery", d.ID), zap.Int("tries", d.Tries), zap.String("error", d.Last.Error))
	}
	for {
		err := s.store.Tried(ctx, d)
		if err == nil || errors.Is(err, job.ErrNotFound) {
			return err == nil
		}
		s.pains.Warn("delivery not stored yet", zap.String("job", string(d.Job)), zap.Error(err))
		select {
		case <-time.After(storeAgain):
		case <-ctx.Done():
			return false
		}
	}
}

// errPatience is the error of a delivery that is given up without a try.
var errPatience = fmt.Errorf("the receiver has been down for %s", patience)

// answer is what came of a POST.
type answer struct {
	status int
	wait   time.Duration // that the receiver asks for
	err    error
}

// send sends a delivery, and takes note of how long that takes: a store that is slow says
// nothing of the receiver.
func (s *Sender) send(ctx context.Context, c *claimed, d *job.Delivery) answer {
	long := time.AfterFunc(slowTime, func() { s.stepAside(c) })
	defer long.Stop()
	begin := time.Now()
	a := s.post(ctx, d)
	c.took = time.Since(begin)
	return a
}

// post sends a delivery.
func (s *Sender) post(ctx context.Context, d *job.Delivery) answer {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(d.Body))
	if err != nil {
		return answer{err: err}
	}
	now := time.Now()
	s.keys.SetHeader(req.Header, d.Message(), now, d.Body)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Millstream-Webhook/1")
	via := s.secure
	if req.URL.Scheme == "http" {
		via = s.plain
	}
	resp, err := via.RoundTrip(req) // which follows no redirect
	if err != nil {
		return answer{err: err}
	}
	letGo(resp)
	return answer{status: resp.StatusCode, wait: retryAfter(resp.Header, now)}
}

// received reports whether the receiver has said so.
func (a *answer) received() bool { return a.err == nil && a.status >= 200 && a.status < 300 }

// outcome is what the answer says of the host.
func (a *answer) outcome() outcome {
	switch {
	case errors.Is(a.err, errAddress), errors.Is(a.err, errPatience):
		return unasked
	case a.err != nil, a.status >= 500, a.status == http.StatusTooManyRequests:
		return fails
	}
	return lives
}

// reason says why the answer is no success.
func (a *answer) reason() string {
	switch {
	case a.received():
		return ""
	case errors.Is(a.err, errAddress):
		return errAddress.Error()
	case errors.Is(a.err, errPatience):
		return errPatience.Error()
	case errors.Is(a.err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s", tryTime)
	case errors.As(a.err, new(*net.DNSError)): // whose text names our resolver
		return "the receiver's name cannot be looked up"
	case errors.Is(a.err, io.EOF):
		return "the receiver closed the connection before it answered"
	case a.err != nil:
		return clip(withoutSource(a.err).Error())
	case a.status == http.StatusGone:
		return "410: the receiver wants no more"
	case a.status >= 300 && a.status < 400:
		return fmt.Sprintf("%d: a redirect, which is not followed; submit with the URL that it leads to", a.status)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)))
}

// maxReason is how long the text of an error may be that is kept.
const maxReason = 200

func clip(text string) string {
	if len(text) > maxReason {
		text = text[:maxReason]
	}
	return strings.ToValidUTF8(text, "")
}

// settle sets what a try has made of d.
func (a *answer) settle(d *job.Delivery, now time.Time) {
	now = now.UTC().Truncate(time.Millisecond)
	if a.err != errPatience {
		d.Tries++
	}
	d.Last = &job.Try{At: now, Status: a.status, Error: a.reason()}
	wait, more := waitAfter(d.Tries)
	next := now.Add(max(wait, a.wait)).Truncate(time.Millisecond)
	switch {
	case a.received():
		d.State = job.Delivered
	case !more, a.err == errPatience, a.status == http.StatusGone, next.Sub(d.Since) > patience:
		d.State = job.DeliveryDead
	default:
		d.NextAt = next
		return
	}
	d.NextAt, d.SettledAt = time.Time{}, now
}
