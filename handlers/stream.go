package handlers

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/sse"
	"github.com/millstream/millstream/pkg/tape"
)

// stream answers with the events as a stream.
func (a *API) stream(c *gin.Context, j *job.Job, r reading) error {
	if c.Request.Method == http.MethodHead {
		streamHeader(c.Writer.Header(), r)
		return sendNothing(c, http.StatusOK)
	}
	leave, ok := a.enter()
	if !ok {
		return a.refuse(c, j, r, a.busy())
	}
	defer leave()
	ctx, cancel := whileValid(c.Request.Context(), c)
	defer cancel()
	from, err := a.openAt(ctx, j, r.place)
	switch {
	case err != nil && c.Request.Context().Err() != nil:
		return err // who left before there was an answer needs none
	case err != nil:
		return a.refuse(c, j, r, a.unlessLost(ctx, j.ID, err))
	}
	defer from.Close()
	return a.streamed(c, j, r, func(ctx context.Context, s *session) error { return s.run(ctx, from) })
}

// streamed has run write to a session of the form that the request asks for.
func (a *API) streamed(c *gin.Context, j *job.Job, r reading, run func(ctx context.Context, s *session) error) error {
	if r.format == socketType {
		return a.socket(c, j, r, run)
	}
	ctx, cancel := whileValid(c.Request.Context(), c)
	defer cancel()
	streamHeader(c.Writer.Header(), r)
	return run(ctx, a.newSession(newWriter(c), j, r))
}

// streamNew answers the submit of a job with its events from the first. Its
// caller holds a place among the streams.
func (a *API) streamNew(c *gin.Context, j job.Job) error {
	r := reading{format: sseType}
	from, err := a.openAt(c.Request.Context(), &j, r.place)
	if err == nil {
		defer from.Close()
	}
	return a.streamed(c, &j, r, func(ctx context.Context, s *session) error {
		if err != nil {
			return s.turnAway(r.place, err) // the job is stored: no status may say that it is not
		}
		return s.run(ctx, from)
	})
}

// whileValid returns ctx, which ends when the request's token does.
func whileValid(ctx context.Context, c *gin.Context) (context.Context, context.CancelFunc) {
	claims, limited := claimsOf(c)
	return caller{claims, limited}.whileValid(ctx)
}

// whileValid returns ctx, which ends when the caller's token does.
func (who caller) whileValid(ctx context.Context) (context.Context, context.CancelFunc) {
	if who.limited {
		return context.WithDeadlineCause(ctx, who.claims.Expires, errTokenEnd)
	}
	return context.WithCancel(ctx)
}

// outlet is where a session's bytes go: they are on their way when Flush returns.
type outlet interface {
	Write(b []byte) (int, error)
	Flush() error
	idleSince() time.Time
}

// session is one reader of a job's events, on Server-Sent Events, NDJSON or a WebSocket. It
// has no queue: while the reader is slow, nothing is read for it.
type session struct {
	outlet
	api   *API
	job   *job.Job
	many  *selection // in place of job
	lines bool       // an event a line, with nothing around it
	types filter
	named bool // each event has its name in a line of its own

	ended     string      // the reason that the reader was given for the end; "": the job is over
	reset     string      // why the reader has yet to be told to start over; "": it need not be
	at        job.Cursor  // behind the last event that the reader got or was spared
	spared    bool        // the last one was not sent: the reader does not know at
	placeless bool        // it asked for the latest, or by no cursor, and nobody knows the job: an id would win over its asking again
	silent    *time.Timer // set anew when it has fired, and not with each event: then it is time to look whether there was one
}

func (a *API) newSession(to outlet, j *job.Job, r reading) *session {
	return &session{outlet: to, api: a, job: j, lines: r.format != sseType, types: r.types, named: !r.unnamed, at: r.place.cursor}
}

func streamHeader(h http.Header, r reading) {
	h.Set("Content-Type", r.format)
	h.Set("Cache-Control", "no-store, no-transform") // a proxy that compresses holds events back
	h.Set("X-Accel-Buffering", "no")                 // so does nginx unless told
}

// run writes events until the last one, or until the reader, its token or the
// server is gone.
func (s *session) run(ctx context.Context, from start) error {
	s.silent = time.NewTimer(s.api.Heartbeat)
	defer s.silent.Stop()
	if err := s.begin(ctx, from); err != nil {
		return err
	}
	for {
		b, err := from.Next(ctx, s.silent.C)
		switch {
		case err != nil:
			return s.finish(ctx, err)
		case len(b.Bytes) == 0:
			s.pass(from.Cursor())
			err = s.tick()
		default:
			err = s.write(b)
		}
		if err != nil {
			return err
		}
	}
}

