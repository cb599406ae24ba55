package handlers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/millstream/millstream/pkg/job"
)

// maxKey is how long an Idempotency-Key may be: a UUID many times over.
const maxKey = 255

// idempotencyKey returns the key of a submit; "": it has none. The header is a string of
// RFC 8941 (draft-ietf-httpapi-idempotency-key-header); one without quotes is taken as
// it is, because most clients send it so.
func idempotencyKey(h http.Header) (string, error) {
	values := h.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	key := strings.TrimSpace(values[0])
	if quoted, ok := strings.CutPrefix(key, `"`); ok {
		key, ok = strings.CutSuffix(quoted, `"`)
		if key = unescaped(key); !ok {
			key = ""
		}
	}
	if len(values) > 1 || !validKey(key) {
		return "", job.Problemf("invalid-request", "Idempotency-Key must be there once, with 1 to %d visible characters of ASCII, in quotes or without.", maxKey)
	}
	return key, nil
}

func validKey(key string) bool {
	return key != "" && len(key) <= maxKey && !strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' })
}

// unescaped returns the inside of a string of RFC 8941; "" if that is none.
func unescaped(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return ""
		case s[i] == '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return ""
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// storeOnce stores a job, or finds the one that was stored for the same key: replayed.
func (a *API) storeOnce(ctx context.Context, key string, o *options, r *job.Request) (j job.Job, replayed bool, err error) {
	if r.CancelOnDisconnect { // a sender that goes meanwhile must not leave a job that nobody knows of
		ctx = context.WithoutCancel(ctx)
	}
	if o.large != nil {
		if err := a.upload(ctx, key, o.large, r); err != nil {
			return job.Job{}, false, err
		}
	}
	if key == "" {
		j, err = a.Store.Submit(ctx, job.NewID(), r)
		return j, false, err
	}
	j, replayed, err = a.Store.SubmitOnce(ctx, key, fingerprint(o, r), r)
	if replayed && errors.Is(err, job.ErrNotFound) {
		err = job.Problemf("not-found", "The job of this Idempotency-Key has expired, or was erased.")
	}
	return j, replayed, err
}

// fingerprint stands for what a submit asks for: two with one are the same, whichever
// way they came, and whatever the kind's rules have become between them. White space
// in a JSON input makes no difference.
func fingerprint(o *options, r *job.Request) string {
	input, size := r.Input, int64(len(r.Input))
	switch {
	case r.Upload != nil:
		input, size = []byte(r.Upload.SHA256), r.Upload.Size
	case job.IsJSON(r.InputType):
		input = compact(input)
		size = int64(len(input))
	case size > job.PieceSize: // as if it were an upload, which it is where the kind takes more
		whole := sha256.Sum256(input)
		input = []byte(hex.EncodeToString(whole[:]))
	}
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%s %q %q %s %d %d %d %d %q %q %d %t %q %d ", r.Kind, r.InputType, o.tags, o.level(), o.attempts,
		o.timeout, o.retention, o.start, o.deadline, o.runAt, o.delay, o.leaves, o.retryOf, size)
	if w := o.webhook; w != nil {
		_, _ = fmt.Fprintf(sum, "webhook %q %q ", w.URL, w.Events)
	}
	_, _ = sum.Write(input)
	if r.Call != nil {
		_, _ = sum.Write(job.MustData(steady(r.Call)))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// level returns the name of the priority that was asked for; "": none was.
func (o *options) level() string {
	if o.priority == nil {
		return ""
	}
	return o.priority.String()
}

// fingerprintAll stands for what a batch asks for: its items as they came, but for white
// space, whichever of them are jobs by the kinds' rules of the day.
func fingerprintAll(items []json.RawMessage) string {
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "batch %d ", len(items))
	for _, item := range items {
		item = compact(item)
		_, _ = fmt.Fprintf(sum, "%d ", len(item))
		_, _ = sum.Write(item)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// compact returns JSON without the white space in it, and what is none as it is.
func compact(text []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return text
	}
	return b.Bytes()
}
