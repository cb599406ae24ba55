package handlers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A body that does not come is not waited for for ever: neither one that is read
// nor one that is refused.
func TestSlowSender(t *testing.T) {
	for name, tc := range map[string]struct {
		head   string
		status string
		took   time.Duration
	}{
		"read":           {"POST /v1/jobs HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n", "400", bodyIdle},
		"chunked":        {"POST /v1/kinds/report/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", "400", bodyIdle},
		"refused":        {"POST /v1/kinds/nope/jobs HTTP/1.1\r\nContent-Length: 1000\r\n", "404", bodyIdle},
		"no such method": {"DELETE /v1/jobs HTTP/1.1\r\nContent-Length: 1000\r\n", "405", bodyIdle},
		"GET":            {"GET /v1/kinds HTTP/1.1\r\nContent-Length: 1000\r\n", "400", bodyIdle},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				conn, err := s.wire.dial(context.Background(), "", "")
				require.NoError(t, err)
				begin := time.Now()
				_, err = io.WriteString(conn, tc.head+"Host: localhost\r\n\r\n1\r\n{\r\n")
				require.NoError(t, err)
				var sender sync.WaitGroup
				sender.Go(func() {
					for err := error(nil); err == nil; { // a byte each second
						time.Sleep(time.Second)
						_, err = io.WriteString(conn, "1")
					}
				})
				answer, _ := io.ReadAll(conn)
				_ = conn.Close()
				sender.Wait()
				require.True(t, bytes.HasPrefix(answer, []byte("HTTP/1.1 "+tc.status)), string(answer))
				require.Contains(t, string(answer), problemType)
				require.Contains(t, string(answer), "Connection: close")
				require.GreaterOrEqual(t, time.Since(begin), tc.took)
				require.Less(t, time.Since(begin), tc.took+2*time.Second)
				require.Empty(t, s.called())
			})
		})
	}
}

// A large body on a slow line arrives, as long as it keeps coming.
func TestBodyPace(t *testing.T) {
	const size = 1 << 20
	for name, tc := range map[string]struct {
		rate   int           // bytes a second
		pause  time.Duration // in the middle
		status string
		took   time.Duration
	}{
		"slow":          {rate: 16 << 10, status: "202", took: 64 * time.Second},
		"slow and late": {rate: 16 << 10, pause: bodyIdle - 5*time.Second, status: "202", took: 64*time.Second + bodyIdle - 5*time.Second},
		"just enough":   {rate: 6800, status: "202", took: size / 6800 * time.Second},
		"too slow":      {rate: bodyRate / 2, status: "400", took: 2 * bodyIdle},
		"pauses":        {rate: size / 4, pause: time.Hour, status: "400", took: 2*time.Second + bodyIdle},
		"at the last":   {rate: size - 1, pause: time.Hour, status: "400", took: time.Second + bodyIdle},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				conn, err := s.wire.dial(context.Background(), "", "")
				require.NoError(t, err)
				_, err = fmt.Fprintf(conn, "POST /v1/kinds/report/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", size)
				require.NoError(t, err)
				begin := time.Now()
				var sender sync.WaitGroup
				sender.Go(func() {
					sent, paused := 0, false
					for err := error(nil); err == nil && sent < size; {
						time.Sleep(time.Second)
						if !paused && sent >= size/2 {
							paused = true
							time.Sleep(tc.pause)
						}
						var n int
						n, err = conn.Write(make([]byte, min(tc.rate, size-sent)))
						sent += n
					}
				})
				answer, _ := io.ReadAll(conn)
				took := time.Since(begin)
				_ = conn.Close()
				sender.Wait()
				require.True(t, bytes.HasPrefix(answer, []byte("HTTP/1.1 "+tc.status)), string(answer))
				require.InDelta(t, tc.took, took, float64(2*time.Second))
			}, func(a *API) { a.Body = size })
		})
	}
}

// A client that asks before it sends its body is not told to send one that is
// refused.
func TestExpectContinue(t *testing.T) {
	for path, want := range map[string]string{"/v1/kinds/nope/jobs": "HTTP/1.1 404", "/v1/kinds/report/jobs": "HTTP/1.1 100"} {
		serve(t, func(t *testing.T, s *service) {
			conn, err := s.wire.dial(context.Background(), "", "")
			require.NoError(t, err)
			_, err = io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
			require.NoError(t, err)
			got := make([]byte, len(want))
			_, err = io.ReadFull(conn, got)
			require.NoError(t, err)
			require.Equal(t, want, string(got))
			require.NoError(t, conn.Close())
		})
	}
}

// slowly is a reader that takes a second for a read.
type slowly struct{ io.Reader }

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(time.Second)
	return s.Reader.Read(p)
}

// A body that took its time does not shorten the answer.
func TestDeadlineIsTakenBack(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.id = goldenJob
		time.AfterFunc(25*time.Second, func() { s.begin(goldenJob) })
		time.AfterFunc(50*time.Second, func() { s.succeed(goldenJob, "1") })
		r := s.request("POST", "/v1/kinds/report/jobs", "", "Accept", sseType)
		r.Body, r.ContentLength = io.NopCloser(iotest.OneByteReader(slowly{strings.NewReader("0123456789")})), -1
		a := s.send(r)
		require.Equal(t, []string{"job.queued 1", "job.running 2", "job.succeeded 3"}, said(eventsOf(t, a.body)))
	})
}

// A sender that leaves in the middle stores nothing.
func TestCutBody(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		conn, err := s.wire.dial(context.Background(), "", "")
		require.NoError(t, err)
		_, err = io.WriteString(conn, "POST /v1/kinds/report/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf")
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		time.Sleep(time.Second)
		require.NotContains(t, s.called(), "Submit")
	})
}

// deadlines notes those that are set.
type deadlines struct {
	http.ResponseWriter
	read time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error { d.read = at; return nil }

// What a slow reader of a body takes, an upstream or a store, is not held against its sender.
func TestSlowReaderOfABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(deadlines)
		b := &pacedBody{ReadCloser: io.NopCloser(strings.NewReader("body")), control: http.NewResponseController(d), begin: time.Now()}
		for range 4 {
			_, err := io.ReadFull(b, make([]byte, 1))
			require.NoError(t, err)
			require.Equal(t, time.Now().Add(bodyIdle), d.read)
			time.Sleep(time.Hour)
		}
	})
}
