package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// submit answers POST /v1/jobs: one job, as an object that holds its kind, its
// input and its options, or many (batch.go).
func (a *API) submit(c *gin.Context) error {
	if err := optionsElsewhere(c.Request); err != nil {
		return err
	}
	lines := mediaTypeOf(c) == ndjsonType
	if !lines && !job.IsJSON(c.GetHeader("Content-Type")) {
		c.Header("Accept", jsonType+", "+ndjsonType)
		return job.Problemf("unsupported-type", "Send it with Content-Type: %s, or a batch with %s.", jsonType, ndjsonType)
	}
	doc, err := body(c, a.Body)
	switch {
	case err != nil:
		return err
	case lines:
		return a.submitBatch(c, linesIn(doc))
	case isArray(doc):
		return a.submitArray(c, doc)
	}
	return a.submitOne(c, doc)
}

func mediaTypeOf(c *gin.Context) string {
	t, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type")) // what does not parse is no type we take
	return t
}

func (a *API) submitOne(c *gin.Context, doc []byte) error {
	s, err := parseSubmission(doc)
	if err != nil {
		return err
	}
	k, r, err := a.requested(s)
	if err != nil {
		return err
	}
	return a.store(c, k, &s.options, r, "/input")
}

// requested returns what a submission asks for, and of which kind it is.
func (a *API) requested(s *submission) (*kind, *job.Request, error) {
	k, err := a.submittable(s.kind)
	if err != nil {
		return nil, nil, err
	}
	r, err := s.request(k)
	if err == nil {
		err = a.sendable(r)
	}
	return k, r, err
}

// optionNames are the options of a raw submit by their names in a query, and
// optionHeaders by those of their headers, in the form that a request has them in.
var (
	optionNames   = slices.Concat(known, unserved, []string{"tag"})
	optionHeaders = func() (names []string) {
		for _, name := range optionNames {
			names = append(names, http.CanonicalHeaderKey(headerOf(name)))
		}
		return names
	}()
)

// optionsElsewhere fails on options where those of a raw submit stand: here they would
// be ignored.
func optionsElsewhere(r *http.Request) error {
	query := queryOf(r)
	for i, name := range optionNames {
		if query.Has(name) || r.Header.Get(optionHeaders[i]) != "" {
			return job.Problemf("invalid-request", "%s: options of this request are members of its body, not in the query or in headers", name)
		}
	}
	return nil
}

// submission is the body of a submit.
type submission struct {
	kind  string
	input json.RawMessage
	options
}

func parseSubmission(doc []byte) (*submission, error) {
	if err := checkJSON(doc); err != nil {
		return nil, err
	}
	if bytes.TrimLeft(doc, space)[0] != '{' {
		return nil, invalid("", "must be an object")
	}
	s := new(submission)
	for name, raw := range members(doc) {
		if err := s.member(name, raw); err != nil {
			return nil, err
		}
	}
	if s.kind == "" {
		return nil, invalid("/kind", "is required")
	}
	return s, nil
}

// member sets what the member of an object says.
func (s *submission) member(name string, raw json.RawMessage) error {
	if err := checkName(name); err != nil {
		return err
	}
	switch name {
	case "input":
		s.input = raw
		return nil
	case "kind":
		if json.Unmarshal(raw, &s.kind) != nil {
			return invalid("/kind", "must be a string")
		}
		return nil
	}
	if slices.Contains(unserved, name) && string(raw) != "null" {
		return notServed("/" + name)
	}
	return s.setJSON(name, raw)
}

// memberNames are the members of a submit that some version of the API knows.
var memberNames = append([]string{"kind", "input"}, slices.Concat(known, unserved)...)

// checkName fails on a member that no version of the API knows. Names are
// compared as they are: a parser that takes KIND for kind would be one that
// another parser before it disagrees with.
func checkName(name string) error {
	if slices.Contains(memberNames, name) {
		return nil
	}
	for _, n := range memberNames {
		if strings.EqualFold(n, name) {
			return invalid("/"+escape(name), "is not known; its name is %s", n)
		}
	}
	return invalid("/"+escape(name), "is not known")
}

// request returns the request to store.
func (s *submission) request(k *kind) (*job.Request, error) {
	if s.input == nil {
		return nil, invalid("/input", "is required; null is fine")
	}
	r, err := s.options.request(k)
	if err != nil {
		return nil, err
	}
	r.Input, r.InputType = s.input, jsonType
	return r, nil
}

// kindNamed returns a kind that is served.
func (a *API) kindNamed(name string) (*kind, error) {
	if k := a.kinds[name]; k != nil {
		return k, nil
	}
	return nil, job.Problemf("not-found", "There is no kind of this name; GET /v1/kinds lists those there are.")
}

// submittable returns a kind that jobs can be submitted to by its name.
func (a *API) submittable(name string) (*kind, error) {
	k, err := a.kindNamed(name)
	if err == nil && k.route != nil {
		return nil, job.Problemf("invalid-request", "%s is a route: send the request itself to %s, with Prefer: respond-async.", name, k.route.Path)
	}
	return k, err
}

// store stores a job and answers with it, as its sender prefers: at once, when it
// is over, or as a stream of its events. A sender that leaves does not stop it.
func (a *API) store(c *gin.Context, k *kind, o *options, r *job.Request, at string) error {
	key, err := idempotencyKey(c.Request.Header)
	if err != nil {
		return err
	}
	if o.large == nil {
		if err := a.takes(c.Request.Context(), k, r.Input, at); err != nil {
			return err
		}
	}
	streamed := negotiate(c.Request.Header, jsonType, sseType) == sseType
	if r.CancelOnDisconnect && !streamed && preferencesOf(c.Request.Header).wait <= 0 {
		return errNoSender
	}
	if streamed {
		leave, ok := a.enter() // before there is a job that could not be shown
		if !ok {
			return a.busy()
		}
		defer leave()
	}
	j, replayed, err := a.storeOnce(c.Request.Context(), key, o, r)
	if replayed {
		c.Header("Idempotency-Replayed", "true")
	}
	if err != nil {
		return err
	}
	links := linksOf(j.ID)
	c.Header("Location", links.Self)
	c.Header("Link", "<"+links.Events+`>; rel="monitor"`)
	answer := func() error { return a.answer(c, j) }
	if streamed {
		c.Header("Millstream-Token", a.Tokens.Mint(j.ID, j.Owner, j.ExpiresAt))
		answer = func() error { return a.streamNew(c, j) }
	}
	if r.CancelOnDisconnect {
		return a.untilSenderLeaves(c, j.ID, answer)
	}
	return answer()
}

// takes fails on an input that the kind does not take; see fits.
func (a *API) takes(ctx context.Context, k *kind, input []byte, at string) error {
	if int64(len(input)) > k.MaxInput {
		return tooLarge(k.MaxInput)
	}
	return a.fits(ctx, k, input, at)
}

// answer answers a submit with the job, which it waits for if asked to.
func (a *API) answer(c *gin.Context, j job.Job) error {
	p := preferencesOf(c.Request.Header)
	j, ok := a.awaitEnd(c, j, p.wait)
	p.waits = p.waits && ok
	p.applied(c, j.Status.Over())
	c.Writer.Header().Add("Vary", "Prefer")
	status := http.StatusOK
	if !j.Status.Over() {
		status = http.StatusAccepted
		c.Header("Retry-After", pollAfter)
	}
	return a.sendJob(c, status, &j, a.Tokens.Mint(j.ID, j.Owner, j.ExpiresAt))
}
