package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// A batch is many submits in one. What one of them is refused for stands in its place in
// the answer, and harms no other.

func isArray(doc []byte) bool { return bytes.HasPrefix(bytes.TrimLeft(doc, space), []byte("[")) }

// submitArray is submitBatch for a JSON array. In one that is broken nobody knows where
// an element ends, so that it is refused as a whole.
func (a *API) submitArray(c *gin.Context, doc []byte) error {
	if err := validJSON(doc); err != nil {
		return err
	}
	return a.submitBatch(c, elements(doc, job.MaxBatch+1))
}

// linesIn returns the lines of NDJSON that are not empty, but no more than are refused. One
// that is broken is only that item's problem: the next begins with the next line.
func linesIn(doc []byte) (items []json.RawMessage) {
	for line := range bytes.SplitSeq(doc, []byte{'\n'}) {
		if line = bytes.Trim(line, space); len(line) > 0 {
			items = append(items, line)
		}
		if len(items) > job.MaxBatch {
			break
		}
	}
	return items
}

// submitBatch stores the items that are jobs and answers with what became of each.
func (a *API) submitBatch(c *gin.Context, items []json.RawMessage) error {
	key, err := idempotencyKey(c.Request.Header)
	if err == nil {
		err = countable(items)
	}
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	requests, refused := make([]*job.Request, len(items)), make([]error, len(items))
	for i, item := range items {
		requests[i], refused[i] = a.requestOf(ctx, item)
	}
	if ctx.Err() != nil { // what it ended is not the item's fault
		return context.Cause(ctx)
	}
	b, err := a.Store.SubmitAll(ctx, key, fingerprintAll(items), requests)
	if err == nil {
		err = context.Cause(ctx) // nobody reads what became of each
	}
	if err != nil {
		return err
	}
	for i := range b.Outcomes {
		b.Outcomes[i].Err = whyNot(refused[i], b.Outcomes[i].Err)
	}
	return a.answerBatch(c, &b)
}

func countable(items []json.RawMessage) error {
	switch {
	case len(items) == 0:
		return invalid("", "The batch has no jobs.")
	case len(items) > job.MaxBatch:
		return job.Problemf("too-large", "A batch has at most %d jobs.", job.MaxBatch)
	}
	return nil
}

// errGone is the problem of a job that a repeat of its batch does not find any more.
var errGone error = job.Problemf("not-found", "It was stored, and is no longer kept.")

// whyNot returns why an item is no job: by us, or by the log.
func whyNot(refused, stored error) error {
	switch {
	case refused != nil:
		return refused
	case errors.Is(stored, job.ErrNotFound):
		return errGone
	}
	return stored
}

// requestOf returns the request that an item is.
func (a *API) requestOf(ctx context.Context, item json.RawMessage) (*job.Request, error) {
	switch {
	case !utf8.Valid(item):
		return nil, invalid("", "is not UTF-8")
	case !json.Valid(item):
		return nil, invalid("", "is not JSON: %v", json.Unmarshal(item, new(json.RawMessage)))
	}
	s, err := parseSubmission(item)
	if err != nil {
		return nil, err
	}
	k, r, err := a.requested(s)
	switch {
	case err != nil:
		return nil, err
	case r.CancelOnDisconnect:
		return nil, invalid("/cancel_on_disconnect", "is for a job that is submitted alone: the answer to a batch is not waited for")
	}
	if err := a.takes(ctx, k, r.Input, "/input"); err != nil {
		return nil, err
	}
	return r, nil
}

// batchAnswer is the answer to a batch. It is the same whatever was preferred: nobody
// waits for all of its jobs, and their events are read one by one.
type batchAnswer struct {
	Batch string `json:"batch"`
	Token string `json:"token"` // reads every job of the batch
	Jobs  []any  `json:"jobs"`  // a representation or an itemProblem for each, in their order
}

// itemProblem says why an item is no job.
type itemProblem struct {
	*job.Problem
	RetryAfter int `json:"retry_after,omitempty"` // seconds, as the header of that name
}

