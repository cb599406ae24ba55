package torture

import (
	"context"
	"io"
	"net/http"
	"path"
	"strings"
)

// streamed is how often, of a hundred jobs, one is submitted and read by one request.
const streamed = 20

// stream submits a job once, and has the first reader read what comes as the answer, which
// is its events, as far as it goes; not ok: nothing is known of it.
func (b *submitter) stream(o order) (id string, ok bool) {
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	e := o.entry()
	e.By = strings.TrimSpace(e.By + " stream")
	resp, err := b.send(ctx, http.MethodPost, o.path(), o.body(),
		append(keyHeader(o.key), "Content-Type", "application/json", "Accept", "text/event-stream")...)
	if err != nil {
		e.What, e.Detail = silent, err.Error()
		b.diary.note(e)
		return "", false
	}
	defer func() { _ = resp.Body.Close() }()
	e.Status = resp.StatusCode
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		e.What, e.Detail = refusal(resp.StatusCode), string(text)
		b.diary.note(e)
		return "", false
	}
	e.What, e.Job = accepted, path.Base(resp.Header.Get("Location"))
	b.diary.note(e)
	b.count()
	b.readers[0].first(e.Job, resp)
	return e.Job, true
}

// refusal is what an answer is that names no job.
func refusal(status int) what {
	if mayRefuse(status) {
		return refused
	}
	return surprise
}

// submitWay is the way of events that come as the answer to a submit.
const submitWay = "submit"

// first reads the events that came as the answer to a submit.
func (r *reader) first(id string, resp *http.Response) {
	r.begin(id)
	r.diary.note(entry{What: opened, Job: id, By: submitWay, Status: resp.StatusCode})
	r.broke(r.readStream(resp))
}
