package handlers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// Upload keeps what it reads as the input of the next submit.
func (w *world) Upload(_ context.Context, kind string, r io.Reader) (*job.Upload, error) {
	if err := w.call("Upload"); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	u := uploadOf(kind, b)
	w.uploads[u.SHA256] = b
	return u, nil
}

func (w *world) UploadOnce(ctx context.Context, _, _, kind string, r io.Reader) (*job.Upload, error) {
	return w.Upload(ctx, kind, r)
}

func (w *world) OpenUpload(_ context.Context, u *job.Upload) io.ReadSeekCloser {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unread != nil {
		return unreadInput{w.unread}
	}
	return held{bytes.NewReader(w.uploads[u.SHA256])}
}

// unreadInput is a large input that cannot be read.
type unreadInput struct{ why func() error }

func (r unreadInput) Read([]byte) (int, error)       { return 0, r.why() }
func (r unreadInput) Seek(int64, int) (int64, error) { return 0, r.why() }
func (r unreadInput) Close() error                   { return nil }

func uploadOf(id string, b []byte) *job.Upload {
	sum := sha256.Sum256(b)
	return &job.Upload{ID: id, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}
}

// large is a service with a kind that takes large inputs.
func large(t *testing.T, test func(t *testing.T, s *service)) {
	t.Helper()
	serve(t, test, func(a *API) {
		a.Body = 1 << 20
		a.Kinds = map[string]job.Kind{
			"large":  {Name: "large", MaxInput: 3 << 20},
			"small":  {Name: "small", MaxInput: 1000},
			"schema": {Name: "schema", MaxInput: 3 << 20, Input: []byte(`{"type":"object"}`)},
		}
	})
}

const someType = "application/x-thing"

// What is held in memory goes on as it is, what is larger is stored while it comes.
func TestUpload_sizes(t *testing.T) {
	for _, c := range []struct {
		size, status int
		mediaType    string
		uploaded     bool
	}{
		{0, 202, someType, false},
		{1, 202, someType, false},
		{job.PieceSize, 202, someType, false},
		{job.PieceSize + 1, 202, someType, true},
		{3 << 20, 202, someType, true},
		{3<<20 + 1, 413, someType, false},
		{1 << 20, 202, jsonType, false}, // is checked as a whole, and so held
		{1<<20 + 1, 413, jsonType, false},
	} {
		for _, sized := range []bool{true, false} {
			t.Run(strconv.Itoa(c.size)+c.mediaType+strconv.FormatBool(sized), func(t *testing.T) {
				large(t, func(t *testing.T, s *service) {
					body := strings.Repeat("1", c.size)
					rec := httptest.NewRecorder() // a client that still sends when it is refused may see its connection end, and no more
					s.handler().ServeHTTP(rec, s.sized("/v1/kinds/large/jobs", body, sized, "Content-Type", c.mediaType))
					require.Equal(t, c.status, rec.Code, rec.Body.String())
					if c.status != 202 {
						require.Contains(t, rec.Body.String(), "/problems/too-large")
						require.NotContains(t, s.called(), "Submit")
						return
					}
					if !c.uploaded {
						require.Nil(t, s.last.Upload)
						require.Equal(t, body, string(s.last.Input))
						return
					}
					require.Empty(t, s.last.Input)
					require.Equal(t, uploadOf("large", []byte(body)), s.last.Upload)
				})
			})
		}
	}
}

// sized is the request of a post, with or without a Content-Length.
func (s *service) sized(path, body string, sized bool, headers ...string) *http.Request {
	s.t.Helper()
	r := s.request(http.MethodPost, path, body, headers...)
	if !sized {
		r.Body, r.ContentLength = io.NopCloser(iotest.HalfReader(strings.NewReader(body))), -1
	}
	return r
}

// direct answers r without a connection: one whose body is refused is closed while its client
// still writes, who may then see no answer.
func (s *service) direct(r *http.Request) answer {
	s.t.Helper()
	rec := httptest.NewRecorder()
	s.handler().ServeHTTP(rec, r)
	return answer{rec.Result(), rec.Body.String()}
}

// A body that breaks off is no input, however much of it came.
func TestUpload_cut(t *testing.T) {
	large(t, func(t *testing.T, s *service) {
		r := s.request(http.MethodPost, "/v1/kinds/large/jobs", "", "Content-Type", someType)
		r.Body, r.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), iotest.ErrReader(io.ErrUnexpectedEOF))), -1
		s.problem(s.direct(r), 400, "invalid-request")
		require.NotContains(t, s.called(), "Submit")
	})
}