func (a *API) answerBatch(c *gin.Context, b *job.Batch) error {
	if b.Replayed {
		c.Header("Idempotency-Replayed", "true")
	}
	problems := a.problemsOf(b)
	answer, stored := a.tell(b, problems)
	if len(stored) == 0 {
		return noneStored(b, problems)
	}
	answer.Token = a.Tokens.MintBatch(b.ID, stored[0].Owner, lastExpiry(stored))
	body, err := job.JSON(answer)
	if err != nil {
		return err
	}
	p := preferencesOf(c.Request.Header)
	p.waits = false
	p.applied(c, false)
	private(c)
	c.Header("Location", "/v1/jobs?batch="+b.ID)
	c.Header("Retry-After", pollAfter)
	return send(c, http.StatusAccepted, jsonType, body)
}

// tell returns the answer, but for its token, and the jobs in it.
func (a *API) tell(b *job.Batch, problems []*job.Problem) (answer batchAnswer, stored []*job.Job) {
	answer.Batch, answer.Jobs = b.ID, make([]any, len(problems))
	for i, p := range problems {
		if p != nil {
			answer.Jobs[i] = itemOf(p)
			continue
		}
		j := &b.Outcomes[i].Job
		stored = append(stored, j)
		answer.Jobs[i] = a.representListed(j)
	}
	return answer, stored
}

// lastExpiry returns when the last of the jobs expires; zero: that is not known yet.
func lastExpiry(jobs []*job.Job) (last time.Time) {
	for _, j := range jobs {
		if j.ExpiresAt.IsZero() {
			return time.Time{}
		}
		if j.ExpiresAt.After(last) {
			last = j.ExpiresAt
		}
	}
	return last
}

// problemsOf returns the problems of the items that are no jobs, with pointers that begin
// with the item's place. What is no problem of ours is logged, in one line.
func (a *API) problemsOf(b *job.Batch) []*job.Problem {
	problems := make([]*job.Problem, len(b.Outcomes))
	var internal []error
	for i, o := range b.Outcomes {
		if o.Err == nil {
			continue
		}
		p, ours := problemOf(o.Err)
		if !ours {
			internal = append(internal, o.Err)
		}
		problems[i] = under("/"+strconv.Itoa(i), p)
	}
	if len(internal) > 0 {
		a.Log.Error("jobs of a batch not stored", zap.Int("jobs", len(internal)), zap.Error(internal[0]))
	}
	return problems
}

// maxItemErrors is how much is said of one item: who has more to mend will ask again.
const maxItemErrors = 8

// under returns the problem of an item that stands at a pointer.
func under(at string, p *job.Problem) *job.Problem {
	c := *p
	c.Errors = nil
	for _, e := range p.Errors[:min(len(p.Errors), maxItemErrors)] {
		c.Errors = append(c.Errors, job.FieldError{Pointer: at + e.Pointer, Detail: e.Detail})
	}
	return &c
}

func itemOf(p *job.Problem) itemProblem {
	if comesBack(p) {
		return itemProblem{p, retryAfter(p)}
	}
	return itemProblem{p, 0}
}

// noneStored returns the problem of a batch of which there is no job, with what each of its
// items was refused for.
func noneStored(b *job.Batch, problems []*job.Problem) error {
	whole := wholeOf(b, problems)
	whole.Errors = nil
	for i, p := range problems {
		whole.Errors = append(whole.Errors, p.Errors...)
		if len(p.Errors) == 0 {
			whole.Errors = append(whole.Errors, job.FieldError{Pointer: "/" + strconv.Itoa(i), Detail: p.Error()})
		}
	}
	return &whole
}

// wholeOf returns the problem that counts: if time may mend one, the batch may be sent
// again as it is, and 422 would say that it has to be changed.
func wholeOf(b *job.Batch, problems []*job.Problem) job.Problem {
	for _, p := range problems {
		if p.Status >= http.StatusInternalServerError {
			return *p
		}
	}
	for i, o := range b.Outcomes {
		if o.Err == errGone {
			return *problems[i]
		}
	}
	return *job.Problemf("invalid-batch", "Of %d jobs none can be stored.", len(problems))
}
