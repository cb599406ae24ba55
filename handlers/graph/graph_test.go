package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millstream/millstream/pkg/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a Service that has one job, and notes what is submitted.
type service struct {
	submitted *JobInput
	events    []*Event
	err       error
}

func (s *service) Job(context.Context, string) (*Job, error) { return &Job{ID: "j"}, s.err }

func (s *service) Submit(_ context.Context, in *JobInput) (*Submitted, error) {
	s.submitted = in
	return &Submitted{Job: &Job{ID: "j", Links: &Links{}}}, s.err
}

func (s *service) Cancel(context.Context, string, string) (*Job, error) {
	return &Job{ID: "j"}, s.err
}

func (s *service) Events(ctx context.Context, _ Selection) (<-chan *Event, error) {
	c := make(chan *Event)
	go func() {
		defer close(c)
		for _, e := range s.events {
			select {
			case c <- e:
			case <-ctx.Done():
			}
		}
	}()
	return c, s.err
}

// shown is what a client is told of an error.
func shown(err error) *job.Problem {
	if p, ok := err.(*job.Problem); ok {
		return p
	}
	return job.Problemf("internal", "")
}

// run executes a request and returns all its responses.
func run(t *testing.T, s *service, query, variables string) (responses []string) {
	t.Helper()
	e := New(s, shown)
	o, refused := e.Parse(t.Context(), &Request{Query: query, Variables: json.RawMessage(variables)})
	if refused != nil {
		require.True(t, refused.Refused)
		return []string{string(refused.JSON)}
	}
	o.Start(t.Context())
	for r := o.Next(); r != nil; r = o.Next() {
		responses = append(responses, string(r.JSON))
	}
	return responses
}

// An operation at a limit is executed, and one behind it is refused before anything is done.
func TestLimits(t *testing.T) {
	types := func(depth int) string { // introspection is all that is deep
		return "{__schema{types{" + strings.Repeat("ofType{", depth-3) + "name" + strings.Repeat("}", depth-3) + "}}}"
	}
	aliases := func(n int) (query string) {
		for i := range n {
			query += fmt.Sprintf("a%d:__typename ", i)
		}
		return "{" + query + "}"
	}
	fragments := func(n int) string { // n*n fields
		return "{__schema{types{" + strings.Repeat("...f ", n) + "}}} fragment f on __Type{" + strings.Repeat("name ", n) + "}"
	}
	for name, tc := range map[string]struct{ within, beyond, detail string }{
		"words":     {"{" + strings.Repeat("__typename ", MaxTokens-2) + "}", "{" + strings.Repeat("__typename ", MaxTokens) + "}", "exceeded token limit of 500"},
		"depth":     {types(MaxDepth), types(MaxDepth + 1), "nested deeper than 16"},
		"aliases":   {aliases(MaxAliases), aliases(MaxAliases + 1), "more than 10 aliases"},
		"fragments": {fragments(22), fragments(23), "asks for too much"}, // 2+22² = 486, 2+23² = 531
		"jobs":      {jobs(10), jobs(11), "more than 10 aliases"},
		"submits":   {submits(9), submits(10), "asks for too much"}, // 51 each, 52 with the job
		"lists":     {"{__schema{types{fields{type{fields{name}}}}}}", "{__schema{types{fields{type{fields{type{fields{name}}}}}}}}", "introspection depth exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			within := run(t, &service{}, tc.within, "")
			require.Len(t, within, 1)
			require.NotContains(t, within[0], "errors")
			beyond := run(t, &service{}, tc.beyond, "")
			require.Len(t, beyond, 1)
			require.Contains(t, beyond[0], tc.detail)
			require.Contains(t, beyond[0], `"code":"invalid-request"`)
			require.NotContains(t, beyond[0], `"data"`)
		})
	}
}

func jobs(n int) (query string) {
	for i := range n {
		query += fmt.Sprintf("a%d:job(id:1){id} ", i)
	}
	return "{" + query + "}"
}

func submits(n int) (query string) {
	for i := range n {
		query += fmt.Sprintf(`a%d:submit(job:{kind:"k",input:1}){job{id} token} `, i)
	}
	return "mutation{" + query + "}"
}

