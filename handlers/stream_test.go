package handlers

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/sse"
	"github.com/millstream/millstream/pkg/tape"
)

// live is an open stream that is read line by line.
type live struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Reader
	quit func()
}

func (s *service) stream(path string, header ...string) *live {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	resp, err := s.client.Do(s.request("GET", path, "", header...).WithContext(ctx))
	require.NoError(s.t, err)
	return &live{s.t, resp, bufio.NewReader(resp.Body), func() { cancel(); _ = resp.Body.Close() }}
}

// line returns the next line that has something in it.
func (l *live) line() string {
	l.t.Helper()
	for {
		line, err := l.in.ReadString('\n')
		require.NoError(l.t, err)
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			return line
		}
	}
}

// frame returns the id and the name of the next event.
func (l *live) frame() (id, name string) {
	l.t.Helper()
	id, name, _ = l.event()
	return id, name
}

// event returns the next event.
func (l *live) event() (id, name, data string) {
	l.t.Helper()
	for whole := false; ; {
		line, err := l.in.ReadString('\n')
		require.NoError(l.t, err)
		switch field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); field {
		case "id":
			id = value
		case "event":
			name = value
		case "data":
			data, whole = value, true
		case "":
			if whole {
				return id, name, data
			}
		}
	}
}

// A stream that has nothing to say says that it lives, every 15 s after the last
// that it said.
func TestHeartbeat(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		l := s.stream(pathOf(id, "/events"))
		defer l.quit()
		l.frame()
		for range 3 {
			begin := time.Now()
			require.Equal(t, ":", l.line())
			require.Equal(t, 15*time.Second, time.Since(begin))
		}
		time.Sleep(14 * time.Second)
		s.begin(id)
		l.frame()
		begin := time.Now()
		require.Equal(t, ":", l.line())
		require.Equal(t, 15*time.Second, time.Since(begin), "the event was a sign of life too")
	})
}

// A reader that is spared all events hears that the stream lives all the same,
// however many they are, and learns the id behind them.
func TestSparedReader(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		l := s.stream(pathOf(id, "/events?types=job.running"))
		defer l.quit()
		last, name := l.frame()
		require.Equal(t, "2-101-1 job.running", last+" "+name)
		begin := time.Now()
		go func() {
			for n := range 200 { // ten a second
				time.Sleep(100 * time.Millisecond)
				s.progress(id, n)
			}
		}()
		require.Regexp(t, `^id: 15\d-\d+-1$`, l.line())
		require.InDelta(t, 15*time.Second, time.Since(begin), float64(100*time.Millisecond))
		require.Equal(t, "id: 202-301-1", l.line())
		require.Equal(t, ":", l.line(), "it knows")

		rest := s.stream(pathOf(id, "/events?types=job.running"), "Last-Event-ID", "202-301-1")
		defer rest.quit()
		s.succeed(id, "1")
		last, name = rest.frame()
		require.Equal(t, "203-302-1 job.succeeded", last+" "+name)
	})
}

// So does one behind which there is always more that it is spared.
func TestSparedReaderCatchesUp(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		for range 40 { // a block each
			s.add(id, job.Record{Type: "large", Data: []byte(`"` + strings.Repeat("x", 200<<10) + `"`)})
		}
		s.slow = time.Second
		begin := time.Now()
		l := s.stream(pathOf(id, "/events?types=token"))
		defer l.quit()
		require.Contains(t, l.line(), "retry: ")
		require.Regexp(t, "^id: 1[567]-", l.line())
		require.Less(t, time.Since(begin), 17*time.Second)
		require.Regexp(t, "^id: 3[0123]-", l.line())
	}, func(a *API) { a.Store.(*world).budget = 16 << 20 })
}

