package handlers

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

func TestSubmit(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		a := s.post("/v1/jobs", `{"kind":"report","input": {"month" : 11} }`)
		require.Equal(t, 202, a.StatusCode, a.body)
		var got struct {
			ID    job.ID
			Token string
		}
		a.into(t, &got)
		require.True(t, job.ValidID(string(got.ID)))
		require.Equal(t, "/v1/jobs/"+string(got.ID), a.Header.Get("Location"))
		require.Equal(t, "</v1/jobs/"+string(got.ID)+`/events>; rel="monitor"`, a.Header.Get("Link"))
		require.Equal(t, "1", a.Header.Get("Retry-After"))
		require.Equal(t, "private, no-cache", a.Header.Get("Cache-Control"))
		require.Equal(t, []string{"Prefer", "Accept, Authorization"}, a.Header.Values("Vary"))
		require.Empty(t, a.Header.Get("Preference-Applied"))

		claims, err := s.signer.Verify(got.Token)
		require.NoError(t, err)
		require.Equal(t, got.ID, claims.Job)
		require.Equal(t, 7*24*time.Hour, time.Until(claims.Expires))

		require.Equal(t, `{"month" : 11}`, string(s.last.Input), "as it was sent")
		require.Equal(t, jsonType, s.last.InputType)
		require.Equal(t, anonymous, s.last.Owner)
		require.Equal(t, 10*time.Minute, s.last.Timeout)
		require.Equal(t, job.DefaultMaxAttempts, s.last.MaxAttempts)
		require.Equal(t, job.DefaultRetention, s.last.Retention)
	})
}

// The same key is the same job, however the same request is written; another request is
// refused.
func TestIdempotencyKey(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		const body, key = `{"kind":"report","input":{"month": 11},"tags":["a"]}`, "Idempotency-Key"
		first := s.post("/v1/jobs", body, key, `"a \"key\""`)
		require.Equal(t, 202, first.StatusCode)
		require.Empty(t, first.Header.Get("Idempotency-Replayed"))
		at := first.Header.Get("Location")
		id := job.ID(at[len("/v1/jobs/"):])
		s.begin(id)
		s.succeed(id, `"done"`)
		for name, again := range map[string]answer{
			"as it was":       s.post("/v1/jobs", body, key, `"a \"key\""`),
			"without quotes":  s.post("/v1/jobs", body, key, `a "key"`),
			"another order":   s.post("/v1/jobs", `{"tags":["a"],"input":{"month":11},"kind":"report"}`, key, `"a \"key\""`),
			"the other way":   s.post("/v1/kinds/report/jobs?tag=a", `{"month":11}`, key, `"a \"key\""`),
			"waiting for end": s.post("/v1/jobs", body, key, `"a \"key\""`, "Prefer", "wait=1"),
		} {
			require.Equal(t, 200, again.StatusCode, name)
			require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"), name)
			require.Equal(t, at, again.Header.Get("Location"), name)
			require.Contains(t, again.body, `"status":"succeeded"`, name)
			require.Contains(t, again.body, `"token":"`, name)
		}
		stream := s.post("/v1/jobs", body, key, `"a \"key\""`, "Accept", sseType)
		require.Equal(t, "true", stream.Header.Get("Idempotency-Replayed"))
		require.Contains(t, stream.body, "event: job.queued")
		for _, other := range []string{
			`{"kind":"report","input":{"month":12},"tags":["a"]}`, `{"kind":"report","input":{"month":11}}`,
			`{"kind":"report","input":{"month":11},"tags":["a"],"priority":"high"}`, `{"kind":"resize","input":{"url":"a"},"tags":["a"]}`,
		} {
			s.problem(s.post("/v1/jobs", other, key, `a "key"`), 422, "idempotency-mismatch")
		}
		require.Len(t, s.jobs, 1)
	})
}

