package handlers

import (
	"bytes"
	"context"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// maxUploads is how many large inputs are taken in at once. Of each, a piece is held in
// memory, so this is 128 MiB; and whoever sends one may be slow, so that fewer would be taken
// by a few phones.
const maxUploads = 256

// input reads the body as the input of r. One that is too large to be held in memory is
// returned, to be stored while it is read, once nothing else speaks against the job.
func (a *API) input(c *gin.Context, k *kind, r *job.Request) (large io.Reader, err error) {
	if k.MaxInput <= a.Body || job.IsJSON(r.InputType) { // JSON is checked as a whole
		r.Input, err = body(c, min(a.Body, k.MaxInput))
		return nil, err
	}
	if err := expected(c, k.MaxInput); err != nil {
		return nil, err
	}
	return a.anyInput(c, k, r)
}

// anyInput is input for a body of which nothing need be known.
func (a *API) anyInput(c *gin.Context, k *kind, r *job.Request) (large io.Reader, err error) {
	if c.Request.ContentLength > k.MaxInput {
		return nil, tooLarge(k.MaxInput)
	}
	from := told{http.MaxBytesReader(c.Writer, c.Request.Body, k.MaxInput), func(err error) error { return unreadable(c, k.MaxInput, err) }}
	if c.Request.ContentLength > job.PieceSize { // nothing of it is asked for before it is known that there is room
		return from, nil
	}
	front, err := io.ReadAll(io.LimitReader(from, job.PieceSize+1))
	if err != nil || len(front) <= job.PieceSize {
		r.Input = front
		return nil, err
	}
	return io.MultiReader(bytes.NewReader(front), from), nil
}

// told is a reader whose error is told in other words.
type told struct {
	io.Reader
	say func(error) error
}

// Read reads on.
func (r told) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = r.say(err)
	}
	return n, err
}

// upload stores a large input for the next submit of r, with a key or "".
func (a *API) upload(ctx context.Context, key string, large io.Reader, r *job.Request) (err error) {
	if a.uploads.Add(1) > maxUploads {
		a.uploads.Add(-1)
		p := job.Problemf("rate-limited", "Too many large inputs are coming in.")
		p.RetryAfter = between(minRetry, maxRetry)
		return p
	}
	defer a.uploads.Add(-1)
	if key == "" {
		r.Upload, err = a.Store.Upload(ctx, r.Kind, large)
	} else {
		r.Upload, err = a.Store.UploadOnce(ctx, r.Owner, key, r.Kind, large)
	}
	return err
}
