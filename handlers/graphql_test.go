package handlers

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// queried returns the JSON of a request of GraphQL; variables are pairs of name and value.
func queried(query string, variables ...any) string {
	values := map[string]any{}
	for i := 0; i < len(variables); i += 2 {
		values[variables[i].(string)] = variables[i+1]
	}
	b, _ := json.Marshal(map[string]any{"query": query, "variables": values})
	return string(b)
}

// reply is a response of GraphQL.
type reply struct {
	Data   map[string]json.RawMessage
	Errors []struct {
		Message    string
		Path       []any
		Extensions struct {
			job.Problem
			Code       string
			RetryAfter int `json:"retry_after"`
		}
	}
}

// graphql sends a request and returns the answer, with its response.
func (s *service) graphql(request string, headers ...string) (answer, reply) {
	s.t.Helper()
	a := s.post("/graphql", request, headers...)
	var r reply
	a.into(s.t, &r)
	return a, r
}

const (
	submitQuery = `mutation($job: JobInput!){submit(job:$job){job{id status} token replayed}}`
	cancelQuery = `mutation($job: ID!, $why: String){cancel(job:$job, reason:$why){id status}}`
	jobQuery    = `query($job: ID!){job(id:$job){id kind status attempt maxAttempts priority key tags batch queuePosition createdAt runAt startedAt finishedAt
		expiresAt cancelRequestedAt progress result error cursor links{self events result cancel}}}`
	eventsQuery = `subscription($job: ID!, $after: String, $types: [String!]){events(job:$job, after:$after, types:$types){object}}`
)

// TestGraphQLWire keeps what clients of GraphQL see.
func TestGraphQLWire(t *testing.T) {
	for name, story := range map[string]func(*transcript){
		"graphql.http": storyOfGraphQL,
		"graphql.sse":  storyOfASubscription,
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				tr := &transcript{service: s}
				story(tr)
				golden(t, name, tr.String())
			}, func(a *API) { a.Streams = 1000 })
		})
	}
}

func storyOfGraphQL(s *transcript) {
	const post = "POST /graphql HTTP/1.1\nContent-Type: application/json\n"
	s.id = goldenJob
	s.ask(post + "\n" + queried(submitQuery, "job", map[string]any{"kind": "report", "input": map[string]any{"month": 11}, "tags": []string{"november"}, "maxAttempts": 2}))
	s.ask("GET /graphql?query=" + url.QueryEscape("{job(id:\""+string(goldenJob)+"\"){status queuePosition links{events}}}") + " HTTP/1.1\nAccept: application/graphql-response+json, application/json;q=0.9")
	s.begin(goldenJob)
	s.progress(goldenJob, 42)
	s.ask(post + "\n" + queried(cancelQuery, "job", goldenJob, "why", "no longer wanted"))
	s.ask(post + "\n" + queried(jobQuery, "job", goldenJob))
	s.say("What is wrong with a job is told with the error's path, and the rest is answered.")
	s.ask(post + "\n" + queried(`{job(id:"`+string(goldenJob)+`"){status} other:job(id:"job_none"){status}}`))
	s.ask(post + "\n" + queried(submitQuery, "job", map[string]any{"kind": "resize", "input": map[string]any{"width": 0}}))
	s.say("A request that is none has a status of its own with the newer media type only.")
	s.ask(post + "\n" + queried(`{jobs{id}}`))
	s.ask(post + "Accept: application/graphql-response+json\n\n" + queried(`{jobs{id}}`))
	s.say("Neither does what is not allowed, or cannot be read, depend on the media type.")
	s.ask(post + "Authorization: Bearer forged\n\n" + queried(jobQuery, "job", goldenJob))
	s.ask("GET /graphql?query=mutation%7Bcancel(job:1)%7Bid%7D%7D HTTP/1.1")
	s.ask(post + "Accept: application/json\n\n" + queried(eventsQuery, "job", goldenJob))
	s.ask("POST /graphql HTTP/1.1\nContent-Type: application/graphql\n\n{job(id:1){id}}")
	s.ask("PUT /graphql HTTP/1.1")
	s.say("The queue is full.")
	s.fail("Submit", job.ErrQueueFull)
	s.ask(post + "\n" + queried(submitQuery, "job", map[string]any{"kind": "report", "input": nil}))
}

