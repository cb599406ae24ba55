package handlers

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/access"
	"github.com/millstream/millstream/pkg/job"
)

// desk notes what it is asked, and says what it is told to.
type desk struct {
	leases   []job.Lease
	standing job.Standing
	err      error

	wait   time.Duration
	worker string
	most   int
	kinds  []string
	id     job.ID
	lease  uint64
	said   []job.Said
	calls  int
}

func (d *desk) Lease(_ context.Context, wait time.Duration, worker string, most int, kinds ...string) ([]job.Lease, error) {
	d.wait, d.worker, d.most, d.kinds = wait, worker, most, kinds
	d.calls++
	return d.leases, d.err
}

func (d *desk) Leased(_ context.Context, id job.ID, lease uint64) (job.Lease, error) {
	d.id, d.lease = id, lease
	if d.err != nil {
		return job.Lease{}, d.err
	}
	return d.leases[0], nil
}

func (d *desk) Report(_ context.Context, id job.ID, lease uint64, said []job.Said) (job.Standing, error) {
	d.id, d.lease, d.said = id, lease, said
	d.calls++
	return d.standing, d.err
}

// pulling is a service that has a pull kind.
func pulling(t *testing.T, test func(t *testing.T, s *service, d *desk)) {
	t.Helper()
	d := new(desk)
	serve(t, func(t *testing.T, s *service) { test(t, s, d) }, func(a *API) {
		a.Desk = d
		a.Kinds = map[string]job.Kind{"report": kinds["report"], "pulled": {Name: "pulled", Worker: "pull", Lease: 30 * time.Second}}
	})
}

// token returns a lease of a job, with the seq 7.
func (s *service) token(id job.ID) string {
	return s.signer.MintLease(access.Lease{Job: id, Seq: 7, Kind: "pulled", Worker: "w", Expires: time.Now().Add(time.Minute)})
}

func TestLease(t *testing.T) {
	pulling(t, func(t *testing.T, s *service, d *desk) {
		j := job.Job{ID: job.NewID(), Kind: "pulled", Status: job.StatusRunning, Attempt: 2, MaxAttempts: 3, Lease: 7, Checkpoint: []byte(`{"page":4}`)}
		now := time.Now()
		lease := job.Lease{Job: j, Input: []byte(`{"n" : 1}`), InputType: jsonType, Expires: now.Add(30 * time.Second), Until: now.Add(time.Minute)}
		text, picture := lease, lease
		text.Input, text.InputType, text.Job.Checkpoint = []byte("<hello>"), "text/plain; charset=utf-8", nil
		picture.Input, picture.InputType = []byte{0xff, 0}, "image/png"
		d.leases = []job.Lease{lease, text, picture}

		a := s.post("/v1/leases", `{"kinds":["pulled"],"max":3,"worker":"w-7"}`, "Prefer", "wait=20")
		require.Equal(t, 200, a.StatusCode, a.body)
		require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		require.Equal(t, "wait=20", a.Header.Get("Preference-Applied"))
		require.Equal(t, 20*time.Second, d.wait)
		require.Equal(t, "w-7", d.worker)
		require.Equal(t, 3, d.most)
		require.Equal(t, []string{"pulled"}, d.kinds)
		var got struct {
			Leases []struct {
				Lease     string
				ExpiresAt time.Time `json:"expires_at"`
				Job       struct {
					ID     job.ID
					Status string
					Input  json.RawMessage
					Type   string `json:"input_type"`
				}
				TimeoutAt  time.Time `json:"timeout_at"`
				Checkpoint json.RawMessage
			}
		}
		a.into(t, &got)
		require.Len(t, got.Leases, 3)
		for i, want := range []struct{ input, checkpoint string }{
			{`{"n":1}`, `{"page":4}`}, {`"<hello>"`, `null`}, {`{"base64":"/wA=","type":"image/png"}`, `{"page":4}`},
		} {
			l := got.Leases[i]
			require.Equal(t, want.input, string(l.Job.Input))
			require.Equal(t, want.checkpoint, string(l.Checkpoint))
			require.Equal(t, d.leases[i].InputType, l.Job.Type)
			require.True(t, lease.Until.Truncate(time.Millisecond).Equal(l.TimeoutAt))
			require.True(t, lease.Expires.Truncate(time.Millisecond).Equal(l.ExpiresAt))
			require.Equal(t, j.ID, l.Job.ID)
			require.Equal(t, "running", l.Job.Status)
			claims, err := s.signer.VerifyLease(l.Lease)
			require.NoError(t, err)
			require.Equal(t, j.ID, claims.Job)
			require.EqualValues(t, 7, claims.Seq)
			require.Equal(t, 90*time.Second, time.Until(claims.Expires), "as long as the attempt, and a lease")
		}

		d.leases = nil
		a = s.post("/v1/leases", `{"kinds":["pulled"]}`)
		require.Equal(t, 204, a.StatusCode)
		require.Zero(t, d.wait)
		require.Equal(t, 1, d.most)
		d.err = job.ErrDraining
		s.problem(s.post("/v1/leases", `{"kinds":["pulled"]}`), 503, "draining")
	})
}

