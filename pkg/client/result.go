package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// Result is the result of a job that succeeded. Close its Body.
type Result struct {
	Body io.ReadCloser
	Type string // media type
	Size int64  // -1: not known
	ETag string
}

// ErrNotOver is the error of asking for the result of a job that has none yet.
var ErrNotOver = errors.New("the job is not over yet")

// Result returns the job's result: its exact bytes. The error of a job that
// failed or was canceled is a *job.Problem, that of one not over ErrNotOver.
//
// A download that is cut or falls silent is resumed behind the last byte that was
// read, for as long as Events would try; ctx holds for all of it.
func (c *Client) Result(ctx context.Context, id job.ID) (*Result, error) {
	d := c.download(ctx, func(ctx context.Context) (*http.Request, error) {
		return c.ofJob(ctx, http.MethodGet, nil, id, "result")
	})
	resp, err := d.ask()
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusAccepted {
		_ = d.Close()
		return nil, ErrNotOver
	}
	d.size, d.etag = resp.ContentLength, resp.Header.Get("ETag")
	return &Result{Body: d, Type: resp.Header.Get("Content-Type"), Size: d.size, ETag: d.etag}, nil
}

// stall is how long a download may bring no byte before it is given up: a server
// whose store is busy needs seconds, and a network that lost the connection says
// nothing for ever.
const stall = 30 * time.Second

var (
	errStall   = fmt.Errorf("no byte came for %s", stall)
	errChanged = errors.New("the server cannot go on where the download was cut")
)

// download is bytes with an ETag, over as many connections as it takes.
type download struct {
	*Client
	ctx  context.Context
	what func(context.Context) (*http.Request, error)
	etag string
	size int64 // -1: not known
	at   int64 // so many bytes were read
	pace pace

	body   io.Reader // of the connection; nil: there is none
	hang   func()    // ends the connection
	closed bool      // nobody wants more
}

func (c *Client) download(ctx context.Context, what func(context.Context) (*http.Request, error)) *download {
	return &download{Client: c, ctx: ctx, what: what, pace: newPace(c.patience)}
}

// Read reads on, over the next connection if this one ends early.
func (d *download) Read(p []byte) (int, error) {
	for {
		if d.closed {
			return 0, http.ErrBodyReadAfterClose
		}
		n, err := d.read(p)
		d.at += int64(n)
		switch {
		case n > 0:
			d.pace.good()
			return n, nil // what else there was comes again
		case d.at == d.size, err == io.EOF && d.size < 0:
			return 0, io.EOF
		case err == nil:
			return 0, nil
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		if err := d.again(err); err != nil {
			return 0, err
		}
	}
}

// read reads from the connection, and makes one first if there is none.
func (d *download) read(p []byte) (int, error) {
	if d.body == nil {
		if _, err := d.ask(); err != nil {
			return 0, err
		}
	}
	return d.body.Read(p)
}

// again waits until it is time for the next connection. Its error says why there
// is none.
func (d *download) again(err error) error {
	d.hangUp()
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	if errors.Is(err, errChanged) || !d.resumable() || !d.Passing(err) {
		return err
	}
	wait, ok := d.pace.next(err)
	if !ok {
		return err
	}
	return sleep(d.ctx, wait)
}

// resumable reports whether the bytes have a name by which to ask for the rest of
// the same ones: a weak one (RFC 9110, 13.1.5) may not be used for that.
func (d *download) resumable() bool { return d.etag != "" && !strings.HasPrefix(d.etag, "W/") }

// ask connects, for what was not read yet.
func (d *download) ask() (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(d.ctx)
	dog := time.AfterFunc(stall, func() { cancel(errStall) })
	resp, err := d.get(ctx)
	dog.Stop()
	if err != nil {
		err = cause(ctx, err)
		cancel(nil)
		return nil, err
	}
	d.body = &told{&watched{Reader: resp.Body, dog: dog, silence: stall}, ctx}
	d.hang = func() {
		dog.Stop()
		cancel(nil)
		_ = resp.Body.Close()
	}
	return resp, nil
}

func (d *download) get(ctx context.Context) (*http.Response, error) {
	req, err := d.what(ctx)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity") // a place in what is compressed is another one
	if d.at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.at))
		req.Header.Set("If-Range", d.etag)
	}
	resp, err := d.send(req)
	if err == nil && d.at > 0 && !continues(resp, d.at) {
		_ = resp.Body.Close()
		return nil, errChanged
	}
	return resp, err
}

// continues reports whether resp has the bytes from at on.
func continues(resp *http.Response, at int64) bool {
	return resp.StatusCode == http.StatusPartialContent &&
		strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", at))
}

// Close ends the download.
func (d *download) Close() error {
	d.closed = true
	d.hangUp()
	return nil
}

// hangUp ends the connection, if there is one.
func (d *download) hangUp() {
	if d.body != nil {
		d.hang()
		d.body = nil
	}
}

// told is a body that says why its connection was given up.
type told struct {
	io.Reader
	ctx context.Context
}

func (b *told) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = cause(b.ctx, err)
	}
	return n, err
}
