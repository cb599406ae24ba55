package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// overseers is how many there are, each on a way of its own at first.
const overseers = 2

// overseer follows all jobs on one connection, from before the first to behind the last,
// knowing only the last id it was given. It hangs up and comes back as a reader does.
type overseer struct {
	*client
	way     int    // of transports
	last    string // id
	puzzled bool   // it was given what nobody should get
}

func newOverseer(s *session, n int) *overseer {
	return &overseer{client: s.client("overseer", n, ofOverseers), way: n}
}

// begin finds the place behind which all jobs will be: there is none yet.
func (o *overseer) begin() {
	for o.last == "" && !o.puzzled {
		_, err := o.rest()
		if o.broke(err); err != nil && !o.again() {
			return
		}
	}
}

// run follows until all clients have what they waited for, and then reads what is left.
func (o *overseer) run() {
	defer o.close()
	o.way = o.rand.IntN(manyWays)
	for !o.puzzled && !isClosed(o.done) {
		o.broke(o.round())
		if !o.again() {
			return
		}
		if o.chance(change) {
			o.way = o.rand.IntN(manyWays)
		}
	}
	for !o.puzzled {
		n, err := o.rest()
		if err == nil && n == 0 {
			o.diary.note(entry{What: told})
			return
		}
		if o.broke(err); !o.again() {
			return
		}
	}
}

// broke writes down why a round is over.
func (o *overseer) broke(err error) {
	var u unexpected
	switch {
	case errors.As(err, &u):
		o.diary.note(entry{What: surprise, By: transports[o.way].name, Detail: string(u)})
		o.puzzled = true
	case err != nil:
		o.diary.note(entry{What: broke, Detail: err.Error()})
	}
}

// round reads by one request, until it is cut, or nobody needs more.
func (o *overseer) round() error {
	ctx, cancel := context.WithCancel(o.ctx)
	defer cancel()
	go func() {
		select {
		case <-o.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	way := &transports[o.way]
	if way.round != nil {
		return o.roundOfSocket(ctx)
	}
	body, err := o.open(ctx, way, way.query)
	if err != nil || body == nil {
		return err
	}
	defer func() { _ = body.Close() }()
	switch way.name {
	case "sse":
		return o.stream(body)
	case "ndjson":
		return jsonLines(body, o.takeJSON)
	}
	_, err = o.page(body)
	return err
}

// rest reads a page of what is there, and returns how many events it has.
func (o *overseer) rest() (int, error) {
	ctx, cancel := context.WithTimeout(o.ctx, answerTime)
	defer cancel()
	o.way = pageWay
	body, err := o.open(ctx, &transports[pageWay], "?limit=500")
	if err != nil {
		return 0, err
	}
	defer func() { _ = body.Close() }()
	return o.page(body)
}

// open asks for the events by a way.
func (o *overseer) open(ctx context.Context, way *transport, query string) (io.ReadCloser, error) {
	headers := []string{"Accept", way.accept}
	if o.last != "" {
		headers = append(headers, "Last-Event-ID", o.last)
	}
	sent := time.Now()
	resp, err := o.send(ctx, http.MethodGet, "/v1/events"+query, nil, headers...)
	if err != nil {
		return nil, err
	}
	o.diary.note(entry{What: opened, By: way.name, Status: resp.StatusCode, Sent: sent, Detail: o.last})
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusServiceUnavailable && way.refusable {
		return nil, errors.New(resp.Status)
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return nil, unexpected(fmt.Sprintf("%s behind %q: %s", resp.Status, o.last, text))
}

func (o *overseer) stream(body io.Reader) error {
	for in := (&frames{in: bufio.NewReaderSize(body, 64<<10)}); ; {
		e, err := in.read()
		if in.at != "" {
			o.last = in.at // what came of other jobs since
		}
		if err == nil {
			err = o.take(e)
		}
		if err != nil {
			return err
		}
	}
}

func (o *overseer) takeJSON(text []byte) error {
	e, err := parseEvent(text)
	if err != nil {
		return unexpected(fmt.Sprintf("%v: %q", err, text))
	}
	return o.take(e)
}

func (o *overseer) page(body io.Reader) (n int, err error) {
	var page struct {
		Events []json.RawMessage
		Cursor string
	}
	if err := json.NewDecoder(body).Decode(&page); err != nil {
		return 0, err
	}
	for _, text := range page.Events {
		if err := o.takeJSON(text); err != nil {
			return len(page.Events), err
		}
	}
	o.last = page.Cursor
	return len(page.Events), nil
}

// take writes one event down. What the jobs are before the first one it need not know; to be
// told to start over later is to have lost something.
func (o *overseer) take(e event) error {
	switch {
	case e.Type == "stream.end":
		return io.EOF
	case e.Type == "stream.reset" && (o.last != "" || e.reason() != "latest"):
		return unexpected("to start over: " + e.raw)
	case e.Type != "stream.reset":
		o.diary.note(entry{What: got, Job: e.Job, Event: json.RawMessage(e.raw)})
		o.events.Add(1)
	}
	if e.ID != "" {
		o.last = e.ID
	}
	if o.chance(hangUp) {
		return errHungUp
	}
	return nil
}
