package handlers

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/sync/errgroup"

	"github.com/millstream/millstream/pkg/job"
)

const (
	defaultList  = 20      // jobs of a page: a screenful
	maxList      = 100     // each is read from the store by itself
	listReaders  = 16      // of them at once: enough to hide the store's answers behind each other
	maxListKinds = 16      // as many as a worker may ask for; each is held against each job
	maxListed    = 1 << 10 // bytes of a result that stands in a list; most are looked at by nobody
	maxListPage  = 1 << 20 // bytes after which a page takes no more jobs
)

// list answers GET /v1/jobs: the jobs that the query asks for, newest first.
func (a *API) list(c *gin.Context) error {
	q, err := listQuery(queryOf(c.Request))
	if err != nil {
		return err
	}
	if claims, ok := claimsOf(c); ok {
		q.Owner = claims.Owner
	}
	b, err := a.listPage(c.Request.Context(), &q)
	if err != nil {
		return err
	}
	c.Header("Cache-Control", "no-store") // another moment's is another list
	return send(c, http.StatusOK, jsonType, b)
}

// listQuery reads what a list is to have.
func listQuery(params url.Values) (q job.Query, err error) {
	q.Limit = defaultList
	for _, name := range slices.Sorted(maps.Keys(params)) { // in the same order each time
		set, values := listParams[name], params[name]
		switch {
		case name == "access_token":
			continue
		case set.to == nil:
			return q, job.Problemf("invalid-request", "A list has no parameter %q.", clip(name, maxEchoName))
		case len(values) > set.most && set.most == 1:
			return q, job.Problemf("invalid-request", "%s: is there twice", name)
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

// listParam is one of the parameters of a list: how many of it there may be, and what
// sets a query to one. That returns what a value must be, if it is not.
type listParam struct {
	most int
	to   func(q *job.Query, v string) (must string)
}

var listParams = map[string]listParam{
	"status":         {5, toStatus},
	"kind":           {maxListKinds, toKind},
	"tag":            {maxTags, toTag},
	"batch":          {1, toBatch},
	"created_after":  {1, func(q *job.Query, v string) string { return toTime(&q.Since, v) }},
	"created_before": {1, func(q *job.Query, v string) string { return toTime(&q.Before, v) }},
	"limit":          {1, toLimit},
	"cursor":         {1, toCursor},
}

func toStatus(q *job.Query, v string) string {
	s := job.Status(v)
	if s != job.StatusQueued && s != job.StatusRunning && !s.Over() {
		return "queued, running, succeeded, failed or canceled"
	}
	q.Statuses = append(q.Statuses, s)
	return ""
}

func toKind(q *job.Query, v string) string {
	if !job.ValidKind(v) {
		return "the name of a kind"
	}
	q.Kinds = append(q.Kinds, v)
	return ""
}

func toTag(q *job.Query, v string) string {
	if !validTag(v) {
		return "1 to " + strconv.Itoa(maxTag) + " bytes of UTF-8 without control characters"
	}
	q.Tags = append(q.Tags, v)
	return ""
}

func toBatch(q *job.Query, v string) string {
	if !job.ValidBatchID(v) {
		return "the id of a batch"
	}
	q.Batch = v
	return ""
}

func toTime(t *time.Time, v string) (must string) {
	at, err := time.Parse(time.RFC3339, v)
	switch {
	case err != nil && strings.Contains(v, " "):
		return "a time such as 2026-11-22T10:00:00Z; a + in it is written %2B"
	case err != nil:
		return "a time such as 2026-11-22T10:00:00Z"
	}
	*t = somewhen(at)
	return ""
}

func toLimit(q *job.Query, v string) (must string) {
	if v == "" {
		return ""
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxList {
		return "a number from 1 to " + strconv.Itoa(maxList)
	}
	q.Limit = n
	return ""
}

// toCursor takes an empty one for the beginning, as it is convenient in a loop.
func toCursor(q *job.Query, v string) (must string) {
	var err error
	if v == "" {
		return ""
	}
	if q.After, err = job.ParseListCursor(v); err != nil {
		return "the cursor of an earlier answer"
	}
	return ""
}

// listPage returns the page of a query as JSON.
func (a *API) listPage(ctx context.Context, q *job.Query) ([]byte, error) {
	found := a.Jobs.List(*q)
	var l listing
	for some := range slices.Chunk(found.Jobs, listReaders) {
		views, err := a.listed(ctx, q, some)
		if err != nil {
			return nil, err
		}
		if !l.take(some, views) {
			return l.json(l.at), nil
		}
	}
	return l.json(found.Next), nil
}

// listing is a page that is put together.
type listing struct {
	jobs [][]byte
	size int
	at   job.ListCursor // the last one that was taken, or left out
}

// take puts jobs on the page, and reports whether there was room for all.
func (l *listing) take(found []job.ListCursor, views [][]byte) (all bool) {
	for i, view := range views {
		if l.size >= maxListPage {
			return false
		}
		l.at = found[i]
		if view != nil {
			l.jobs = append(l.jobs, view)
			l.size += len(view)
		}
	}
	return true
}

// json returns the page, with the cursor of the next one.
func (l *listing) json(next job.ListCursor) []byte {
	b := append(make([]byte, 0, l.size+256), `{"jobs":[`...)
	b = append(b, bytes.Join(l.jobs, []byte{','})...)
	b = append(b, `],"cursor":`...)
	if text := next.String(); text != "" {
		b = strconv.AppendQuote(b, text)
	} else {
		b = append(b, "null"...)
	}
	return append(b, '}')
}

// listed reads jobs that the index has found, and returns them as clients see them. One
// that has gone meanwhile, has another status by now or is damaged is left out.
func (a *API) listed(ctx context.Context, q *job.Query, found []job.ListCursor) ([][]byte, error) {
	views := make([][]byte, len(found))
	g, ctx := errgroup.WithContext(ctx)
	for i, f := range found {
		g.Go(func() error {
			j, err := a.find(ctx, f.ID)
			switch {
			case errors.Is(err, job.ErrNotFound), errors.Is(err, job.ErrDamaged):
				return nil
			case err != nil:
				return err
			case q.WithStatus(j.Status):
				views[i], err = job.JSON(a.representListed(&j))
			}
			return err
		})
	}
	return views, g.Wait()
}

// representListed returns the job as a list shows it: with a result that is not small by
// reference.
func (a *API) representListed(j *job.Job) representation {
	r := a.represent(j)
	if j.Result != nil && len(r.Result) > maxListed {
		r.Result = j.Result.Reference(j.ID)
	}
	return r
}