// A repeat of a submit that was in time is its job, also behind its deadline.
func TestRepeatBehindTheDeadline(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		const body = `{"kind":"report","input":1,"deadline":"2000-01-01T00:01:00Z"}`
		require.Equal(t, 202, s.post("/v1/jobs", body, "Idempotency-Key", "k").StatusCode)
		time.Sleep(time.Hour)
		a := s.post("/v1/jobs", body, "Idempotency-Key", "k")
		require.Equal(t, 202, a.StatusCode, a.body)
		require.Equal(t, "true", a.Header.Get("Idempotency-Replayed"))
		for _, header := range [][]string{nil, {"Idempotency-Key", "another"}} {
			a := s.post("/v1/jobs", body, header...)
			require.Contains(t, s.problem(a, 400, "invalid-request").Detail, "to come")
		}
	})
}

func TestOptions(t *testing.T) {
	want := job.Request{
		Kind: "report", Owner: anonymous, Tags: []string{"a", "b,c"}, Priority: job.High,
		MaxAttempts: 7, Timeout: 90 * time.Second, Retention: time.Hour, StartTimeout: time.Minute,
		Deadline: time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC), RunAt: time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC),
	}
	const query = "?tag=a&tags=b,c&priority=high&max_attempts=7&timeout=90s&retention=1h&start_timeout=1m&deadline=24h&delay=1h"
	for name, ask := range map[string]func(*service) answer{
		"body": func(s *service) answer {
			return s.post("/v1/jobs", `{"kind":"report","input":1,"tags":["a","b,c"],"priority":"high","max_attempts":7,"timeout":"90s","retention":"1h","start_timeout":"1m","deadline":"2000-01-02T01:00:00+01:00","run_at":"2000-01-01T02:00:00+01:00"}`)
		},
		"query": func(s *service) answer { return s.post("/v1/kinds/report/jobs"+query, "1") },
		"header": func(s *service) answer {
			return s.post("/v1/kinds/report/jobs", "1", "Millstream-Tag", "a", "Millstream-Tags", "b,c", "Millstream-Job", "of another server", "Millstream-Priority", "high",
				"Millstream-Max-Attempts", "7", "Millstream-Timeout", "90s", "Millstream-Retention", "1h",
				"Millstream-Start-Timeout", "60s", "Millstream-Deadline", "2000-01-02T00:00:00Z", "Millstream-Run-At", "2000-01-01T01:00:00Z")
		},
		"query before header": func(s *service) answer {
			return s.post("/v1/kinds/report/jobs"+query, "1", "Millstream-Priority", "low", "Millstream-Max-Attempts", "9")
		},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				a := ask(s)
				require.Equal(t, 202, a.StatusCode, a.body)
				got := *s.last
				require.Equal(t, "1", string(got.Input))
				got.Input, got.InputType = nil, ""
				require.Equal(t, want, got)
			})
		})
	}
}

// What a submit does not ask for is as its kind has it.
func TestOptionsOfTheKind(t *testing.T) {
	urgent := func(a *API) {
		a.Kinds = map[string]job.Kind{"report": {Name: "report", Priority: job.High, Timeout: time.Minute, Retention: time.Hour, MaxAttempts: 7}}
	}
	serve(t, func(t *testing.T, s *service) {
		for body, want := range map[string]job.Priority{`{"kind":"report","input":1}`: job.High, `{"kind":"report","input":1,"priority":"normal"}`: job.Normal, `{"kind":"report","input":1,"priority":"low"}`: job.Low} {
			require.Equal(t, 202, s.post("/v1/jobs", body).StatusCode)
			require.Equal(t, job.Request{Priority: want, Timeout: time.Minute, Retention: time.Hour, MaxAttempts: 7, Kind: "report", Owner: anonymous, Input: []byte("1"), InputType: jsonType}, *s.last)
		}
	}, urgent)
}

// A time that has passed is no time to wait for, and the longest that can be waited is.
func TestRunAtAtTheEdges(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		for body, want := range map[string]time.Time{
			`"run_at":"1999-12-31T23:59:59Z"`:                 time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC),
			`"run_at":"1999-12-31T23:00:00Z","deadline":"1s"`: time.Date(1999, 12, 31, 23, 0, 0, 0, time.UTC),
			`"run_at":"2000-01-31T00:00:00Z"`:                 time.Date(2000, 1, 31, 0, 0, 0, 0, time.UTC),
			`"delay":"720h"`:                                  time.Date(2000, 1, 31, 0, 0, 0, 0, time.UTC),
			`"delay":"1h","deadline":"1h0.001s"`:              time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC),
			`"delay":"1500us"`:                                time.Date(2000, 1, 1, 0, 0, 0, 1_000_000, time.UTC),
			`"delay":null,"run_at":null`:                      {},
		} {
			a := s.post("/v1/jobs", `{"kind":"report","input":1,`+body+`}`)
			require.Equal(t, 202, a.StatusCode, a.body)
			require.Equal(t, want, s.last.RunAt, body)
		}
	})
}

