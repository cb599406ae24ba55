package handlers

import (
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/sync/errgroup"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

const (
	maxNamed     = 500     // jobs of a list: as many ids as fit a request's head
	maxSnapshots = 1000    // jobs that a reader is told of as they are
	maxSnapshot  = 4 << 20 // bytes of these
)

// many answers GET /v1/events: the events of all jobs that the query selects, in the order of
// the log, so that one id resumes them all.
func (a *API) many(c *gin.Context) error {
	query := queryOf(c.Request)
	format, err := a.formatOf(c.Request, query)
	if err != nil {
		return err
	}
	unnamed, err := unnamedIn(query)
	if err != nil {
		return err
	}
	r := reading{format: format, place: placeOf(c.Request.Header, query), types: typesOf(query), unnamed: unnamed}
	if r.place == (place{}) {
		r.place.latest = true
	}
	c.Set(asked, r)
	s, err := a.selectionOf(c, query)
	switch {
	case err != nil:
		return a.refuseReading(c, err)
	case format == jsonType:
		return a.manyPage(c, s, r, query)
	}
	return a.streamMany(c, s, r)
}

// selection is what a request for the events of many jobs asks for.
type selection struct {
	job.Selector          // of those that are named, the ones that are there
	gone         []job.ID // that are named, and not there
}

// selectionParams are the parameters that select, and how many of each there may be.
var selectionParams = map[string]listParam{"kind": listParams["kind"], "tag": listParams["tag"], "batch": listParams["batch"]}

// otherParams are the others of GET /v1/events.
var otherParams = append([]string{"job", "types", "format", "names", "limit", "wait", "access_token"}, cursorNames...)

// selectionOf reads what is selected. What the request may not read is not there.
func (a *API) selectionOf(c *gin.Context, params url.Values) (*selection, error) {
	q, err := selectedBy(params)
	if err != nil {
		return nil, err
	}
	s := &selection{Selector: q.Selector}
	named, err := namedBy(params["job"])
	if err != nil {
		return nil, err
	}
	if named, err = s.limit(c, named); err != nil {
		return nil, err
	}
	if len(named) == 0 {
		return s, nil
	}
	s.Jobs = named
	if s.Jobs = a.Jobs.Named(s.Selector); len(s.Jobs) == 0 {
		return nil, errNoJob
	}
	there := a.Jobs.Named(job.Selector{Owner: s.Owner, Jobs: named})
	s.gone = append(s.gone, slices.DeleteFunc(named, func(id job.ID) bool { return slices.Contains(there, id) })...)
	return s, nil
}

func selectedBy(params url.Values) (q job.Query, err error) {
	for _, name := range slices.Sorted(maps.Keys(params)) { // in the same order each time
		set, values := selectionParams[name], params[name]
		switch {
		case slices.Contains(otherParams, name):
			continue
		case set.to == nil:
			return q, job.Problemf("invalid-request", "The events of many jobs have no parameter %q.", clip(name, maxEchoName))
		case len(values) > set.most:
			return q, job.Problemf("invalid-request", "%s: must be there at most %d times", name, set.most)
		}
		for _, v := range values {
			if must := set.to(&q, v); must != "" {
				return q, job.Problemf("invalid-request", "%s: must be %s", name, must)
			}
		}
	}
	return q, nil
}

// namedBy reads job=a,b, however often it is there.
func namedBy(values []string) (ids []job.ID, err error) {
	if len(values) == 0 {
		return nil, nil
	}
	for id := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if !job.ValidID(id) {
			return nil, job.Problemf("invalid-request", "job: must be the id of a job, or some with commas between")
		}
		ids = append(ids, job.ID(id))
	}
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) > maxNamed {
		return nil, job.Problemf("invalid-request", "job: must name at most %d jobs", maxNamed)
	}
	return ids, nil
}

