package handlers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// leasedInput answers GET /v1/leases/{lease}/input: the input of the attempt, byte for byte,
// whole or in ranges, for as long as the worker has it.
func (a *API) leasedInput(c *gin.Context) error {
	named, err := a.leaseNamed(c)
	if err != nil {
		return err
	}
	l, err := a.Desk.Leased(c.Request.Context(), named.Job, named.Seq)
	switch {
	case errors.Is(err, job.ErrLeaseLost):
		return leaseLost()
	case err != nil:
		return err
	}
	what := content{job: named.Job, mediaType: l.InputType, changed: l.Job.CreatedAt}
	if u := l.Upload; u != nil {
		what.sha256, what.size = u.SHA256, u.Size
		input := a.Store.OpenUpload(c.Request.Context(), u)
		defer input.Close()
		return a.sendContent(c, what, input)
	}
	sum := sha256.Sum256(l.Input)
	what.sha256, what.size = hex.EncodeToString(sum[:]), int64(len(l.Input))
	return a.sendContent(c, what, held{bytes.NewReader(l.Input)})
}

// held are bytes in memory.
type held struct{ io.ReadSeeker }

// Close does nothing.
func (held) Close() error { return nil }