// Everything that speaks against the job is said before its input is stored.
func TestUpload_refused(t *testing.T) {
	body := strings.Repeat("x", 1<<20)
	for name, c := range map[string]struct {
		path    string
		headers []string
		status  int
		problem string
	}{
		"option":   {"/v1/kinds/large/jobs?priority=odd", nil, 400, "invalid-request"},
		"key":      {"/v1/kinds/large/jobs", []string{"Idempotency-Key", `"`}, 400, "invalid-request"},
		"encoding": {"/v1/kinds/large/jobs", []string{"Content-Encoding", "gzip"}, 415, "unsupported-type"},
		"schema":   {"/v1/kinds/schema/jobs", nil, 415, "unsupported-type"},
		"sender":   {"/v1/kinds/large/jobs?cancel_on_disconnect=true", nil, 400, "invalid-request"},
	} {
		t.Run(name, func(t *testing.T) {
			large(t, func(t *testing.T, s *service) {
				s.problem(s.direct(s.request("POST", c.path, body, append(c.headers, "Content-Type", someType)...)), c.status, c.problem)
				require.NotContains(t, s.called(), "Upload")
			})
		})
	}
	large(t, func(t *testing.T, s *service) {
		s.fail("Upload", job.Problemf("storage-full", ""))
		r := s.request("POST", "/v1/kinds/large/jobs", body, "Content-Type", someType, "Expect", "100-continue")
		r.Body = io.NopCloser(iotest.ErrReader(errors.New("not to be asked for")))
		s.problem(s.direct(r), 507, "storage-full")
	})
}

// So many at once, and one more is told to come back; so is none that ended.
func TestUpload_many(t *testing.T) {
	large(t, func(t *testing.T, s *service) {
		body := strings.Repeat("x", 1<<20)
		post := func() answer {
			return s.direct(s.request("POST", "/v1/kinds/large/jobs", body, "Content-Type", someType))
		}
		s.api.uploads.Add(maxUploads - 1) // of others
		r := s.request(http.MethodPost, "/v1/kinds/large/jobs", "", "Content-Type", someType)
		from, to := io.Pipe()
		r.Body, r.ContentLength = from, -1
		go s.send(r)
		_, err := io.WriteString(to, body)
		require.NoError(t, err)
		synctest.Wait()
		a := post()
		s.problem(a, 429, "rate-limited")
		require.NotEmpty(t, a.Header.Get("Retry-After"))
		to.Close()
		synctest.Wait()
		require.Equal(t, 202, post().StatusCode)
	})
}

// The same body under the same key is the same job; another one is not.
func TestUpload_once(t *testing.T) {
	large(t, func(t *testing.T, s *service) {
		post := func(body string) answer {
			return s.do("POST", "/v1/kinds/large/jobs", body, "Content-Type", someType, "Idempotency-Key", "k")
		}
		body := strings.Repeat("x", 1<<20)
		first, again := post(body), post(body)
		require.Equal(t, idOf(t, first), idOf(t, again))
		s.problem(post(body[1:]+"y"), 422, "idempotency-mismatch")
		s.problem(post(body+"x"), 422, "idempotency-mismatch")
	})
}

// It is the same body whether the kind of the day has it stored in pieces or not.
func TestUpload_fingerprint(t *testing.T) {
	for _, size := range []int{job.PieceSize + 1, 1 << 20} {
		body := bytes.Repeat([]byte("x"), size)
		held := fingerprint(&options{}, &job.Request{Kind: "large", InputType: someType, Input: body})
		require.Equal(t, held, fingerprint(&options{}, &job.Request{Kind: "large", InputType: someType, Upload: uploadOf("u", body)}))
		body[0]++
		require.NotEqual(t, held, fingerprint(&options{}, &job.Request{Kind: "large", InputType: someType, Input: body}))
	}
}

// A retry has an input of its own, with the same bytes.
func TestUpload_retry(t *testing.T) {
	large(t, func(t *testing.T, s *service) {
		body := strings.Repeat("x", 1<<20)
		id := idOf(t, s.do("POST", "/v1/kinds/large/jobs", body, "Content-Type", someType))
		s.begin(id)
		s.failJob(id)
		first := s.last
		again := s.post(pathOf(id, "/retry"), "")
		require.Equal(t, 202, again.StatusCode, again.body)
		require.NotSame(t, first.Upload, s.last.Upload)
		require.Equal(t, first.Upload.SHA256, s.last.Upload.SHA256)
		require.Equal(t, someType, s.last.InputType)
	})
}