func TestSubmitRefused(t *testing.T) {
	const ok = `{"kind":"report","input":1`
	big := strings.Repeat("x", 4<<10)
	for name, tc := range map[string]struct {
		path, body string
		header     []string
		status     int
		problem    string
		pointer    string // of the first error; "-": there is none
		detail     string // a part of it
	}{
		"empty":                {body: ``, status: 400, problem: "invalid-request", pointer: "-"},
		"not JSON":             {body: `{"kind":`, status: 400, problem: "invalid-request", pointer: "-", detail: "unexpected end"},
		"two values":           {body: ok + `}{}`, status: 400, problem: "invalid-request", pointer: "-"},
		"BOM":                  {body: "\ufeff" + ok + `}`, status: 400, problem: "invalid-request", pointer: "-"},
		"a number":             {body: `7`, status: 400, problem: "invalid-request", detail: "object"},
		"no kind":              {body: `{"input":1}`, status: 400, problem: "invalid-request", pointer: "/kind"},
		"kind a number":        {body: `{"kind":1,"input":1}`, status: 400, problem: "invalid-request", pointer: "/kind"},
		"no input":             {body: `{"kind":"report"}`, status: 400, problem: "invalid-request", pointer: "/input"},
		"no such kind":         {body: `{"kind":"nope"}`, status: 404, problem: "not-found", pointer: "-"},
		"kind a wildcard":      {body: `{"kind":"*","input":1}`, status: 404, problem: "not-found", pointer: "-"},
		"unknown member":       {body: ok + `,"inptu":1}`, status: 400, problem: "invalid-request", pointer: "/inptu"},
		"escaped pointer":      {body: ok + `,"a/b~c":1}`, status: 400, problem: "invalid-request", pointer: "/a~1b~0c"},
		"KIND":                 {body: `{"KIND":"report","input":1}`, status: 400, problem: "invalid-request", pointer: "/KIND", detail: "its name is kind"},
		"kind and Kind":        {body: ok + `,"Kind":"resize"}`, status: 400, problem: "invalid-request", pointer: "/Kind"},
		"kind with a long s":   {body: ok + `,"tagſ":["a"]}`, status: 400, problem: "invalid-request", pointer: "/tagſ"},
		"kind twice":           {body: ok + `,"kind":"resize"}`, status: 400, problem: "invalid-request", pointer: "/kind", detail: "twice"},
		"kind twice, escaped":  {body: ok + `,"k\u0069nd":"resize"}`, status: 400, problem: "invalid-request", pointer: "/kind", detail: "twice"},
		"input has one twice":  {body: `{"kind":"report","input":[0,{"a":{"b":1,"c":2,"b":3}}]}`, status: 400, problem: "invalid-request", pointer: "/input/1/a/b", detail: "twice"},
		"not UTF-8":            {body: ok + `,"tags":["` + "\xff" + `"]}`, status: 400, problem: "invalid-request", pointer: "-", detail: "UTF-8"},
		"65 deep":              {body: `{"kind":"report","input":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, status: 400, problem: "invalid-request", detail: "deeper"},
		"too large":            {body: ok + `,"tags":["` + big + `"]}`, status: 413, problem: "too-large", pointer: "-"},
		"input too large":      {body: `{"kind":"resize","input":{"url":"` + big[:512] + `"}}`, status: 413, problem: "too-large", pointer: "-"},
		"no type":              {body: ok + `}`, header: []string{"Content-Type", ""}, status: 415, problem: "unsupported-type", pointer: "-"},
		"text":                 {body: ok + `}`, header: []string{"Content-Type", "text/plain"}, status: 415, problem: "unsupported-type", pointer: "-"},
		"a form":               {body: ok + `}`, header: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415, problem: "unsupported-type", pointer: "-"},
		"no media type":        {body: ok + `}`, header: []string{"Content-Type", "json"}, status: 415, problem: "unsupported-type", pointer: "-"},
		"compressed":           {body: ok + `}`, header: []string{"Content-Encoding", "gzip"}, status: 415, problem: "unsupported-type", pointer: "-", detail: "Content-Encoding"},
		"key empty":            {body: ok + `}`, header: []string{"Idempotency-Key", `""`}, status: 400, problem: "invalid-request", pointer: "-", detail: "Idempotency-Key"},
		"key open":             {body: ok + `}`, header: []string{"Idempotency-Key", `"a`}, status: 400, problem: "invalid-request", pointer: "-", detail: "Idempotency-Key"},
		"key of 256":           {body: ok + `}`, header: []string{"Idempotency-Key", big[:256]}, status: 400, problem: "invalid-request", pointer: "-", detail: "Idempotency-Key"},
		"key of bytes":         {body: ok + `}`, header: []string{"Idempotency-Key", "\xff"}, status: 400, problem: "invalid-request", pointer: "-", detail: "Idempotency-Key"},
		"tags no array":        {body: ok + `,"tags":"a"}`, status: 400, problem: "invalid-request", pointer: "/tags"},
		"tag no string":        {body: ok + `,"tags":[1]}`, status: 400, problem: "invalid-request", pointer: "/tags"},
		"17 tags":              {body: ok + `,"tags":["` + strings.Repeat(`a","`, 16) + `a"]}`, status: 400, problem: "invalid-request", pointer: "/tags"},
		"tag of 65":            {body: ok + `,"tags":["a","` + big[:65] + `"]}`, status: 400, problem: "invalid-request", pointer: "/tags/1"},
		"empty tag":            {body: ok + `,"tags":[""]}`, status: 400, problem: "invalid-request", pointer: "/tags/0"},
		"tag with a newline":   {body: ok + `,"tags":["a\nb"]}`, status: 400, problem: "invalid-request", pointer: "/tags/0"},
		"no priority":          {body: ok + `,"priority":"urgent"}`, status: 400, problem: "invalid-request", pointer: "/priority"},
		"priority a number":    {body: ok + `,"priority":5}`, status: 400, problem: "invalid-request", pointer: "/priority"},
		"no attempts":          {body: ok + `,"max_attempts":0}`, status: 400, problem: "invalid-request", pointer: "/max_attempts"},
		"less than none":       {body: ok + `,"max_attempts":-1}`, status: 400, problem: "invalid-request", pointer: "/max_attempts"},
		"101 attempts":         {body: ok + `,"max_attempts":101}`, status: 400, problem: "invalid-request", pointer: "/max_attempts"},
		"half an attempt":      {body: ok + `,"max_attempts":1.5}`, status: 400, problem: "invalid-request", pointer: "/max_attempts"},
		"timeout a number":     {body: ok + `,"timeout":5}`, status: 400, problem: "invalid-request", pointer: "/timeout"},
		"timeout without unit": {body: ok + `,"timeout":"5"}`, status: 400, problem: "invalid-request", pointer: "/timeout"},
		"timeout zero":         {body: ok + `,"timeout":"0s"}`, status: 400, problem: "invalid-request", pointer: "/timeout"},
		"timeout negative":     {body: ok + `,"timeout":"-1s"}`, status: 400, problem: "invalid-request", pointer: "/timeout"},
		"timeout too long":     {body: ok + `,"timeout":"10m1s"}`, status: 400, problem: "invalid-request", pointer: "/timeout", detail: "10m0s"},
		"retention too short":  {body: ok + `,"retention":"999ms"}`, status: 400, problem: "invalid-request", pointer: "/retention"},
		"retention too long":   {body: ok + `,"retention":"169h"}`, status: 400, problem: "invalid-request", pointer: "/retention"},
		"start in 31 days":     {body: ok + `,"start_timeout":"744h"}`, status: 400, problem: "invalid-request", pointer: "/start_timeout"},
		"deadline tomorrow":    {body: ok + `,"deadline":"tomorrow"}`, status: 400, problem: "invalid-request", pointer: "/deadline", detail: "such as"},
		"deadline in 31 days":  {body: ok + `,"deadline":"744h"}`, status: 400, problem: "invalid-request", pointer: "/deadline", detail: "at most"},
		"deadline before it":   {body: ok + `,"deadline":"1h","delay":"1h"}`, status: 400, problem: "invalid-request", pointer: "/deadline", detail: "later"},
		"delay and run_at":     {body: ok + `,"delay":"1h","run_at":"2000-01-01T01:00:00Z"}`, status: 400, problem: "invalid-request", pointer: "/delay", detail: "run_at"},
		"delay of 31 days":     {body: ok + `,"delay":"744h"}`, status: 400, problem: "invalid-request", pointer: "/delay", detail: "at most"},
		"run_at empty":         {body: ok + `,"run_at":""}`, status: 400, problem: "invalid-request", pointer: "/run_at", detail: "empty"},
		"deadline empty":       {body: ok + `,"deadline":""}`, status: 400, problem: "invalid-request", pointer: "/deadline", detail: "empty"},
		"delay of nothing":     {body: ok + `,"delay":"0s"}`, status: 400, problem: "invalid-request", pointer: "/delay"},
		"delay backwards":      {body: ok + `,"delay":"-1s"}`, status: 400, problem: "invalid-request", pointer: "/delay"},
		"run_at in 31 days":    {body: ok + `,"run_at":"2000-02-01T00:00:00Z"}`, status: 400, problem: "invalid-request", pointer: "/run_at", detail: "at most"},
		"run_at a duration":    {body: ok + `,"run_at":"1h"}`, status: 400, problem: "invalid-request", pointer: "/run_at", detail: "delay"},
		"deadline a number":    {body: ok + `,"deadline":5}`, status: 400, problem: "invalid-request", pointer: "/deadline"},
		"schema": {
			body: `{"kind":"resize","input":{"width":0}}`, status: 422, problem: "invalid-input", pointer: "/input", detail: "url",
		},

		"raw: no such kind":             {path: "/v1/kinds/nope/jobs", status: 404, problem: "not-found", pointer: "-"},
		"raw: key":                      {path: "/v1/kinds/report/jobs", header: []string{"Idempotency-Key", `"a"b"`}, status: 400, problem: "invalid-request", pointer: "-"},
		"raw: no option":                {path: "/v1/kinds/report/jobs?max_attemps=3", status: 400, problem: "invalid-request", pointer: "-", detail: "max_attemps"},
		"raw: two delays":               {path: "/v1/kinds/report/jobs?delay=1h&delay=2h", status: 400, problem: "invalid-request", pointer: "-", detail: "twice"},
		"raw: two deadlines":            {path: "/v1/kinds/report/jobs?deadline=1h&deadline=2h", status: 400, problem: "invalid-request", pointer: "-", detail: "twice"},
		"raw: no such header":           {path: "/v1/kinds/report/jobs", header: []string{"Millstream-Max-Attemps", "3"}, status: 400, problem: "invalid-request", pointer: "-", detail: "Millstream-Max-Attemps"},
		"raw: option not served":        {path: "/v1/kinds/report/jobs?key=x", status: 400, problem: "invalid-request", pointer: "/key", detail: "not supported by this version"},
		"raw: header not served":        {path: "/v1/kinds/report/jobs", header: []string{"Millstream-Key", "x"}, status: 400, problem: "invalid-request", pointer: "/key", detail: "not supported by this version"},
		"raw: bad option":               {path: "/v1/kinds/report/jobs?max_attempts=many", status: 400, problem: "invalid-request", pointer: "/max_attempts"},
		"raw: bad header":               {path: "/v1/kinds/report/jobs", header: []string{"Millstream-Timeout", "x"}, status: 400, problem: "invalid-request", pointer: "/timeout"},
		"raw: too large":                {path: "/v1/kinds/report/jobs", body: big + "x", header: []string{"Content-Type", "text/plain"}, status: 413, problem: "too-large", pointer: "-"},
		"raw: over the kind's":          {path: "/v1/kinds/resize/jobs", body: big[:513], status: 413, problem: "too-large", pointer: "-"},
		"raw: bad JSON":                 {path: "/v1/kinds/report/jobs", body: `{"a":1,"a":2}`, status: 400, problem: "invalid-request", pointer: "/a"},
		"raw: no media type":            {path: "/v1/kinds/report/jobs", body: "x", header: []string{"Content-Type", "no/media type"}, status: 415, problem: "unsupported-type", pointer: "-"},
		"raw: no media type: no slash":  {path: "/v1/kinds/report/jobs", body: "x", header: []string{"Content-Type", "garbage"}, status: 415, problem: "unsupported-type", pointer: "-"},
		"raw: no media type: long":      {path: "/v1/kinds/report/jobs", body: "x", header: []string{"Content-Type", "text/plain; x=" + strings.Repeat("y", 255)}, status: 415, problem: "unsupported-type", pointer: "-"},
		"raw: no media type: long JSON": {path: "/v1/kinds/resize/jobs", body: `{"url":"x"}`, header: []string{"Content-Type", "application/json; x=" + strings.Repeat("y", 255)}, status: 415, problem: "unsupported-type", pointer: "-"},
		"raw: schema needs JSON":        {path: "/v1/kinds/resize/jobs", body: "x", header: []string{"Content-Type", "text/plain"}, status: 415, problem: "unsupported-type", pointer: "-"},
		"raw: schema needs type":        {path: "/v1/kinds/resize/jobs", body: "{}", header: []string{"Content-Type", ""}, status: 415, problem: "unsupported-type", pointer: "-"},
		"raw: compressed":               {path: "/v1/kinds/report/jobs", body: "x", header: []string{"Content-Encoding", "br"}, status: 415, problem: "unsupported-type", pointer: "-"},
		"raw: pointer in the body":      {path: "/v1/kinds/resize/jobs", body: `{"url":"x","width":0}`, status: 422, problem: "invalid-input", pointer: "/width"},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				path := cmp.Or(tc.path, "/v1/jobs")
				r := s.request("POST", path, tc.body, append([]string{"Content-Type", jsonType}, tc.header...)...)
				if n := len(r.Header["Content-Type"]); n > 1 {
					r.Header["Content-Type"] = r.Header["Content-Type"][n-1:]
				}
				a := s.send(r)
				p := s.problem(a, tc.status, tc.problem)
				require.Contains(t, a.body, tc.detail)
				require.Equal(t, path[:len(p.Instance)], p.Instance)
				switch {
				case tc.pointer == "-":
					require.Empty(t, p.Errors)
				case tc.problem != "invalid-input" && name != "65 deep":
					require.Equal(t, []job.FieldError{{Pointer: tc.pointer, Detail: p.Errors[0].Detail}}, p.Errors)
				default:
					require.Contains(t, p.Errors[0].Pointer, tc.pointer)
				}
				require.Equal(t, tc.status == 415 && !strings.Contains(name, "compressed") && !strings.HasPrefix(name, "raw: no media type"), strings.HasPrefix(a.Header.Get("Accept"), jsonType))
				require.NotContains(t, s.called(), "Submit")
			})
		})
	}
}