// Bytes come with the headers: who waits for the first event knows that the
// stream stands.
func TestFirstBytes(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		l := s.stream(pathOf(id, "/events"), "Last-Event-ID", "1-100-1")
		defer l.quit()
		require.Equal(t, 200, l.resp.StatusCode)
		field, value, _ := strings.Cut(l.line(), ": ")
		require.Equal(t, "retry", field)
		n, err := strconv.Atoi(value)
		require.NoError(t, err)
		require.True(t, n >= 2000 && n <= 5000, n)
		require.Equal(t, http.Header{
			"Content-Type":           {sse.ContentType},
			"Cache-Control":          {"no-store, no-transform"},
			"X-Accel-Buffering":      {"no"},
			"Referrer-Policy":        {"no-referrer"},
			"X-Content-Type-Options": {"nosniff"},
			"Date":                   l.resp.Header["Date"],
		}, l.resp.Header)
	})
}

// A reader that takes nothing is given up after the write deadline, and its place
// is free again; one that left is noticed at once.
func TestGoneReaders(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		conn, err := s.wire.dial(context.Background(), "", "")
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		_, err = io.WriteString(conn, "GET "+pathOf(id, "/events?after=1-100-1")+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		head := make([]byte, 12)
		_, err = io.ReadFull(conn, head) // and nothing after that
		require.NoError(t, err)
		synctest.Wait()
		require.EqualValues(t, 1, s.api.open.Load())
		time.Sleep(writeTimeout)
		synctest.Wait()
		require.Zero(t, s.api.open.Load())

		left := s.stream(pathOf(id, "/events"))
		left.frame()
		left.quit()
		synctest.Wait()
		require.Zero(t, s.api.open.Load())
		require.Zero(t, s.logs.FilterMessage("stream ended").Len()+s.logs.FilterMessage("request failed").Len(), "nothing of ours is wrong")
	})
}

// unflushable is an answer that takes bytes and cannot send them.
type unflushable struct{ *httptest.ResponseRecorder }

func (unflushable) FlushError() error { return io.ErrClosedPipe }

// Gin's own Flush says nothing of an error.
func TestFlushFails(t *testing.T) {
	c, _ := gin.CreateTestContext(unflushable{httptest.NewRecorder()})
	c.Request = httptest.NewRequest("GET", "/", nil)
	require.ErrorIs(t, newWriter(c).Flush(), errReaderGone)
}

// A reader that takes a large block slowly, but takes it, is not cut.
func TestSlowReader(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.add(id, job.Record{Type: "large", Data: []byte(`"` + strings.Repeat("x", 250<<10) + `"`)})
		s.succeed(id, "1")
		l := s.stream(pathOf(id, "/events"))
		defer l.quit()
		var got strings.Builder
		buf := make([]byte, 16<<10)
		for {
			time.Sleep(time.Second) // 16 kB a second: less than the block in one deadline
			n, err := io.ReadAtLeast(l.in, buf, len(buf))
			got.Write(buf[:n])
			if err != nil {
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				break
			}
		}
		require.Len(t, eventsOf(t, got.String()), 4)
	}, func(a *API) { a.Store.(*world).budget = 16 << 20 })
}

// On HTTP/2 a write deadline that passes ends the stream, even when there is
// nothing to write.
func TestHTTP2(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		transport := &http.Transport{DialContext: s.wire.dial, Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		s.client = &http.Client{Transport: transport}
		id := s.submit()
		l := s.stream(pathOf(id, "/events"))
		defer l.quit()
		require.Equal(t, 2, l.resp.ProtoMajor)
		require.NotContains(t, l.resp.Header, "Connection")
		l.frame()
		for range 4 {
			require.Equal(t, ":", l.line())
		}
		s.begin(id)
		l.frame()
		time.Sleep(10 * time.Second)
		s.succeed(id, "1")
		_, name := l.frame()
		require.Equal(t, "job.succeeded", name)
		require.Equal(t, 200, s.post("/v1/jobs", `{"kind":"report","input":1}`, "Accept", jsonType).StatusCode/202*200)
	})
}

// A stream ends when its token does, and says why; the next request is refused.
func TestTokenEnds(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		path := pathOf(id, "/events?access_token="+s.signer.Mint(id, anonymous, time.Now().Add(20*time.Second)))
		begin := time.Now()
		a := s.get(path)
		require.Equal(t, 20*time.Second, time.Since(begin))
		events := eventsOf(t, a.body)
		require.Equal(t, []string{"job.queued 1", "stream.end 1"}, said(events))
		require.Equal(t, `{"reason":"unauthorized"}`, string(events[1].Data))
		s.problem(s.get(path), 401, "unauthenticated")
	})
}

