package handlers

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// talker is the other end of a socket for GraphQL. It hears while it talks, as the wire has
// no room for what is on its way.
type talker struct {
	*peer
	heard chan string
	end   error // why there is no more to hear
}

// knock opens a socket for GraphQL, and says nothing yet.
func (s *service) knock(path string, headers ...string) *talker {
	s.t.Helper()
	p, _, err := s.dial(path, append([]string{"Sec-WebSocket-Protocol", graphProtocol}, headers...)...)
	require.NoError(s.t, err)
	k := &talker{peer: p, heard: make(chan string, 100)}
	go k.listen()
	return k
}

func (k *talker) listen() {
	defer close(k.heard)
	for {
		_, b, err := k.Read(context.Background())
		if err != nil {
			k.end = err
			return
		}
		k.heard <- string(b)
	}
}

// enter opens one and is let in.
func (s *service) enter(headers ...string) *talker {
	s.t.Helper()
	p := s.knock("/graphql", headers...)
	p.say(`{"type":"connection_init"}`)
	p.hears(`{"type":"connection_ack"}`)
	return p
}

func (p *talker) say(text string) {
	p.t.Helper()
	require.NoError(p.t, p.Write(p.t.Context(), websocket.MessageText, []byte(text)))
}

// hear returns the next message.
func (p *talker) hear() string {
	p.t.Helper()
	text, ok := <-p.heard
	if !ok {
		require.NoError(p.t, p.end)
	}
	return text
}

// closed hears to the end, of which nothing but the code is left.
func (p *talker) closed(code websocket.StatusCode) {
	p.t.Helper()
	for text := range p.heard {
		require.Fail(p.t, text)
	}
	require.Equal(p.t, code, websocket.CloseStatus(p.end), "%v", p.end)
}

func (p *talker) hears(want string) {
	p.t.Helper()
	require.Equal(p.t, want, p.hear())
}

// subscribe begins an operation.
func (p *talker) subscribe(id, query string, variables ...any) {
	p.t.Helper()
	p.say(fmt.Sprintf(`{"type":"subscribe","id":%q,"payload":%s}`, id, queried(query, variables...)))
}

const seqQuery = `subscription($job: ID!, $after: String){events(job:$job, after:$after){seq type}}`

// next returns the message for an event.
func nextOf(id string, seq int, t job.Type) string {
	return fmt.Sprintf(`{"id":%q,"type":"next","payload":{"data":{"events":{"seq":%d,"type":%q}},"extensions":{"id":"%d-%d-1"}}}`, id, seq, t, seq, 99+seq)
}

// Operations run side by side, each to its end; an id is free when it is over.
func TestGraphQLSocket(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		p := s.enter()
		p.say(`{"type":"ping","payload":{"a":1}}`)
		p.hears(`{"type":"pong"}`)
		p.say(`{"type":"pong"}`)
		p.subscribe("a", seqQuery, "job", id)
		p.hears(nextOf("a", 1, job.Queued))
		p.subscribe("b", seqQuery, "job", id, "after", "1-100-1")
		p.subscribe("c", `query($job: ID!){job(id:$job){status}}`, "job", id)
		p.hears(`{"id":"c","type":"next","payload":{"data":{"job":{"status":"queued"}}}}`)
		p.hears(`{"id":"c","type":"complete"}`)
		p.subscribe("c", `mutation($job: JobInput!){submit(job:$job){job{kind}}}`, "job", map[string]any{"kind": "report", "input": 1})
		p.hears(`{"id":"c","type":"next","payload":{"data":{"submit":{"job":{"kind":"report"}}}}}`)
		p.hears(`{"id":"c","type":"complete"}`)
		s.begin(id)
		require.ElementsMatch(t, []string{nextOf("a", 2, job.Running), nextOf("b", 2, job.Running)}, []string{p.hear(), p.hear()})
		p.say(`{"type":"complete","id":"a"}`)
		p.say(`{"type":"complete","id":"nobody"}`)
		synctest.Wait()
		s.succeed(id, "1")
		p.hears(nextOf("b", 3, job.Succeeded))
		p.hears(`{"id":"b","type":"complete"}`)
		p.subscribe("a", seqQuery, "job", id, "after", "3-102-1")
		p.hears(`{"id":"a","type":"complete"}`)
		require.NoError(t, p.Close(websocket.StatusNormalClosure, ""))
	})
}