// What the contract has and this version does not is refused in words, each of it.
func TestNotServed(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		for _, name := range unserved {
			p := s.problem(s.post("/v1/jobs", `{"kind":"report","input":1,"`+name+`":"x"}`), 400, "invalid-request")
			require.Contains(t, p.Detail, "not supported by this version")
			require.Equal(t, "/"+name, p.Errors[0].Pointer)
			require.Equal(t, 202, s.post("/v1/jobs", `{"kind":"report","input":1,"`+name+`":null}`).StatusCode, "null asks for nothing")
		}
	})
}

// The edges of what is accepted.
func TestSubmitEdges(t *testing.T) {
	tags := `["` + strings.Repeat(strings.Repeat("x", 64)+`","`, 15) + `é"]`
	for name, body := range map[string]string{
		"most of all":     `{"kind":"report","input":null,"tags":` + tags + `,"max_attempts":100,"timeout":"10m","retention":"168h","priority":"low"}`,
		"64 deep":         `{"kind":"report","input":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`,
		"names alike":     `{"kind":"report","input":[{"a":1,"A":2},{"a":3},"a","a",{"b":{"a":4}}]}`,
		"strings":         `{"kind":"report","input":{"a\"}":"{\"a\":[\\","b":"],}"}}`,
		"nulls":           `{"kind":"report","input":0,"tags":null,"priority":null,"timeout":null,"max_attempts":null,"retention":null}`,
		"space":           " {\n\"kind\" :\t\"report\" , \"input\":\r 1 } ",
		"fits the schema": `{"kind":"resize","input":{"url":"https://example.com","width":1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				a := s.post("/v1/jobs", body)
				require.Equal(t, 202, a.StatusCode, a.body)
			})
		})
	}
}

func TestRaw(t *testing.T) {
	for name, tc := range map[string]struct{ path, body, contentType, stored string }{
		"text":         {"/v1/kinds/report/jobs", "a\x00\xff", "text/plain; charset=latin1", "text/plain; charset=latin1"},
		"no type":      {"/v1/kinds/report/jobs", "a", "", unknownType},
		"nothing":      {"/v1/kinds/report/jobs", "", "", unknownType},
		"a form":       {"/v1/kinds/report/jobs", "a=b", "application/x-www-form-urlencoded", "application/x-www-form-urlencoded"},
		"as large":     {"/v1/kinds/report/jobs", strings.Repeat("x", 4<<10), "text/plain", "text/plain"},
		"JSON":         {"/v1/kinds/report/jobs", ` {"a":1}`, "application/vnd.a+json", "application/vnd.a+json"},
		"with schema":  {"/v1/kinds/resize/jobs", `{"url":"x"}`, "application/json;charset=utf-8", "application/json;charset=utf-8"},
		"with a token": {"/v1/kinds/report/jobs?tag=x", "a", "", unknownType},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				r := s.request("POST", tc.path, tc.body)
				if tc.contentType != "" {
					r.Header.Set("Content-Type", tc.contentType)
				}
				a := s.send(r)
				require.Equal(t, 202, a.StatusCode, a.body)
				require.Equal(t, tc.body, string(s.last.Input))
				require.Equal(t, tc.stored, s.last.InputType)
			})
		})
	}
}

// A refusal of the log is the answer, with the time to come back.
func TestSubmitFails(t *testing.T) {
	full := job.Problemf("queue-full", "10000 jobs wait")
	full.RetryAfter = 61500 * time.Millisecond
	for name, tc := range map[string]struct {
		err     error
		status  int
		problem string
		retry   []string
	}{
		"queue full":   {full, 503, "queue-full", []string{"62"}},
		"draining":     {fmt.Errorf("append: %w", job.ErrDraining), 503, "draining", []string{"2", "3", "4", "5"}},
		"store full":   {job.Problemf("storage-full", ""), 507, "storage-full", []string{"2", "3", "4", "5"}},
		"store silent": {job.Problemf("storage-unavailable", ""), 503, "storage-unavailable", []string{"2", "3", "4", "5"}},
		"too large":    {job.ErrTooLarge, 413, "too-large", []string{""}},
		"a bug":        {errors.New("secret /path/of/ours"), 500, "internal", []string{""}},
		"a job's":      {job.Problemf("worker-panic", "secret"), 500, "internal", []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				s.fail("Submit", tc.err)
				a := s.post("/v1/jobs", `{"kind":"report","input":1}`)
				s.problem(a, tc.status, tc.problem)
				require.Contains(t, tc.retry, a.Header.Get("Retry-After"))
				require.NotContains(t, a.body, "secret")
				require.Empty(t, a.Header.Get("Location"))
				require.Equal(t, tc.status == 500, s.logs.FilterMessage("request failed").Len() == 1)
			})
		})
	}
}

// What is said of a body is never larger than the body.
func TestAnswersDoNotEcho(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		name := strings.Repeat("<é", 100_000)
		for path, body := range map[string]string{
			"/v1/jobs":              `{"` + name + `":1}`,
			"/v1/kinds/report/jobs": `{"a":{"` + name + `":1,"` + name + `":2}}`,
		} {
			a := s.post(path, body)
			require.GreaterOrEqual(t, a.StatusCode, 400)
			require.Less(t, len(a.body), 4096, path)
		}
	}, func(a *API) { a.Body = 1 << 20 })
}