// What costs most to check among what is let through to the checks, and what was never
// meant to be run, is refused as any other.
func TestHostileQueries(t *testing.T) {
	links := ""
	for i := range 20 { // each fragment has all that follow
		links += fmt.Sprintf(" fragment f%d on Job{id %s}", i, spreads(i+1, 20))
	}
	for name, query := range map[string]string{
		"many":      "{" + strings.Repeat("__typename ", MaxTokens-2) + "}",
		"links":     "{job(id:1){...f0}}" + links + " fragment f20 on Job{id}",
		"cycle":     "{job(id:1){...f}} fragment f on Job{...g} fragment g on Job{...f}",
		"brackets":  "{job(id:" + strings.Repeat("[", MaxTokens) + "}",
		"braces":    strings.Repeat("{a", MaxTokens),
		"string":    `{job(id:"` + strings.Repeat("a", 1<<20) + `){id}}`,
		"comment":   "#" + strings.Repeat("a", 1<<20),
		"commas":    strings.Repeat(",", 1<<20),
		"variables": "query(" + strings.Repeat("$a:Int ", 100) + "){__typename}",
		"empty":     "",
		"NUL":       "{\x00}",
		"no UTF-8":  "{\xFF}",
		"defer":     "{job(id:1){... @defer{id}}}",
		"two":       `subscription{a:events(job:"j"){id} b:events(job:"j"){id}}`,
		"none":      `subscription{events(job:"j") @skip(if:true){id}}`,
		"unknown":   "subscription{__typename}",
		"conflicts": "{job(id:1){" + strings.Repeat("a:id a:kind ", 80) + "}}",
		"names":     "{" + strings.Repeat(strings.Repeat("x", 4000)+" ", 200) + "}",
		"literal":   `mutation{submit(job:{kind:"k",input:1e400,nothing:"` + strings.Repeat("é", 1<<19) + `"}){token}}`,
		"fields":    "{" + strings.Repeat("f ", MaxTokens-2) + "}",
		"multiple":  "query a{__typename} query b{__typename}",
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range run(t, &service{}, query, "") {
				require.True(t, json.Valid([]byte(r)), r)
				require.Less(t, len(r), 16<<10)
			}
		})
	}
	require.Contains(t, run(t, &service{}, "query a{__typename} query b{__typename}", "")[0], "operationName")
	long := strings.Repeat("é", 1<<19)
	require.Less(t, len(run(t, &service{}, `mutation($j: JobInput!){submit(job:$j){token}}`, `{"j":{"kind":"k","`+long+`":1}}`)[0]), 2<<10)
	require.Contains(t, run(t, &service{}, "{job(id:1){... @defer{id}}}", "")[0], `Unknown directive \"@defer\"`)
}

func spreads(from, to int) (s string) {
	for i := from; i <= to; i++ {
		s += fmt.Sprintf("...f%d ", i)
	}
	return s
}

