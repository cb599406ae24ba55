package handlers

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/access"
	"github.com/millstream/millstream/pkg/job"
)

// Limits of what a pull worker may ask for.
const (
	maxLeases    = 16      // a few for each core of a worker; who wants more asks again
	maxLeaseBody = 4 << 10 // sixteen names of kinds, and that of the worker
	maxWorker    = 64      // bytes, as for the names of kinds
)

// lease answers POST /v1/leases: work of the named kinds, or 204 if there is none, with
// Prefer: wait=n not before that many seconds.
func (a *API) lease(c *gin.Context) error {
	w, err := leaseWanted(c)
	if err != nil {
		return err
	}
	if err := a.pullKinds(w.kinds); err != nil {
		return err
	}
	p := preferencesOf(c.Request.Header)
	leave, ok := a.enter()
	if !ok {
		return a.busy()
	}
	defer leave()
	leases, err := a.Desk.Lease(c.Request.Context(), p.wait, w.worker, w.most, w.kinds...)
	if err != nil {
		return err
	}
	p.applied(c, true)
	c.Header("Cache-Control", "no-store")
	if len(leases) == 0 {
		return sendNothing(c, http.StatusNoContent)
	}
	b, err := job.JSON(map[string]any{"leases": a.leaseViews(leases, w.worker)})
	if err != nil {
		return err
	}
	return send(c, http.StatusOK, jsonType, b)
}

// wanted is the body of a request for leases.
type wanted struct {
	kinds  []string
	most   int
	worker string
}

func leaseWanted(c *gin.Context) (w wanted, err error) {
	if err := needJSON(c); err != nil {
		return w, err
	}
	doc, err := body(c, maxLeaseBody)
	if err != nil {
		return w, err
	}
	if err := checkJSON(doc); err != nil {
		return w, err
	}
	var members map[string]json.RawMessage // a map, as the fields of a struct match any case
	if json.Unmarshal(doc, &members) != nil || members == nil {
		return w, invalid("", "The body must be an object.")
	}
	w.most = 1
	for name, raw := range members {
		if err := w.member(name, raw); err != nil {
			return w, err
		}
	}
	if w.kinds == nil {
		return w, invalid("/kinds", "is required")
	}
	return w, nil
}

func (w *wanted) member(name string, raw json.RawMessage) error {
	switch name {
	case "kinds":
		if json.Unmarshal(raw, &w.kinds) != nil || len(w.kinds) == 0 || len(w.kinds) > maxLeases {
			return invalid("/kinds", "must be an array of 1 to %d strings", maxLeases)
		}
	case "max":
		if json.Unmarshal(raw, &w.most) != nil || w.most < 1 || w.most > maxLeases {
			return invalid("/max", "must be a number from 1 to %d", maxLeases)
		}
	case "worker":
		if json.Unmarshal(raw, &w.worker) != nil || !validWorker(w.worker) {
			return invalid("/worker", "must be a string of 1 to %d bytes without control characters", maxWorker)
		}
	default:
		return invalid("/"+escape(name), "is not known")
	}
	return nil
}

func validWorker(s string) bool {
	return s != "" && len(s) <= maxWorker && utf8.ValidString(s) &&
		!strings.ContainsRune(s, utf8.RuneError) && !strings.ContainsFunc(s, unicode.IsControl)
}

// pullKinds fails on a kind whose work is not given away.
func (a *API) pullKinds(names []string) error {
	for i, name := range names {
		if k := a.kinds[name]; k == nil || k.Lease <= 0 {
			p := job.Problemf("not-found", "There is no kind %q that workers pull; GET /v1/kinds lists those there are.", clip(name, maxEchoName))
			p.Errors = []job.FieldError{{Pointer: "/kinds/" + strconv.Itoa(i), Detail: p.Detail}}
			return p
		}
	}
	return nil
}

// leaseView is a lease as its worker sees it.
type leaseView struct {
	Lease      string          `json:"lease"`
	ExpiresAt  job.Time        `json:"expires_at"`
	TimeoutAt  job.Time        `json:"timeout_at"`
	Job        leasedJob       `json:"job"`
	Checkpoint json.RawMessage `json:"checkpoint"`
}

type leasedJob struct {
	representation
	Input     any    `json:"input"`
	InputType string `json:"input_type"`
}

func (a *API) leaseViews(leases []job.Lease, worker string) []leaseView {
	views := make([]leaseView, len(leases))
	for i := range leases {
		l := &leases[i]
		life := time.Until(l.Expires)
		token := a.Tokens.MintLease(access.Lease{
			Job: l.Job.ID, Seq: l.Job.Lease, Kind: l.Job.Kind, Worker: worker, Expires: l.Until.Add(life),
		})
		views[i] = leaseView{
			Lease: token, ExpiresAt: job.Time(l.Expires), TimeoutAt: job.Time(l.Until),
			Job: leasedJob{a.represent(&l.Job), inputOf(l, token), l.InputType}, Checkpoint: l.Job.Checkpoint,
		}
	}
	return views
}

// inputBytes is an input that is neither JSON nor text.
type inputBytes struct {
	Base64 string `json:"base64"`
	Type   string `json:"type"`
}

// inputElsewhere is an input that is too large to be told here.
type inputElsewhere struct {
	Href   string `json:"href"`
	Size   int64  `json:"size"`
	Type   string `json:"type"`
	SHA256 string `json:"sha256"`
}

// inputOf returns the input as JSON can tell it: JSON as it is, text as a string, and of a
// large one where it is.
func inputOf(l *job.Lease, token string) any {
	t, _, _ := mime.ParseMediaType(l.InputType)
	switch u := l.Upload; {
	case u != nil:
		return inputElsewhere{"/v1/leases/" + token + "/input", u.Size, l.InputType, u.SHA256}
	case job.IsJSON(l.InputType) && json.Valid(l.Input):
		return json.RawMessage(l.Input)
	case strings.HasPrefix(t, "text/") && utf8.Valid(l.Input):
		return string(l.Input)
	}
	return inputBytes{base64.StdEncoding.EncodeToString(l.Input), l.InputType}
}
