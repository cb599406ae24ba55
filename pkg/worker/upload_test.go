//go:build unix

package worker_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// upload is a large input, which is read as long as its reads succeed.
type upload struct {
	body   string
	sound  int // bytes that can be read; -1: all
	opened atomic.Int32
	closed atomic.Int32
}

var errBroken = func() error {
	p := job.Problemf("job-damaged", "a piece is gone")
	return p
}()

func (u *upload) open(context.Context) (io.ReadCloser, error) {
	u.opened.Add(1)
	var r io.Reader = strings.NewReader(u.body)
	if u.sound >= 0 {
		r = io.MultiReader(strings.NewReader(u.body[:u.sound]), iotest.ErrReader(errBroken))
	}
	return closing{r, &u.closed}, nil
}

type closing struct {
	io.Reader
	n *atomic.Int32
}

func (c closing) Close() error {
	c.n.Add(1)
	return nil
}

func (s *sink) large(u *upload) worker.Attempt {
	a := s.attempt("")
	a.Input, a.Upload, a.Open = nil, &job.Upload{Size: int64(len(u.body))}, u.open
	return a
}

var someInput = strings.Repeat("0123456789abcdef", 1<<17)

// requireClosed waits until what was opened is closed: net/http may close a body behind the answer.
func (u *upload) requireClosed(t *testing.T) {
	require.Eventually(t, func() bool { return u.opened.Load() == u.closed.Load() }, time.Minute, time.Millisecond)
}

// Every sort of work gets a large input whole, and what was opened is closed.
func TestUpload(t *testing.T) {
	url, _ := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, int64(len(someInput)), r.ContentLength)
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.True(t, string(body) == someInput)
		answer("text/plain", "ok")(w, r)
	})
	e := helper("cat")
	e.Stdout = worker.StdoutResult
	for name, fn := range map[string]worker.Func{
		"exec": e.Func(),
		"http": worker.HTTP{URL: url}.Func(),
		"func": func(_ context.Context, t *worker.Task) (any, error) {
			if n := t.InputSize(); n != int64(len(someInput)) {
				return nil, errors.New("another size")
			}
			for range 2 { // it is read once
				if !bytes.Equal(t.Input(), []byte(someInput)) {
					return nil, errors.New("another input")
				}
			}
			return nil, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s sink
			u := &upload{body: someInput, sound: -1}
			_, err := s.runAttempt(t, fn, s.large(u), worker.Options{})
			require.NoError(t, err)
			require.EqualValues(t, 1, u.opened.Load())
			u.requireClosed(t)
			if name == "exec" {
				require.True(t, strings.HasPrefix(someInput, string(bytes.Join(s.pieces, nil))))
			}
		})
	}
}

// Work that got half of its input has not succeeded, whatever it says.
func TestUploadThatCannotBeRead(t *testing.T) {
	url, _ := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answer("text/plain", "ok")(w, r)
	})
	for name, fn := range map[string]worker.Func{
		"exec":       helper("cat").Func(),
		"exec, deaf": worker.Exec{Command: []string{"sleep", "600"}}.Func(),
		"http":       worker.HTTP{URL: url}.Func(),
		"http again": worker.HTTP{URL: url, Idempotent: true}.Func(),
		"func":       func(_ context.Context, t *worker.Task) (any, error) { return len(t.Input()), nil },
		"func, bind": func(_ context.Context, t *worker.Task) (any, error) { return nil, t.Bind(new(any)) },
	} {
		for _, sound := range []int{0, 1 << 20} {
			t.Run(name, func(t *testing.T) {
				var s sink
				u := &upload{body: someInput, sound: sound}
				if name == "exec, deaf" && sound > 0 {
					return // it reads nothing, so that nobody comes to the fault
				}
				_, err := s.runAttempt(t, fn, s.large(u), worker.Options{})
				requireProblem(t, err, "job-damaged", false)
				u.requireClosed(t)
			})
		}
	}
}