func storyOfASubscription(s *transcript) {
	s.goldenJob()
	s.later(1*time.Second, func() { s.begin(goldenJob) })
	s.later(32*time.Second, func() { s.progress(goldenJob, 1) })
	s.later(33*time.Second, func() { s.succeed(goldenJob, `{"pages":3}`) })
	const post = "POST /graphql HTTP/1.1\nContent-Type: application/json\nAccept: text/event-stream\n"
	watch := "GET /graphql?query=" + url.QueryEscape(`subscription{events(job:"`+string(goldenJob)+`"){id type data}}`) + " HTTP/1.1\nAccept: text/event-stream\n"
	s.ask(post + "\n" + queried(eventsQuery, "job", goldenJob))
	s.say("Cut behind the third event.")
	s.ask(post + "\n" + queried(eventsQuery, "job", goldenJob, "after", "3-102-1"))
	s.say("It has seen the last one.")
	s.ask(post + "\n" + queried(eventsQuery, "job", goldenJob, "after", "4-103-1"))
	s.say("An EventSource repeats its address, with an id; 204 stops it.")
	s.ask(watch + "Last-Event-ID: 3-102-1")
	s.ask(watch + "Last-Event-ID: 4-103-1")
	s.say("A cursor of another life of the store, and a snapshot.")
	s.ask(post + "\n" + queried(`subscription($job: ID!, $after: String){events(job:$job, after:$after, types:["job.running"]){id type data}}`, "job", goldenJob, "after", "3-102-7"))
	s.ask(post + "\n" + queried(`subscription($job: ID!, $after: String){events(job:$job, after:$after){id type}}`, "job", goldenJob, "after", "latest"))
	s.say("Whatever is refused by GraphQL is a response too.")
	s.ask(post + "\n" + queried(eventsQuery, "job", "job_none"))
	s.ask(post + "\n" + queried(`subscription{nothing}`))
	s.ask(post + "\n" + queried(`{job(id:"`+string(goldenJob)+`"){status}}`))
	s.say("The store does not answer; then the server stops.")
	s.fail("Open", job.Problemf("storage-unavailable", ""))
	s.ask(post + "\n" + queried(eventsQuery, "job", goldenJob, "after", "1-100-1"))
	s.fail("Open", nil)
	s.goldenJob()
	s.later(time.Second, func() { close(s.quit) })
	s.ask(strings.TrimSpace(watch))
}

// A job has the same values as over REST, whatever has become of it.
func TestGraphQLJobIsTheRepresentation(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		same := func() {
			t.Helper()
			var want, got map[string]json.RawMessage
			s.get(pathOf(id, "")).into(t, &want)
			a, r := s.graphql(queried(jobQuery, "job", id))
			require.Empty(t, r.Errors, a.body)
			require.NoError(t, json.Unmarshal(r.Data["job"], &got))
			require.Len(t, got, len(want))
			for name, value := range want {
				require.Equal(t, string(value), string(got[camelCase(name)]), name)
			}
		}
		same()
		s.begin(id)
		s.progress(id, 42)
		same()
		s.add(id, job.Record{Type: job.CancelRequested, Data: []byte(`{}`)})
		same()
		s.succeed(id, `{"<b>":["\u2028",1.0]}`)
		same()
		id = s.submit()
		s.begin(id)
		s.failJob(id)
		same()
	})
}