// A job's input is what was written, wherever it stands.
func TestInputAsWritten(t *testing.T) {
	const literal, ofLiteral = `{z:1.0,a:[1.50,1e30,"<é\u00e9>",[]],m:{}}`, `{"z":1.0,"a":[1.50,1e30,"<éé>",[]],"m":{}}`
	const input = `{"z":1.0,"a":[12345678901234567890,1e400,"<é\u00e9>"],"m":{}}`
	for name, tc := range map[string]struct{ query, variables string }{
		"input":          {`mutation($i: JSON){submit(job:{kind:"k",input:$i}){token}}`, `{"i":` + input + `}`},
		"job":            {`mutation($j: JobInput!){submit(job:$j){token}}`, `{"j":{"kind":"k","input":` + input + `}}`},
		"default":        {`mutation($i: JSON = ` + literal + `){submit(job:{kind:"k",input:$i}){token}}`, ``},
		"job by default": {`mutation($j: JobInput! = {kind:"k",input:` + literal + `}){submit(job:$j){token}}`, ``},
		"not the other":  {`mutation($i: JSON = [], $j: JobInput = {kind:"d",input:[]}){submit(job:{kind:"k",input:$i}){token} cancel(job:"j"){id} s:submit(job:$j){token}}`, `{"i":` + input + `,"j":{"kind":"k","input":` + input + `}}`},
		"in a literal":   {`mutation($z: JSON, $m: JSON, $a: JSON, $none: JSON){submit(job:{kind:"k",input:{z:$z,none:$none,a:$a,m:$m}}){token}}`, `{"z":1.0,"a":[12345678901234567890,1e400,"<é\u00e9>"],"m":{}}`},
		"fragment":       {`mutation($i: JSON){...f} fragment f on Mutation{submit(job:{kind:"k",input:$i}){token}}`, `{"i":` + input + `}`},
		"unused":         {`mutation($j: JobInput!, $k: String){submit(job:$j){token job{kind @skip(if:false)} } cancel(job:"j",reason:$k){id}}`, `{"j":{"kind":"k","input":` + input + `}, "other": 1}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := new(service)
			require.NotContains(t, run(t, s, tc.query, tc.variables)[0], "errors")
			got, ok := s.submitted.Input.ValueOK()
			require.True(t, ok)
			if strings.Contains(name, "default") {
				require.Equal(t, ofLiteral, string(got))
				return
			}
			require.Equal(t, input, string(got))
		})
	}
	for literal, want := range map[string]string{
		`{b: 1, a: [1.50, "<", true, null, low]}`: `{"b":1,"a":[1.50,"<",true,null,"low"]}`,
		`{a: [], b: {}, c: [[]]}`:                 `{"a":[],"b":{},"c":[[]]}`,
		`[]`:                                      `[]`,
		`null`:                                    `null`,
		`"x\u00e9\n"`:                             `"xé\n"`,
		`"""block"""`:                             `"block"`,
		`7`:                                       `7`,
		`-0`:                                      `-0`,
		`1.234567890123456789e3`:                  `1.234567890123456789e3`,
	} {
		s := new(service)
		require.NotContains(t, run(t, s, `mutation{submit(job:{kind:"k",input:`+literal+`}){token}}`, "")[0], "errors")
		require.True(t, s.submitted.Input.IsSet())
		got, err := s.submitted.Input.Value().MarshalJSON()
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	s := new(service)
	run(t, s, `mutation{submit(job:{kind:"k"}){token}}`, "")
	require.False(t, s.submitted.Input.IsSet())
}

// Each response knows its event; what an event has is shown as it is.
func TestEventsOfAResponse(t *testing.T) {
	id := "7-1-1"
	object := JSON(`{"id":"7-1-1","data":{"b" : "<\u2028>"}}`)
	s := &service{events: []*Event{{ID: &id, Seq: 7, Type: "x", Data: JSON(`[ 1 ]`), Object: object}, {Object: JSON(`1`)}}}
	require.Equal(t, []string{
		`{"data":{"e":{"seq":7,"data":[ 1 ],"object":` + string(object) + `}},"extensions":{"id":"7-1-1"}}`,
		`{"data":{"e":{"seq":0,"data":null,"object":1}}}`,
	}, run(t, s, `subscription{e:events(job:"j"){seq data object}}`, ""))
}

// Whatever goes wrong is a problem, and only what is the client's to know is told.
func TestErrors(t *testing.T) {
	p := job.Problemf("queue-full", "There are 7.")
	p.RetryAfter, p.Status, p.Errors = 3e9, 503, []job.FieldError{{Pointer: "/a", Detail: "b"}}
	require.JSONEq(t, `{"data":{"x":null},"errors":[{"message":"There are 7.","path":["x"],"extensions":{"code":"queue-full","type":"/problems/queue-full",
		"title":"The queue of this kind is full","status":503,"detail":"There are 7.","errors":[{"pointer":"/a","detail":"b"}],"retry_after":3}}]}`,
		run(t, &service{err: p}, `{x:job(id:1){id}}`, "")[0])
	for _, query := range []string{`{job(id:1){id}}`, `subscription{events(job:"j"){id}}`, `mutation{cancel(job:"j"){id}}`} {
		s := &service{err: fmt.Errorf("secret")}
		r := run(t, s, query, "")[0]
		require.Contains(t, r, `"code":"internal"`)
		require.NotContains(t, r, "secret")
	}
	var nobody *service // all of it panics
	r := run(t, nobody, `mutation{submit(job:{kind:"k"}){token}}`, "")[0]
	require.Contains(t, r, `"code":"internal"`)
	require.NotContains(t, r, "nil pointer")
	for job, detail := range map[string]string{
		`{"kind":5}`:                                 "must be a string",
		`{"kind":"k","tags":[1]}`:                    "must be a string",
		`{"kind":"k","runAt":1}`:                     "must be a string",
		`{"kind":"k","priority":1}`:                  "not a valid Priority",
		`{"kind":"k","maxAttempts":"3"}`:             "must be a whole number",
		`{"kind":"k","maxAttempts":2147483648}`:      "overflow",
		`{"kind":"k","webhook":{"url":"u","to":""}}`: "unknown field",
		`{"kind":"k","webhook":"u"}`:                 "must be a WebhookInput",
	} {
		r := run(t, &service{}, `mutation($j: JobInput!){submit(job:$j){token}}`, `{"j":`+job+`}`)[0]
		require.Contains(t, r, `"code":"invalid-request"`, job)
		require.Contains(t, r, detail)
	}
	for variables, detail := range map[string]string{
		`[]`:               "variables: must be an object",
		`{"n":"x"}`:        "cannot use",
		`{"n":1.5}`:        "cannot use",
		`{"n":3000000000}`: "overflow",
	} {
		r := run(t, &service{}, `mutation($n: Int){submit(job:{kind:"k",maxAttempts:$n}){token}}`, variables)[0]
		require.Contains(t, r, `"code":"invalid-request"`, variables)
		require.Contains(t, r, detail)
	}
}

// Whatever the query, there are responses that clients can read, and not many of them.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{
		jobs(2), submits(2), `subscription($a: String){e:events(job:"j", after:$a, types:["x"]){id ...f}} fragment f on Event{seq data object}`,
		`query a($x: [String!] = ["y"], $y: JSON){job(id:1){... on Job @skip(if:false){links{self}}} __type(name:"Job"){fields(includeDeprecated:true){name}}} query b{__typename}`,
		`mutation{submit(job:{kind:"k", input:{a:[1.5,"""b""",null,true,c]}, priority:high, maxAttempts:3}){token} cancel(job:"j", reason:"\u00e9"){id}}`,
	} {
		f.Add(query, `{"a":"1","x":null,"y":{"z":[1,{}]}}`)
	}
	id := "1-1-1"
	f.Fuzz(func(t *testing.T, query, variables string) {
		if !json.Valid([]byte(variables)) {
			return
		}
		responses := run(t, &service{events: []*Event{{ID: &id, Object: JSON(`1`)}, {ID: &id, Object: JSON(`2`)}}}, query, variables)
		require.LessOrEqual(t, len(responses), 2)
		for _, r := range responses {
			require.True(t, json.Valid([]byte(r)), "%s", r)
			require.NotContains(t, r, "panic")
		}
	})
}
