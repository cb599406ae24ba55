package handlers

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

func TestResult(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		large := strings.Repeat("0123456789", 30<<10)
		s.succeedWith(id, "application/pdf", []byte(large))
		a := s.get(pathOf(id, "/result"))
		require.Equal(t, 200, a.StatusCode)
		require.Equal(t, large, a.body)
		require.Equal(t, "application/pdf", a.Header.Get("Content-Type"))
		require.Equal(t, `"`+s.now(id).Result.SHA256+`"`, a.Header.Get("ETag"))
		require.Equal(t, "private, no-cache", a.Header.Get("Cache-Control"))
		require.Equal(t, "sandbox", a.Header.Get("Content-Security-Policy"))

		part := s.get(pathOf(id, "/result"), "Range", "bytes=100005-100009", "If-Range", a.Header.Get("ETag"))
		require.Equal(t, 206, part.StatusCode)
		require.Equal(t, "56789", part.body)
		whole := s.get(pathOf(id, "/result"), "Range", "bytes=5-9", "If-Range", `"another"`)
		require.Equal(t, 200, whole.StatusCode)
		require.Equal(t, 304, s.get(pathOf(id, "/result"), "If-None-Match", `"x"`, "If-None-Match", a.Header.Get("ETag")).StatusCode, "on two lines")
		require.Equal(t, 200, s.get(pathOf(id, "/result"), "If-Match", `"x"`, "If-Match", a.Header.Get("ETag")).StatusCode)
		for _, unknown := range []string{"bits=0-1", "none", "items=99999999-"} {
			whole = s.get(pathOf(id, "/result"), "Range", unknown)
			require.Equal(t, 200, whole.StatusCode, unknown)
			require.Equal(t, large, whole.body)
		}
	})
}

// What a range means does not hang on whether its numbers fit ours.
func TestResultRanges(t *testing.T) {
	const large = "99999999999999999999"
	for ask, want := range map[string]string{
		"bytes=2-5":                              "2345",
		"BYTES=2-5":                              "2345",
		"bytes=2-" + large:                       "23456789",
		"bytes=2-000000000000000000000000000005": "2345",
		"bytes=-" + large:                        "0123456789",
		"bytes= 8-" + large + " ,":               "89",
		"bytes=-2":                               "89",
		"bytes=" + large + "-":                   "",
		"bytes=" + large + "-" + large:           "",
		"bytes=-0":                               "",
		"bytes=- 00":                             "",
		"bytes=-":                                "",
		"bytes=5-2":                              "",
		"bytes=a-b":                              "",
		"bytes=0-1" + strings.Repeat(",3-3", 16): "0123456789", // so many reads of the store for so little
	} {
		t.Run(ask, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				s.begin(id)
				s.succeedWith(id, "text/plain", []byte("0123456789"))
				a := s.get(pathOf(id, "/result"), "Range", ask)
				switch want {
				case "":
					s.problem(a, 416, "range-not-satisfiable")
					require.Equal(t, "bytes */10", a.Header.Get("Content-Range"))
				case "0123456789":
					require.Contains(t, []int{200, 206}, a.StatusCode)
				default:
					require.Equal(t, 206, a.StatusCode)
				}
				if want != "" {
					require.Equal(t, want, a.body)
				}
				whole := s.do("HEAD", pathOf(id, "/result"), "", "Range", ask)
				require.Equal(t, 200, whole.StatusCode, "a HEAD has no ranges")
				require.EqualValues(t, 10, whole.ContentLength)
			})
		})
	}
}

