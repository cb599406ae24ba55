package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// reader follows one job after the other through everything, knowing only the last id
// it was given. It hangs up at random, and comes back by any way with the same id.
type reader struct {
	*client
	way  int    // of transports
	job  string // that it follows
	last string // id
	over bool   // it was told that there is no more
	gone bool   // it was told that there is no such job

	puzzled bool // it was given what nobody should get
}

// transport is a way of reading events: read goes as far as it can from the last id on.
type transport struct {
	name, accept, query string
	refusable           bool // it has no words for it in band
	read                func(*reader, *http.Response) error
	round               func(*reader) error // in place of all of that
}

var transports = []transport{
	{name: "sse", accept: "text/event-stream", read: (*reader).readStream},
	{name: "ndjson", accept: "application/x-ndjson", refusable: true, read: (*reader).readLines},
	{name: "page", accept: "application/json", query: "?limit=7&wait=5", refusable: true, read: (*reader).readPage},
	{name: "socket", round: (*reader).roundOfSocket},
	{name: "graphql-sse", round: (*reader).roundOfGraphStream},
	{name: "graphql-socket", round: (*reader).roundOfGraphSocket},
}

const (
	pageWay  = 2 // that of pages
	manyWays = 4 // the first ones are those of many jobs, too

	readersOfJob = 4 // each begins by another way
)

func newReader(s *session, n, way int) *reader {
	return &reader{client: s.client("reader", n, ofReaders), way: way}
}

const (
	hangUp = 7  // of a hundred events
	change = 50 // of a hundred times that it comes back
)

// errHungUp ends a round of a reader that has enough.
var errHungUp = errors.New("hung up")

// unexpected is an answer that no reader should ever get, in words.
type unexpected string

func (u unexpected) Error() string { return string(u) }

// follow reads until the server says that the job is over.
func (r *reader) follow(id string) {
	if r.job != id {
		r.begin(id)
	}
	for !r.puzzled {
		err := r.round()
		if r.over {
			r.diary.note(entry{What: told, Job: id})
			return
		}
		if r.gone {
			return
		}
		r.broke(err)
		if !r.again() {
			r.diary.note(entry{What: gaveUp, Job: id, Detail: "behind " + r.last})
			return
		}
		if r.chance(change) {
			r.way = r.rand.IntN(len(transports))
		}
	}
}

// begin begins with another job.
func (r *reader) begin(id string) {
	r.job, r.last, r.over, r.gone, r.puzzled = id, "", false, false, false
	r.diary.note(entry{What: follows, Job: id})
}

// broke writes down why a round is over.
func (r *reader) broke(err error) {
	var u unexpected
	switch {
	case errors.As(err, &u):
		r.diary.note(entry{What: surprise, Job: r.job, By: transports[r.way].name, Detail: string(u)})
		r.puzzled = true // who goes on may do so for ever
	case err != nil:
		r.diary.note(entry{What: broke, Job: r.job, Detail: err.Error()})
	}
}

// round reads by one request.
func (r *reader) round() error {
	way := &transports[r.way]
	if way.round != nil {
		return way.round(r)
	}
	headers := []string{"Accept", way.accept}
	if r.last != "" {
		headers = append(headers, "Last-Event-ID", r.last)
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	sent := time.Now()
	resp, err := r.send(ctx, http.MethodGet, "/v1/jobs/"+r.job+"/events"+way.query, nil, headers...)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	r.diary.note(entry{What: opened, Job: r.job, By: way.name, Status: resp.StatusCode, Sent: sent, Detail: r.last})
	switch {
	case resp.StatusCode == http.StatusOK:
		return way.read(r, resp)
	case resp.StatusCode == http.StatusNoContent:
		r.over = true
		return nil
	case resp.StatusCode == http.StatusNotFound:
		r.gone = true
		r.diary.note(entry{What: missing, Job: r.job, By: way.name, Sent: sent})
		return nil
	case resp.StatusCode == http.StatusServiceUnavailable && way.refusable:
		return errors.New(resp.Status)
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return unexpected(fmt.Sprintf("%s behind %q: %s", resp.Status, r.last, body))
}

// take writes one event down. What is wrong with it the judge will see.
func (r *reader) take(e event) error {
	if e.Type == "stream.end" {
		return io.EOF
	}
	r.diary.note(entry{What: got, Job: r.job, Event: json.RawMessage(e.raw)})
	r.last = e.ID
	r.events.Add(1)
	if r.chance(hangUp) {
		return errHungUp
	}
	return nil
}

func (r *reader) takeJSON(text []byte) error {
	e, err := parseEvent(text)
	if err != nil {
		return unexpected(fmt.Sprintf("%v: %q", err, text))
	}
	return r.take(e)
}

func (r *reader) readStream(resp *http.Response) error {
	for in := (&frames{in: bufio.NewReaderSize(resp.Body, 64<<10)}); ; {
		e, err := in.read()
		if err == nil {
			err = r.take(e)
		}
		if err != nil {
			return err
		}
	}
}

// readLines reads NDJSON.
func (r *reader) readLines(resp *http.Response) error { return jsonLines(resp.Body, r.takeJSON) }

// jsonLines calls take with each line that is no heartbeat. A line without its end is what a
// client throws away.
func jsonLines(body io.Reader, take func([]byte) error) error {
	for in := bufio.NewReaderSize(body, 64<<10); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			continue
		}
		if err := take([]byte(line)); err != nil {
			return err
		}
	}
}

func (r *reader) readPage(resp *http.Response) error {
	var page struct {
		Events []json.RawMessage
		Done   bool
	}
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return err
	}
	for _, text := range page.Events {
		if err := r.takeJSON(text); err != nil {
			return err
		}
	}
	r.over = page.Done
	return nil
}