// begin sends the headers at once: who waits for the first event must know that
// the stream stands.
func (s *session) begin(ctx context.Context, from start) error {
	var b []byte
	if !s.lines {
		b = sse.AppendRetry(b, between(minRetry, firstRetry))
	}
	if s.many != nil {
		return s.beginMany(ctx, b, from)
	}
	reset := from.reset
	s.reset = reset
	if reset == reasonLatest {
		var err error
		if b, err = s.appendReset(b, nil, s.job.Cursor); err != nil {
			return err
		}
	}
	return s.send(b)
}

// beginMany tells a reader of many jobs what they are, if it has to be told.
func (s *session) beginMany(ctx context.Context, b []byte, from start) error {
	if err := s.send(b); err != nil { // jobs are looked up before there is more
		return err
	}
	b = b[:0]
	for e, err := range s.api.opening(ctx, s.many, from.reset, from.Cursor()) {
		switch {
		case err != nil:
			s.placeless = from.reset != ""
			return s.finish(ctx, err)
		case placeless(&e):
			b = s.appendAside(b, &e)
		default:
			b = s.appendEvent(b, &e)
		}
		if len(b) < piece {
			continue
		}
		if err := s.send(b); err != nil {
			return err
		}
		b = b[:0]
	}
	s.at = from.Cursor()
	return s.send(b)
}

// pass notes that there was nothing for the reader up to a place.
func (s *session) pass(at job.Cursor) {
	if at != s.at && s.many != nil {
		s.at, s.spared = at, true
	}
}

// write sends the block's events, all in one write.
func (s *session) write(b tape.Block) error {
	out, err := s.encode(b)
	if err != nil {
		return err
	}
	s.at = b.Last
	s.spared = s.spared || s.many != nil // the block may end behind its last event
	if len(out) > 0 {
		return s.send(out)
	}
	if time.Since(s.idleSince()) >= s.api.Heartbeat { // a reader that is spared all events still hears that the stream lives
		return s.beat()
	}
	return nil
}

// encode returns what the reader gets of a block: on a plain stream its own bytes.
func (s *session) encode(b tape.Block) (out []byte, err error) {
	if s.reset != "" {
		id := firstID(b)
		if out, err = s.appendReset(nil, &id, beginning(s.job)); err != nil {
			return nil, err
		}
	}
	if s.types == nil && !s.lines && s.named {
		if out == nil {
			return b.Bytes, nil
		}
		return append(out, b.Bytes...), nil
	}
	for f := range b.Events() {
		if s.spared = !s.types.passes(f.Type); !s.spared {
			out = s.appendFrame(out, f)
		}
	}
	return out, nil
}

func firstID(b tape.Block) string {
	for f := range b.Events() {
		return f.ID
	}
	return ""
}

func (s *session) appendFrame(b []byte, f tape.Frame) []byte {
	if s.lines {
		return append(append(b, f.JSON...), '\n')
	}
	if !s.named {
		f.Type = ""
	}
	return sse.AppendEvent(b, f.ID, f.Type, f.JSON)
}

func (s *session) appendEvent(b []byte, e *job.Event) []byte {
	return s.appendFrame(b, tape.Frame{ID: e.Cursor().String(), Type: string(e.Type), JSON: e.AppendJSON(nil)})
}

// appendAside appends an event that is no place to resume from.
func (s *session) appendAside(b []byte, e *job.Event) []byte {
	return s.appendFrame(b, tape.Frame{Type: string(e.Type), JSON: e.AppendAside(nil)})
}

func (s *session) appendReset(b []byte, first *string, at job.Cursor) ([]byte, error) {
	e, err := s.api.reset(s.job, s.reset, first, at)
	s.reset, s.at = "", at
	return s.appendEvent(b, &e), err
}

// tick beats if the reader has heard nothing for long.
func (s *session) tick() error {
	if rest := s.api.Heartbeat - time.Since(s.idleSince()); rest > 0 {
		s.silent.Reset(rest)
		return nil
	}
	s.silent.Reset(s.api.Heartbeat)
	return s.beat()
}

// beat shows that the stream lives. A reader that was spared events is told the
// cursor behind them instead: an id in an event without data moves what
// EventSource resumes from (WHATWG HTML 9.2.6) and dispatches nothing.
func (s *session) beat() error {
	switch {
	case s.lines:
		return s.send([]byte{'\n'})
	case s.spared:
		s.spared = false
		return s.send([]byte("id: " + s.at.String() + "\n\n"))
	}
	return s.send([]byte(sse.Heartbeat))
}

// send writes b at once.
func (s *session) send(b []byte) error {
	if len(b) > 0 {
		if _, err := s.Write(b); err != nil {
			return err
		}
	}
	return s.Flush()
}

// finish ends the stream for the reason that reading did.
func (s *session) finish(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errTokenEnd):
		return errReaderGone
	case ctx.Err() != nil:
		err = errTokenEnd
	}
	return s.end(err)
}