// HEAD has the headers of GET and holds nothing.
func TestHeadOfEvents(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		for format, contentType := range map[string]string{"sse": sseType, "ndjson": ndjsonType, "json": jsonType} {
			a := s.do("HEAD", pathOf(id, "/events?format="+format), "")
			require.Equal(t, 200, a.StatusCode)
			require.Equal(t, contentType, a.Header.Get("Content-Type"))
		}
		require.Equal(t, 404, s.do("HEAD", pathOf(job.NewID(), "/events"), "").StatusCode)
		s.begin(id)
		s.succeed(id, "1")
		require.Equal(t, 204, s.do("HEAD", pathOf(id, "/events?after=3-102-1"), "").StatusCode)
	})
}

// A submit that is streamed is stored whatever becomes of its stream, and is not
// stored if there cannot be one.
func TestSubmitAndStream(t *testing.T) {
	ask := func(s *service) *http.Request {
		return s.request("POST", "/v1/kinds/report/jobs", "x", "Accept", sseType)
	}
	serve(t, func(t *testing.T, s *service) {
		s.id = goldenJob
		ctx, leave := context.WithCancel(context.Background())
		resp, err := s.client.Do(ask(s).WithContext(ctx))
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, pathOf(goldenJob, ""), resp.Header.Get("Location"))
		claims, err := s.signer.Verify(resp.Header.Get("Millstream-Token"))
		require.NoError(t, err)
		require.Equal(t, goldenJob, claims.Job)
		leave()
		_ = resp.Body.Close()
		synctest.Wait()
		require.Equal(t, job.StatusQueued, s.now(goldenJob).Status)
		require.NotContains(t, s.called(), "Cancel")

		s.fail("Open", job.ErrDraining)
		a := s.send(ask(s))
		require.Equal(t, 200, a.StatusCode, "it is stored: to say anything else would have it submitted again")
		require.Equal(t, []string{"stream.end 0"}, said(eventsOf(t, a.body)))
		require.NotEmpty(t, a.Header.Get("Location"))
		s.fail("Open", nil)

		for range 3 {
			defer s.stream(pathOf(goldenJob, "/events")).quit()
		}
		s.forget()
		s.problem(s.send(ask(s)), 429, "rate-limited")
		require.NotContains(t, s.called(), "Submit")
		require.Equal(t, 202, s.post("/v1/jobs", `{"kind":"report","input":1}`).StatusCode)
	})
}

// What a plain stream writes are the tape's own bytes, and a filtered one the same
// for each event.
func TestFramesAreTheTapes(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.add(id, job.Record{Type: "token", Data: []byte("\"a\\r\\n\u2028\ufeff  b\"")})
		s.succeed(id, "1")
		r, err := s.Open(context.Background(), id, job.Cursor{})
		require.NoError(t, err)
		b, err := r.Next(context.Background(), nil)
		require.NoError(t, err)
		r.Close()
		_, plain, _ := strings.Cut(s.get(pathOf(id, "/events")).body, "\n")
		require.Equal(t, string(b.Bytes), plain)
		_, filtered, _ := strings.Cut(s.get(pathOf(id, "/events?types=job.queued,job.running,token")).body, "\n")
		require.Equal(t, plain, filtered)
		var frames []tape.Frame
		for f := range b.Events() {
			frames = append(frames, f)
		}
		require.Len(t, frames, 4)
	})
}

// Who leaves while its events are looked up is no error of ours, and gives its place
// back.
func TestLeavesBeforeTheAnswer(t *testing.T) {
	s := newService(t)
	id := s.submit()
	h := s.handler()
	s.fail("Open", context.Canceled)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	for _, accept := range []string{sseType, ndjsonType, jsonType} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, s.request("GET", pathOf(id, "/events"), "", "Accept", accept).WithContext(ctx))
		require.Empty(t, w.Body.String())
		require.Zero(t, s.api.open.Load())
	}
	require.Empty(t, s.logs.FilterLevelExact(zap.ErrorLevel).All())
}