// A retry says what is wrong with the first input; that it went with its job while it was
// copied is no damage.
func TestUpload_retryRefused(t *testing.T) {
	large(t, func(t *testing.T, s *service) {
		id := idOf(t, s.do("POST", "/v1/kinds/large/jobs", strings.Repeat("x", 1<<20), "Content-Type", someType))
		s.begin(id)
		s.failJob(id)
		s.unread = func() error { return job.ErrDamaged }
		s.problem(s.post(pathOf(id, "/retry"), ""), 500, "job-damaged")
		s.last.Upload.Size = 3<<20 + 1
		calls := len(s.called())
		s.problem(s.post(pathOf(id, "/retry"), ""), 413, "too-large")
		require.NotContains(t, s.called()[calls:], "Upload", "the kind takes less than it did")
		s.last.Upload.Size = 1 << 20
		s.unread = func() error {
			s.edit(id, func(j *job.Job) { j.ExpiresAt = time.Now().Add(-time.Second) })
			return job.ErrDamaged
		}
		s.problem(s.post(pathOf(id, "/retry"), ""), 404, "not-found")
	})
}

// A retry is held to the rules of its day, whatever the first job was held to.
func TestUpload_retryByOtherRules(t *testing.T) {
	large(t, func(t *testing.T, s *service) {
		for kind, problem := range map[string]string{"schema": "invalid-input", "small": "too-large"} {
			id := idOf(t, s.do("POST", "/v1/kinds/large/jobs", strings.Repeat("x", 1<<20), "Content-Type", someType))
			s.begin(id)
			s.failJob(id)
			s.mu.Lock()
			s.jobs[id].job.Kind = kind // as if its rules had changed
			s.mu.Unlock()
			a := s.post(pathOf(id, "/retry"), "", "Content-Type", jsonType)
			require.Contains(t, a.body, "/problems/"+problem)
		}
		require.Len(t, s.jobs, 2)
	})
}

// A pull worker reads a large input by the address that its lease tells, in ranges too.
func TestLeasedInput(t *testing.T) {
	pulling(t, func(t *testing.T, s *service, d *desk) {
		body := []byte(strings.Repeat("0123456789", 100_000))
		u, err := s.Upload(t.Context(), "u", bytes.NewReader(body))
		require.NoError(t, err)
		j := job.Job{ID: job.NewID(), Kind: "pulled", Status: job.StatusRunning, Attempt: 1, MaxAttempts: 1, Lease: 7, CreatedAt: time.Now()}
		d.leases = []job.Lease{{Job: j, Upload: u, InputType: someType, Expires: time.Now().Add(time.Minute), Until: time.Now().Add(time.Minute)}}

		a := s.post("/v1/leases", `{"kinds":["pulled"]}`)
		var got struct {
			Leases []struct {
				Lease string
				Job   struct{ Input inputElsewhere }
			}
		}
		a.into(t, &got)
		in := got.Leases[0].Job.Input
		require.Equal(t, inputElsewhere{"/v1/leases/" + got.Leases[0].Lease + "/input", int64(len(body)), someType, u.SHA256}, in)

		whole := s.get(in.Href)
		require.Equal(t, 200, whole.StatusCode)
		require.Equal(t, string(body), whole.body)
		require.Equal(t, someType, whole.Header.Get("Content-Type"))
		require.Equal(t, `"`+u.SHA256+`"`, whole.Header.Get("ETag"))
		require.Equal(t, j.ID, d.id)
		require.Equal(t, uint64(7), d.lease)
		part := s.get(in.Href, "Range", "bytes=999995-")
		require.Equal(t, 206, part.StatusCode)
		require.Equal(t, "56789", part.body)
		s.problem(s.get(in.Href, "Range", "bytes=1000000-"), 416, "range-not-satisfiable")

		d.leases[0].Upload, d.leases[0].Input, d.leases[0].InputType = nil, []byte(`{}`), jsonType
		require.Equal(t, "{}", s.get(in.Href).body)
		s.problem(s.get("/v1/leases/x/input"), 404, "not-found")
		d.err = job.ErrLeaseLost
		s.problem(s.get(in.Href), 409, "lease-lost")
	})
}