// What an operation is refused for is its error, and the socket goes on.
func TestGraphQLSocketErrors(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		p := s.enter("Authorization", "Bearer "+s.signer.Mint(id, anonymous, time.Time{}))
		for payload, code := range map[string]string{
			queried("{"):                          "invalid-request",
			queried("{nothing}"):                  "invalid-request",
			`{}`:                                  "invalid-request",
			queried(seqQuery, "job", "job_none"):  "not-found",
			queried(cancelQuery, "job", id):       "forbidden",
			queried(seqQuery):                     "invalid-request",
			queried(seqQuery, "job", job.NewID()): "not-found",
			queried("subscription{__typename}"):   "invalid-request",
		} {
			p.say(`{"type":"subscribe","id":"a","payload":` + payload + `}`)
			var m struct {
				ID, Type string
				Payload  []struct{ Extensions struct{ Code string } }
			}
			require.NoError(t, json.Unmarshal([]byte(p.hear()), &m))
			require.Equal(t, "a error", m.ID+" "+m.Type, payload)
			require.Equal(t, code, m.Payload[0].Extensions.Code, payload)
		}
		p.subscribe("a", jobQuery, "job", "job_none") // a response that has data is one
		require.Contains(t, p.hear(), `"type":"next"`)
		p.hears(`{"id":"a","type":"complete"}`)
		s.api.Jobs = panicking{}
		p.subscribe("a", seqQuery, "job", id)
		require.Contains(t, p.hear(), `"code":"internal"`)
		require.NoError(t, p.CloseNow())
	})
}

// Who does not keep to the protocol is told by the code, as the protocol has it.
func TestGraphQLSocketProtocol(t *testing.T) {
	const subscribe = `{"type":"subscribe","id":"a","payload":{"query":"subscription{events(job:\"JOB\"){seq}}"}}`
	for name, tc := range map[string]struct {
		code  websocket.StatusCode
		texts []string
	}{
		"operation first": {4401, []string{subscribe}},
		"two inits":       {4429, []string{`{"type":"connection_init"}`, `{"type":"connection_init"}`}},
		"same id":         {4409, []string{`{"type":"connection_init"}`, subscribe, subscribe}},
		"no JSON":         {4400, []string{"hello"}},
		"empty":           {4400, []string{""}},
		"array":           {4400, []string{"[]"}},
		"no type":         {4400, []string{`{"id":"a"}`}},
		"other type":      {4400, []string{`{"type":"start"}`}},
		"type of no type": {4400, []string{`{"type":1}`}},
		"twice":           {4400, []string{`{"type":"ping","type":"ping"}`}},
		"no id":           {4400, []string{`{"type":"connection_init"}`, `{"type":"subscribe","payload":{"query":"{__typename}"}}`}},
		"long id":         {4400, []string{`{"type":"connection_init"}`, `{"type":"subscribe","id":"` + strings.Repeat("x", 129) + `","payload":{"query":"{__typename}"}}`}},
		"no payload":      {4400, []string{`{"type":"connection_init"}`, `{"type":"subscribe","id":"a"}`}},
		"null":            {4400, []string{`{"type":"connection_init"}`, `{"type":"subscribe","id":"a","payload":null}`}},
		"payload":         {4400, []string{`{"type":"connection_init","payload":7}`}},
		"large":           {websocket.StatusMessageTooBig, []string{`{"type":"ping","payload":{"a":"` + strings.Repeat("x", 4<<10) + `"}}`}},
		"nothing":         {4408, nil},
		"pings only":      {4408, []string{`{"type":"ping"}`}},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				begin, p := time.Now(), s.knock("/graphql")
				for _, text := range tc.texts {
					p.say(strings.ReplaceAll(text, "JOB", string(id)))
				}
				for range p.heard {
				}
				require.Equal(t, tc.code, websocket.CloseStatus(p.end))
				if tc.code == closeNoInit {
					require.Equal(t, initTimeout, time.Since(begin))
				}
			})
		})
	}
	serve(t, func(t *testing.T, s *service) {
		other, _, err := s.dial("/graphql") // it speaks millstream.v1
		require.NoError(t, err)
		other.closed(closeProtocol)
		_, resp, err := s.dial("/graphql", "Sec-WebSocket-Protocol", graphProtocol, "Origin", "https://evil.example")
		require.Error(t, err)
		require.Equal(t, 403, resp.StatusCode)
		p := s.enter()
		p.subscribe(strings.Repeat("x", 128), "{__typename}")
		p.hear()
		p.hear()
		require.NoError(t, p.Write(t.Context(), websocket.MessageBinary, []byte(`{"type":"ping"}`)))
		p.closed(closeBadMessage)
	})
}