func TestBadLeases(t *testing.T) {
	pulling(t, func(t *testing.T, s *service, d *desk) {
		many := `["pulled"` + strings.Repeat(`,"pulled"`, 16) + `]`
		for body, pointer := range map[string]string{
			`[]`:                               "",
			`null`:                             "",
			`{}`:                               "/kinds",
			`{"kinds":[]}`:                     "/kinds",
			`{"kinds":null}`:                   "/kinds",
			`{"kinds":"pulled"}`:               "/kinds",
			`{"kinds":[1]}`:                    "/kinds",
			`{"kinds":` + many + `}`:           "/kinds",
			`{"kinds":["pulled"],"max":0}`:     "/max",
			`{"kinds":["pulled"],"max":17}`:    "/max",
			`{"kinds":["pulled"],"max":1.5}`:   "/max",
			`{"kinds":["pulled"],"worker":""}`: "/worker",
			`{"kinds":["pulled"],"worker":"` + strings.Repeat("x", 65) + `"}`: "/worker",
			`{"kinds":["pulled"],"worker":"a\nb"}`:                            "/worker",
			`{"kinds":["pulled"],"wait":1}`:                                   "/wait",
			`{"kinds":["pulled"],"Max":1}`:                                    "/Max",
			`{"kinds":["pulled"],"max":1,"max":2}`:                            "/max",
		} {
			p := s.problem(s.post("/v1/leases", body), 400, "invalid-request")
			require.Equal(t, pointer, p.Errors[0].Pointer, body)
		}
		for body, name := range map[string]string{
			`{"kinds":["pulled","report"]}`: "/kinds/1", `{"kinds":["none"]}`: "/kinds/0",
		} {
			p := s.problem(s.post("/v1/leases", body), 404, "not-found")
			require.Equal(t, name, p.Errors[0].Pointer)
		}
		s.problem(s.post("/v1/leases", `{`), 400, "invalid-request")
		s.problem(s.post("/v1/leases", `{"worker":"`+strings.Repeat("x", maxLeaseBody)+`"}`), 413, "too-large")
		s.problem(s.do("POST", "/v1/leases", `{"kinds":["pulled"]}`, "Content-Type", "text/plain"), 415, "unsupported-type")
		require.Zero(t, d.calls)
		for range 3 {
			id := s.submit()
			defer s.stream(pathOf(id, "/events")).quit()
		}
		s.problem(s.post("/v1/leases", `{"kinds":["pulled"]}`), 429, "rate-limited")
	})
}

func TestReport(t *testing.T) {
	pulling(t, func(t *testing.T, s *service, d *desk) {
		id := s.submit()
		path := "/v1/leases/" + s.token(id) + "/events"
		d.standing = job.Standing{Expires: time.Now().Add(30 * time.Second), Cancel: true}
		a := s.post(path, `[{"type":"job.log","data":{"line":"x"}}, {"type":"own"}]`)
		require.Equal(t, 200, a.StatusCode, a.body)
		require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		require.Equal(t, `{"expires_at":"`+job.Time(d.standing.Expires).String()+`","cancel":true}`, a.body)
		require.Equal(t, []job.Said{{Type: job.Log, Data: []byte(`{"line":"x"}`)}, {Type: "own"}}, d.said)
		require.Equal(t, id, d.id)
		require.EqualValues(t, 7, d.lease)
		require.Equal(t, 200, s.post(path, `[]`).StatusCode)
		require.Empty(t, d.said)

		d.err = job.ErrLeaseLost
		p := s.problem(s.post(path, `[]`), 409, "lease-lost")
		require.Equal(t, "/v1/leases", p.Instance, "the token is a secret")
		require.Contains(t, p.Detail, "handed back")
		bad := job.Problemf("invalid-input", "0/data/chunk: is required")
		bad.Errors = []job.FieldError{{Pointer: "/0/data/chunk", Detail: "is required"}}
		d.err = bad
		require.Equal(t, bad.Errors, s.problem(s.post(path, `[]`), 422, "invalid-input").Errors)
	})
}

func TestBadReports(t *testing.T) {
	pulling(t, func(t *testing.T, s *service, d *desk) {
		path := "/v1/leases/" + s.token(job.NewID()) + "/events"
		for body, pointer := range map[string]string{
			`[1]`:                       "/0",
			`[{"type":"own"},null]`:     "/1",
			`[{"data":1}]`:              "/0/type",
			`[{"type":1}]`:              "/0/type",
			`[{"type":"own","more":1}]`: "/0/more",
			`[{"type":"own","Data":1}]`: "/0/Data",
		} {
			p := s.problem(s.post(path, body), 422, "invalid-input")
			require.Equal(t, pointer, p.Errors[0].Pointer, body)
		}
		for _, body := range []string{``, `{}`, `null`, `[`, `[{"type":"a","type":"b"}]`, "[\"\xff\"]", `[` + strings.Repeat(`{"type":"own"},`, 1000) + `{"type":"own"}]`} {
			if len(body) > 4<<10 {
				s.api.Body = 1 << 20
			}
			s.problem(s.post(path, body), 400, "invalid-request")
		}
		s.api.Body = 4 << 10 // little enough for the server to read on before it answers and closes
		s.problem(s.post(path, `["`+strings.Repeat("x", 4<<10)+`"]`), 413, "too-large")
		s.problem(s.do("POST", path, `[]`, "Content-Type", "text/plain"), 415, "unsupported-type")
		read := s.signer.Mint(job.NewID(), anonymous, time.Time{})
		s.problem(s.post("/v1/leases/"+read+"/events", `[]`), 404, "not-found")
		for _, a := range []answer{s.post("/v1/leases/x/events", `[]`), s.post("/v1/leases/x", `[]`), s.post("/v1//leases/x/events", `[]`)} {
			require.NotContains(t, s.problem(a, 404, "not-found").Instance, "x")
		}
		gone := s.signer.MintLease(access.Lease{Job: job.NewID(), Seq: 7, Kind: "report", Expires: time.Now().Add(time.Minute)})
		s.problem(s.post("/v1/leases/"+gone+"/events", `[]`), 409, "lease-lost")
		time.Sleep(2 * time.Minute)
		s.problem(s.post(path, `[]`), 409, "lease-lost")
		require.Zero(t, d.calls)
	})
}
