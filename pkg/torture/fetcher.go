package torture

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// fetcher wants the bytes of a result: in one piece, or in several, and after a cut what
// is missing yet.
type fetcher struct{ *client }

const (
	// parts is how often, of a hundred times, it asks for a part.
	parts = 40
	// maxPart is less than a result of kindBulk, and more than most others.
	maxPart = 48 << 10
)

// fetch asks until it has all bytes, or knows that there are none.
func (f *fetcher) fetch(id string) {
	f.diary.note(entry{What: fetches, Job: id})
	have := entry{Job: id} // the last piece
	for ok := true; ok; ok = f.again() {
		e := f.part(id, &have)
		f.diary.note(e)
		switch {
		case e.What == missing, e.What == surprise, e.What == fetched:
			return
		case e.What != piece:
			continue
		}
		if have = e; have.end() == have.Size {
			f.diary.note(entry{What: fetched, Job: id, Status: http.StatusOK})
			return
		}
	}
}

// end is where the bytes of the piece end.
func (e *entry) end() int64 { return e.From + int64(len(e.Bytes)) }

// part asks once, for what is behind the piece it has.
func (f *fetcher) part(id string, have *entry) (e entry) {
	ctx, cancel := context.WithTimeout(f.ctx, answerTime)
	defer cancel()
	e = entry{Job: id, Sent: time.Now()}
	resp, err := f.send(ctx, http.MethodGet, "/v1/jobs/"+id+"/result", nil, f.ask(have)...)
	if err != nil {
		e.What, e.Detail = silent, err.Error()
		return e
	}
	defer func() { _ = resp.Body.Close() }()
	e.Status, e.Tag = resp.StatusCode, resp.Header.Get("ETag")
	switch {
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusPartialContent:
		e.What, e.Kind = piece, resp.Header.Get("Content-Type")
		e.take(resp)
	case resp.StatusCode == http.StatusConflict:
		e.What = fetched
	case resp.StatusCode == http.StatusNotFound:
		e.What = missing
	case resp.StatusCode == http.StatusAccepted, mayRefuse(resp.StatusCode):
		e.What = refused
	default:
		e.What, e.Detail = surprise, "an answer to who wants the result: "+resp.Status
	}
	return e
}

// ask returns the headers of the next request.
func (f *fetcher) ask(have *entry) []string {
	headers := []string{"Prefer", longPoll}
	from := have.end()
	if have.Tag != "" {
		headers = append(headers, "If-Range", have.Tag)
	}
	switch {
	case f.chance(parts):
		return append(headers, "Range", fmt.Sprintf("bytes=%d-%d", from, from+1+f.rand.Int64N(maxPart)))
	case from > 0:
		return append(headers, "Range", fmt.Sprintf("bytes=%d-", from))
	}
	return headers
}

// take reads the bytes that come, as far as they do.
func (e *entry) take(resp *http.Response) {
	e.Size = resp.ContentLength
	if e.Status == http.StatusPartialContent {
		var last int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &e.From, &last, &e.Size); err != nil {
			e.What, e.Detail = surprise, "a part of a result is no part: "+resp.Header.Get("Content-Range")
			return
		}
	}
	var err error
	if e.Bytes, err = io.ReadAll(resp.Body); err != nil {
		e.Detail = err.Error()
	}
}