// A token comes with the handshake or with connection_init, once.
func TestGraphQLSocketTokens(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		token := s.signer.Mint(id, anonymous, time.Time{})
		for _, way := range []struct{ query, init string }{
			{"?access_token=" + token, `{"type":"connection_init"}`},
			{"", `{"type":"connection_init","payload":{"Authorization":"Bearer ` + token + `"}}`},
			{"", `{"type":"connection_init","payload":{"authorization":"bearer ` + token + `","other":[]}}`},
			{"", `{"type":"connection_init","payload":{"access_token":"` + token + `"}}`},
		} {
			p := s.knock("/graphql" + way.query)
			p.say(way.init)
			p.hears(`{"type":"connection_ack"}`)
			p.subscribe("a", jobQuery, "job", id)
			require.Contains(t, p.hear(), `"type":"next"`)
			p.hear()
			p.subscribe("a", cancelQuery, "job", id)
			require.Contains(t, p.hear(), `"code":"forbidden"`)
			require.NoError(t, p.CloseNow())
		}
		for _, way := range []struct{ query, init string }{
			{"", `{"type":"connection_init"}`},
			{"", `{"type":"connection_init","payload":{"Authorization":"Basic eDp5"}}`},
			{"", `{"type":"connection_init","payload":{"access_token":"x"}}`},
			{"", `{"type":"connection_init","payload":{"access_token":""}}`},
			{"?access_token=" + token, `{"type":"connection_init","payload":{"access_token":"` + token + `"}}`},
			{"", `{"type":"connection_init","payload":{"access_token":"` + token + `","Authorization":"Bearer key"}}`},
			{"", `{"type":"connection_init","payload":{"Authorization":"Bearer key","access_token":"` + token + `"}}`},
		} {
			p := s.knock("/graphql" + way.query)
			p.say(way.init)
			p.closed(closeForbidden)
		}
		_, resp, err := s.dial("/graphql?access_token=x", "Sec-WebSocket-Protocol", graphProtocol)
		require.Error(t, err)
		require.Equal(t, 401, resp.StatusCode)
		p := s.knock("/graphql")
		p.say(`{"type":"connection_init","payload":{"Authorization":"Bearer key"}}`)
		p.hears(`{"type":"connection_ack"}`)
		p.subscribe("a", cancelQuery, "job", id)
		require.Contains(t, p.hear(), `"status":"canceled"`)
		require.NoError(t, p.CloseNow())
	}, func(a *API) { a.Admin = func(key string) bool { return key == "key" } })
}