// A wait ends with the job, or with the wait.
func TestResultWait(t *testing.T) {
	for name, tc := range map[string]struct {
		prefer string
		end    func(*service, job.ID)
		status int
		took   time.Duration
	}{
		"succeeds":   {"wait=20", func(s *service, id job.ID) { s.succeed(id, "1") }, 200, 7 * time.Second},
		"fails":      {"wait=20", func(s *service, id job.ID) { s.failJob(id) }, 409, 7 * time.Second},
		"goes on":    {"wait=20", func(s *service, id job.ID) { s.progress(id, 1) }, 202, 20 * time.Second},
		"is too far": {"wait=5", func(s *service, id job.ID) { s.succeed(id, "1") }, 202, 5 * time.Second},
		"no wait":    {"respond-async", func(s *service, id job.ID) { s.succeed(id, "1") }, 202, 0},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				s.begin(id)
				time.AfterFunc(7*time.Second, func() { tc.end(s, id) })
				begin := time.Now()
				a := s.get(pathOf(id, "/result"), "Prefer", tc.prefer)
				require.Equal(t, tc.status, a.StatusCode)
				require.Equal(t, tc.took, time.Since(begin))
				require.Equal(t, tc.prefer, a.Header.Get("Preference-Applied"))
				require.Equal(t, tc.status == 202, a.Header.Get("Retry-After") == "1")
				require.Equal(t, tc.status == 202, strings.Contains(a.body, `"links":`))
			})
		})
	}
}

// What cannot be read is a problem, or a connection that is cut: never a result
// that is shorter than it says.
func TestResultUnreadable(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.succeedWith(id, "text/plain", []byte(strings.Repeat("x", 10_000)))
		s.fail("Result", job.Problemf("storage-unavailable", ""))
		s.problem(s.get(pathOf(id, "/result")), 503, "storage-unavailable")
		s.fail("Result", job.ErrNotFound) // of a job that is there
		s.problem(s.get(pathOf(id, "/result")), 503, "storage-unavailable")
		s.fail("Result", nil)
		s.fail("Read", fmt.Errorf("seek: %w", io.ErrClosedPipe))
		s.problem(s.get(pathOf(id, "/result")), 500, "internal")

		s.fail("Read", job.Problemf("storage-unavailable", ""))
		a := s.get(pathOf(id, "/result"), "Range", "bytes=5-9")
		s.problem(a, 503, "storage-unavailable")
		for _, name := range []string{"ETag", "Last-Modified", "Accept-Ranges", "Content-Range"} {
			require.Empty(t, a.Header.Values(name), name)
		}
	})
}

// A result that cannot be read to its end is not taken for the whole, on any
// protocol and in any number of ranges, and the log names its job.
func TestResultCutShort(t *testing.T) {
	for name, tc := range map[string]struct {
		http2  bool
		ranges string
	}{"whole": {}, "range": {ranges: "bytes=10-99999"}, "ranges": {ranges: "bytes=0-10,20-99999"}, "HTTP/2": {http2: true}} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				if tc.http2 {
					transport := &http.Transport{DialContext: s.wire.dial, Protocols: new(http.Protocols)}
					transport.Protocols.SetUnencryptedHTTP2(true)
					s.client = &http.Client{Transport: transport}
				}
				id := s.submit()
				s.begin(id)
				s.succeedWith(id, "text/plain", []byte(strings.Repeat("x", 100_000)))
				s.sound = 50_000
				s.fail("Read", job.Problemf("storage-unavailable", "message 7 is gone"))
				resp, err := s.client.Do(s.request("GET", pathOf(id, "/result"), "", "Range", tc.ranges))
				require.NoError(t, err)
				require.Less(t, resp.StatusCode, 300)
				got, err := io.ReadAll(resp.Body)
				require.Error(t, err)
				require.NotContains(t, string(got), "problem")
				require.NoError(t, resp.Body.Close())
				synctest.Wait()
				cut := s.logs.FilterMessage("answer cut short").All()
				require.Len(t, cut, 1)
				require.Equal(t, string(id), cut[0].ContextMap()["job"])
				require.Equal(t, "message 7 is gone", cut[0].ContextMap()["error"])
			})
		})
	}
}

// A reader that takes nothing of a large result is given up.
func TestResultStalled(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.succeedWith(id, "text/plain", []byte(strings.Repeat("x", 1<<20)))
		resp, err := s.client.Do(s.request("GET", pathOf(id, "/result"), ""))
		require.NoError(t, err)
		time.Sleep(writeTimeout + time.Second)
		synctest.Wait()
		require.Equal(t, 1, s.logs.FilterMessage("request").Len(), "the handler has returned")
		_, err = io.ReadAll(resp.Body)
		require.Error(t, err)
		require.NoError(t, resp.Body.Close())
	})
}