// What is wrong with a submit is told in the same words as over REST, with the names of the
// schema, and what is right is stored as there.
func TestGraphQLSubmitIsASubmit(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		for name, members := range map[string]map[string]any{
			"no kind of ours":  {"kind": "nope", "input": 1},
			"no input":         {"kind": "report"},
			"input":            {"kind": "resize", "input": map[string]any{"width": 0}},
			"large":            {"kind": "resize", "input": strings.Repeat("x", 600)},
			"attempts":         {"kind": "report", "input": 1, "max_attempts": 101},
			"no attempts":      {"kind": "report", "input": 1, "max_attempts": 0},
			"timeout":          {"kind": "report", "input": 1, "timeout": "11m"},
			"no duration":      {"kind": "report", "input": 1, "start_timeout": "soon"},
			"retention":        {"kind": "report", "input": 1, "retention": "1ms"},
			"two beginnings":   {"kind": "report", "input": 1, "run_at": "2000-01-01T00:00:00Z", "delay": "1s"},
			"run_at":           {"kind": "report", "input": 1, "run_at": "tomorrow"},
			"deadline":         {"kind": "report", "input": 1, "deadline": "1999-01-01T00:00:00Z"},
			"tag":              {"kind": "report", "input": 1, "tags": []string{"a", ""}},
			"webhook":          {"kind": "report", "input": 1, "webhook": map[string]any{"url": "https://bad/"}},
			"webhook's events": {"kind": "report", "input": 1, "webhook": map[string]any{"url": "https://a/", "events": []string{"x", "job.done"}}},
			"a webhook":        {"kind": "report", "input": 1, "webhook": map[string]any{"url": "https://a/b?c=<d>", "events": []string{"job.progress"}}},
			"tags":             {"kind": "report", "input": 1, "tags": strings.Split(strings.Repeat("a", 17), "")},
			"nothing is wrong": {"kind": "report", "input": map[string]any{"a": []any{1, "<é>"}}, "tags": []string{"t"}, "priority": "high", "max_attempts": 7, "timeout": "1m", "retention": "1h", "start_timeout": "2h", "deadline": "3h", "delay": "4s"},
		} {
			rest, err := json.Marshal(members)
			require.NoError(t, err)
			named := map[string]any{}
			for name, value := range members {
				named[camelCase(name)] = value
			}
			s.id = goldenJob
			a := s.post("/v1/jobs", string(rest))
			stored := s.last
			s.id, s.last = goldenJob, nil
			b, r := s.graphql(queried(submitQuery, "job", named))
			if a.StatusCode == 202 {
				require.Empty(t, r.Errors, b.body)
				require.Equal(t, stored, s.last)
				continue
			}
			var want job.Problem
			a.into(t, &want)
			require.Len(t, r.Errors, 1, "%s: %s", name, b.body)
			got := r.Errors[0].Extensions.Problem
			for i, e := range want.Errors {
				member, below, _ := strings.Cut(e.Pointer[1:], "/")
				require.Equal(t, strings.TrimSuffix("/"+camelCase(member)+"/"+below, "/"), got.Errors[i].Pointer, name)
				require.Equal(t, e.Detail, got.Errors[i].Detail, name)
				want.Detail = strings.Replace(want.Detail, member, camelCase(member), 1)
			}
			want.Instance, want.Errors, got.Errors = "", nil, nil
			require.Equal(t, want, got, name)
			require.Equal(t, want.Name(), r.Errors[0].Extensions.Code, name)
		}
	}, withWebhooks)
}

// Of several submits one that fails does not hide what was stored.
func TestGraphQLSomeSubmits(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		_, r := s.graphql(queried(`mutation{a:submit(job:{kind:"report",input:1}){job{id} token} b:submit(job:{kind:"nope",input:1}){token} c:cancel(job:"job_none"){id}}`))
		require.Len(t, r.Errors, 2)
		require.Equal(t, []any{"b"}, r.Errors[0].Path)
		require.Contains(t, string(r.Data["a"]), `"token":"`)
		require.Equal(t, "null", string(r.Data["b"]))
		require.Equal(t, "null", string(r.Data["c"]))
	})
}

// One key is one job, whichever way it comes.
func TestGraphQLIdempotencyKey(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		const input = `{"z":1.0,"a":"<\u00e9>"}`
		a := s.post("/v1/jobs", `{"kind":"report","max_attempts":2,"input":`+input+`}`, "Idempotency-Key", "k")
		var j struct{ ID string }
		a.into(t, &j)
		again := strings.Replace(queried(submitQuery), "{}", `{"job":{"kind":"report","maxAttempts":2,"idempotencyKey":"k","input":`+input+`}}`, 1)
		_, r := s.graphql(again)
		require.Empty(t, r.Errors)
		require.Contains(t, string(r.Data["submit"]), j.ID)
		require.Contains(t, string(r.Data["submit"]), `"replayed":true`)
		_, r = s.graphql(queried(submitQuery, "job", map[string]any{"kind": "report", "input": 2, "idempotencyKey": "k"}))
		require.Equal(t, "idempotency-mismatch", r.Errors[0].Extensions.Code)
		for _, key := range []string{"", "é", strings.Repeat("k", 256), "a\nb"} {
			_, r = s.graphql(queried(submitQuery, "job", map[string]any{"kind": "report", "input": 2, "idempotencyKey": key}))
			require.Equal(t, "/idempotencyKey", r.Errors[0].Extensions.Errors[0].Pointer)
		}
		_, r = s.graphql(again, "Idempotency-Key", "k")
		require.Contains(t, r.Errors[0].Message, "Idempotency-Key: on /graphql")
	})
}