// Subscriptions end with the server or with the token, and the socket behind them; an idle
// one too.
func TestGraphQLSocketEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		code   websocket.StatusCode
		reason string
		end    func(s *service)
	}{
		"drain":     {closeDrain, "drain", func(s *service) { close(s.quit); s.api.Drain(); s.api.Drain() }},
		"token end": {closeUnauthorized, "unauthorized", func(*service) {}},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				token := "Bearer " + s.signer.Mint(id, anonymous, time.Now().Add(20*time.Second))
				p, idle := s.enter("Authorization", token), s.enter("Authorization", token)
				p.subscribe("a", seqQuery, "job", id)
				p.hears(nextOf("a", 1, job.Queued))
				synctest.Wait()
				tc.end(s)
				require.Contains(t, p.hear(), `{"seq":1,"type":"stream.end"}},"extensions":{"id":"1-100-1"}`)
				p.hears(`{"id":"a","type":"complete"}`)
				p.closed(tc.code)
				idle.closed(tc.code)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				s.api.Wait(ctx)
				require.NoError(t, ctx.Err())
			})
		})
	}
}

// A server that stops lets in nobody new for long.
func TestGraphQLSocketOfADrainingServer(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.api.Drain()
		s.knock("/graphql").closed(closeDrain)
	})
}

// A socket has a place among the streams, its first subscription with it; each other one
// needs another.
func TestGraphQLSocketPlaces(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		p := s.enter()
		require.EqualValues(t, 1, s.api.open.Load())
		for i, open := range []int64{1, 2, 3} {
			p.subscribe(fmt.Sprint(i), seqQuery, "job", id)
			p.hears(nextOf(fmt.Sprint(i), 1, job.Queued))
			require.Equal(t, open, s.api.open.Load())
		}
		p.subscribe("d", seqQuery, "job", id)
		require.Contains(t, p.hear(), `{"seq":0,"type":"stream.end"}`)
		p.hears(`{"id":"d","type":"complete"}`)
		other := s.knock("/graphql") // it is not known who that is
		synctest.Wait()
		require.EqualValues(t, 3, s.api.open.Load())
		other.say(`{"type":"connection_init"}`)
		other.closed(closeBusy)
		for i, open := range []int64{2, 1, 1} {
			p.say(fmt.Sprintf(`{"type":"complete","id":"%d"}`, i))
			synctest.Wait()
			require.Equal(t, open, s.api.open.Load())
		}
		require.NoError(t, p.CloseNow())
	})
}

// As many operations as a socket may have run at once; ones that were let go count until
// they have ended.
func TestGraphQLSocketOperations(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		p := s.enter()
		for i := range maxOperations {
			p.subscribe(fmt.Sprint(i), seqQuery, "job", id)
			p.hears(nextOf(fmt.Sprint(i), 1, job.Queued))
		}
		p.subscribe("more", seqQuery, "job", id)
		require.Contains(t, p.hear(), `"code":"rate-limited"`)
		for range 1000 { // a flood is nothing but work for who sends it
			p.say(`{"type":"complete","id":"0"}`)
			p.subscribe("0", seqQuery, "job", id, "after", "1-100-1")
			p.say(`{"type":"ping"}`)
			for m := p.hear(); m != `{"type":"pong"}`; m = p.hear() {
				require.Contains(t, m, `"code":"rate-limited"`)
			}
			require.LessOrEqual(t, s.api.open.Load(), int64(maxOperations))
		}
		require.NoError(t, p.CloseNow())
	}, func(a *API) { a.Streams = 1000 })
}

// A client that does not read, or does not answer a ping, is let go with all its operations.
func TestGraphQLSocketOfNobody(t *testing.T) {
	for name, quiet := range map[string]bool{"silent": true, "stuck": false} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				p, _, err := s.dial("/graphql", "Sec-WebSocket-Protocol", graphProtocol)
				require.NoError(t, err)
				for _, text := range []string{`{"type":"connection_init"}`, `{"type":"subscribe","id":"a","payload":` + queried(seqQuery, "job", id) + `}`} {
					require.NoError(t, p.Write(t.Context(), websocket.MessageText, []byte(text)))
					_, _, err = p.Read(t.Context())
					require.NoError(t, err)
				}
				if !quiet {
					s.begin(id)
				}
				time.Sleep(15*time.Second + writeTimeout + time.Second)
				require.Zero(t, s.readers())
				require.Zero(t, s.api.open.Load())
			})
		})
	}
}