// limit leaves of what is selected what the request's token reads.
func (s *selection) limit(c *gin.Context, named []job.ID) ([]job.ID, error) {
	claims, limited := claimsOf(c)
	if !limited {
		return named, nil
	}
	s.Owner = claims.Owner
	switch {
	case claims.Batch != "" && s.Batch == "":
		s.Batch = claims.Batch
	case claims.Batch != s.Batch && claims.Batch != "":
		return nil, errNoJob
	case claims.Batch == "" && len(named) == 0:
		return []job.ID{claims.Job}, nil
	}
	for _, id := range named {
		if !claims.Reads(id) {
			s.gone = append(s.gone, id)
		}
	}
	rest := slices.DeleteFunc(named, func(id job.ID) bool { return !claims.Reads(id) })
	if len(named) > 0 && len(rest) == 0 {
		return nil, errNoJob
	}
	return rest, nil
}

// findAll looks up jobs. In place of one that is not there, or cannot be read, is a job that
// does not exist.
func (a *API) findAll(ctx context.Context, ids []job.ID) ([]job.Job, error) {
	found := make([]job.Job, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(listReaders)
	for i, id := range ids {
		g.Go(func() (err error) {
			found[i], err = a.find(ctx, id)
			if errors.Is(err, job.ErrNotFound) || errors.Is(err, job.ErrDamaged) {
				found[i], err = job.Job{}, nil
			}
			return err
		})
	}
	return found, g.Wait()
}

// manyStart is a reader of many jobs at the place a request named.
type manyStart struct {
	tape.Capped
	reset string // why the client has to start over; "": it has not
}

// openMany opens the events of the selection at a place, or, if that is none, at the end of
// what is there.
func (a *API) openMany(ctx context.Context, s *selection, at place) (manyStart, error) {
	reason := reasonLatest
	if !at.latest {
		reason = reasonCursor
	}
	if !at.latest && !at.bad {
		r, err := a.Hub.OpenMany(ctx, s.Selector, at.cursor)
		if !errors.Is(err, job.ErrCursor) {
			return manyStart{r, ""}, err
		}
	}
	r, err := a.Hub.OpenMany(ctx, s.Selector, job.Cursor{})
	return manyStart{r, reason}, err
}

// streamMany answers with the events as a stream.
func (a *API) streamMany(c *gin.Context, s *selection, r reading) error {
	if c.Request.Method == http.MethodHead {
		streamHeader(c.Writer.Header(), r)
		return sendNothing(c, http.StatusOK)
	}
	leave, ok := a.enter()
	if !ok {
		return a.refuseReading(c, a.busy())
	}
	defer leave()
	ctx, cancel := whileValid(c.Request.Context(), c)
	defer cancel()
	from, err := a.openMany(ctx, s, r.place)
	switch {
	case errors.Is(err, io.EOF) && r.format != socketType:
		c.Header("Cache-Control", "no-store")
		return sendNothing(c, http.StatusNoContent) // an EventSource stops coming back
	case errors.Is(err, io.EOF):
		from = manyStart{ended{r.place.cursor}, ""}
	case err != nil && c.Request.Context().Err() != nil:
		return err // who left before there was an answer needs none
	case err != nil:
		return a.refuseReading(c, err)
	}
	defer from.Close()
	return a.streamed(c, &job.Job{}, r, func(ctx context.Context, out *session) error {
		out.many = s
		return out.run(ctx, start{from, from.reset})
	})
}

// ended is a reader of what is over and read.
type ended struct{ at job.Cursor }

func (ended) Next(context.Context, <-chan time.Time) (tape.Block, error) { return tape.Block{}, io.EOF }
func (e ended) Cursor() job.Cursor                                       { return e.at }
func (ended) Cap(int)                                                    {}
func (ended) Close()                                                     {}

// manyPage answers with the events there are after the client's cursor, or waits for the
// first one.
func (a *API) manyPage(c *gin.Context, s *selection, r reading, query url.Values) error {
	return a.paged(c, r, query, func(ctx context.Context, p *page, wait *patience) error {
		from, err := a.openMany(ctx, s, r.place)
		if errors.Is(err, io.EOF) {
			return p.end(err)
		}
		if err != nil {
			return err
		}
		defer from.Close()
		if from.reset != "" { // else what is gone would be told on each page, none of which would wait
			for e, err := range a.opening(ctx, s, from.reset, from.Cursor()) {
				switch {
				case err != nil:
					return err
				case placeless(&e):
					p.events = append(p.events, e.AppendAside(nil))
				default:
					p.events = append(p.events, e.AppendJSON(nil))
				}
			}
		}
		p.cursor = from.Cursor().String()
		return p.read(ctx, from, wait)
	})
}

// opening returns the events that a reader is told before those of the log: which of the
// jobs that it named are not there and, if it has to start over, what the others are now. Only
// the last of these has an id, which is that of the place the log is read from: who is
// cut before has to be told again. They are looked up as they are taken, as a thousand of them
// are too much to hold for each reader that is slow.
func (a *API) opening(ctx context.Context, s *selection, reset string, begin job.Cursor) iter.Seq2[job.Event, error] {
	return func(yield func(job.Event, error) bool) {
		for _, id := range s.gone {
			if !yield(aside(&job.Job{ID: id}, job.StreamErased, job.Cursor{}, job.MustData(map[string]job.ID{"job": id})), nil) {
				return
			}
		}
		if reset == "" {
			return
		}
		last, truncated := &job.Job{}, false
		for j, err := range a.snapshots(ctx, s, &truncated) {
			if err != nil {
				yield(job.Event{}, err)
				return
			}
			if last.Exists() && !yield(a.snapshot(last, reset, job.Cursor{}, false)) {
				return
			}
			last = j
		}
		yield(a.snapshot(last, reset, begin, truncated))
	}
}

// placeless reports whether an event of an opening is no place to resume from.
func placeless(e *job.Event) bool { return e.Cursor() == (job.Cursor{}) }

// snapshot returns the event that tells a reader of many jobs what one of them is now; if
// there is none, that there is none.
func (a *API) snapshot(j *job.Job, reason string, at job.Cursor, truncated bool) (job.Event, error) {
	d := resetData{Reason: reason, Truncated: truncated}
	if j.Exists() {
		r := a.represent(j)
		if j.Result != nil {
			r.Result = j.Result.Reference(j.ID)
		}
		d.Job = &r
	}
	data, err := job.JSON(d)
	return aside(j, job.StreamReset, at, data), err
}

// snapshots returns the jobs that are selected as they are now, the newest first: some, if
// there are many, or large ones; then truncated is true in the end.
func (a *API) snapshots(ctx context.Context, s *selection, truncated *bool) iter.Seq2[*job.Job, error] {
	return func(yield func(*job.Job, error) bool) {
		ids := s.Jobs
		if len(ids) == 0 {
			ids, *truncated = a.newest(s)
		}
		size := 0
		for some := range slices.Chunk(ids, listReaders) {
			if size > maxSnapshot {
				*truncated = true
				return
			}
			found, err := a.findAll(ctx, some)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range found {
				j := &found[i]
				if !j.Exists() {
					continue // it has gone since
				}
				size += snapshotSize + len(j.Progress)
				if !yield(j, nil) {
					return
				}
			}
		}
	}
}

// snapshotSize is about what a snapshot takes beside the job's progress.
const snapshotSize = 1 << 10

// newest returns the newest jobs that are selected, and whether there are more.
func (a *API) newest(s *selection) (ids []job.ID, more bool) {
	q := job.Query{Selector: s.Selector, Limit: maxSnapshots}
	for {
		p := a.Jobs.List(q)
		for _, at := range p.Jobs {
			ids = append(ids, at.ID)
		}
		more = p.Next != (job.ListCursor{})
		if q.Limit, q.After = maxSnapshots-len(ids), p.Next; !more || q.Limit == 0 {
			return ids, more
		}
	}
}