// A read token reads its job, by header or address, and does nothing else; where there is a
// key nothing is done without.
func TestGraphQLTokens(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		own, foreign := s.submit(), s.submit()
		token := s.signer.Mint(own, anonymous, time.Time{})
		for _, way := range [][]string{{"/graphql", "Authorization", "Bearer " + token}, {"/graphql?access_token=" + token}} {
			ask := func(request string) (a answer, r reply) {
				a = s.post(way[0], request, way[1:]...)
				a.into(t, &r)
				return a, r
			}
			_, r := ask(queried(jobQuery, "job", own))
			require.Empty(t, r.Errors)
			for _, id := range []job.ID{foreign, "job_none", ""} {
				_, r = ask(queried(jobQuery, "job", id))
				require.Equal(t, "not-found", r.Errors[0].Extensions.Code)
				require.Equal(t, "null", string(r.Data["job"]))
			}
			s.forget()
			for _, request := range []string{queried(cancelQuery, "job", own), queried(submitQuery, "job", map[string]any{"kind": "report", "input": 1})} {
				a, r := ask(request)
				require.Equal(t, 403, a.StatusCode)
				require.Equal(t, "forbidden", r.Errors[0].Extensions.Code)
			}
			require.Empty(t, s.called())
		}
	})
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.forget()
		for status, headers := range map[int][]string{401: nil, 200: {"Authorization", "Bearer key"}} {
			a, _ := s.graphql(queried(cancelQuery, "job", id), headers...)
			require.Equal(t, status, a.StatusCode)
			require.Equal(t, status == 401, a.Header.Get("WWW-Authenticate") != "")
		}
		require.Equal(t, 401, s.post("/graphql?access_token=key", queried(jobQuery, "job", id)).StatusCode)
	}, func(a *API) { a.Admin = func(key string) bool { return key == "key" } })
}

// What is no request is refused before anything is done.
func TestGraphQLRequests(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		for body, detail := range map[string]string{
			``:                           "not JSON",
			`{`:                          "not JSON",
			`[{"query":"{__typename}"}]`: "One request is taken at a time.",
			`1`:                          "must be an object",
			`{}`:                         "query: is required",
			`{"query":null}`:             "query: is required",
			`{"query":1}`:                "query: is not of the type",
			`{"Query":"{__typename}"}`:   "query: is required",
			`{"query":"{__typename}","query":"{__typename}"}`:                                                      "twice",
			`{"query":"{__typename}","variables":[]}`:                                                              "variables: is not of the type",
			`{"query":"{__typename}","variables":{"a":1,"a":2}}`:                                                   "twice",
			`{"query":"{__typename}","operationName":{}}`:                                                          "operationName: is not of the type",
			`{"query":"{__typename}","extensions":7}`:                                                              "extensions: is not of the type",
			`{"query":"` + strings.Repeat(" ", 4<<10) + `{__typename}"}`:                                           "At most 4096 bytes",
			`{"query":"{__typename}","variables":` + strings.Repeat(`{"a":`, 101) + `1` + strings.Repeat("}", 102): "nested deeper",
		} {
			a, r := s.graphql(body)
			require.GreaterOrEqual(t, a.StatusCode, 400, body)
			require.Len(t, r.Errors, 1, body)
			require.Contains(t, r.Errors[0].Message, detail, body)
			require.Equal(t, a.StatusCode, r.Errors[0].Extensions.Status, body)
			require.Empty(t, r.Data)
		}
		for query, status := range map[string]int{
			"":                                       400,
			"?query=":                                400,
			"?query={__typename}":                    200,
			"?query={__typename}&variables=null":     200,
			"?query={__typename}&variables=":         200,
			"?query={__typename}&variables={":        400,
			"?query={__typename}&variables=1":        400,
			"?query={__typename}&query={__typename}": 400,
			"?query=query+a{__typename}+query+b{__typename}&operationName=a": 200,
			"?query=mutation{__typename}":                                    405,
			"?query=%zz":                                                     400,
			"?query={__typename}&access_token=a&access_token=b":              400,
		} {
			require.Equal(t, status, s.get("/graphql"+query).StatusCode, query)
		}
		require.NotContains(t, s.called(), "Submit")
		require.Equal(t, 403, s.post("/graphql", queried(jobQuery), "Origin", "https://evil.example").StatusCode)
		require.Equal(t, 200, s.get("/graphql?query={__typename}", "Accept", "image/png").StatusCode)
	})
}

// Errors that are no problem of the client's are logged, and not shown.
func TestGraphQLFails(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.fail("Cancel", fmt.Errorf("secret"))
		_, r := s.graphql(queried(cancelQuery, "job", id))
		require.Equal(t, "internal", r.Errors[0].Extensions.Code)
		require.Equal(t, 500, r.Errors[0].Extensions.Status)
		require.Equal(t, 1, s.logs.FilterMessage("operation failed").Len())
		_, r = s.graphql(queried(cancelQuery, "job", id, "why", strings.Repeat("x", maxReason+1)))
		require.Equal(t, "invalid-request", r.Errors[0].Extensions.Code)
		s.fail("Cancel", nil)
		_, r = s.graphql(queried(cancelQuery, "job", id, "why", strings.Repeat("x", maxReason)))
		require.Empty(t, r.Errors)
		require.Equal(t, strings.Repeat("x", maxReason), s.why)
	})
}
