package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/millstream/millstream/pkg/access"
	"github.com/millstream/millstream/pkg/job"
)

// wire is a listener without a network: synctest knows when it is idle.
type wire struct {
	conns chan net.Conn
	down  chan struct{}
	close sync.Once
}

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.down:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error {
	w.close.Do(func() { close(w.down) })
	return nil
}

func (w *wire) Addr() net.Addr { return &net.TCPAddr{} }

func (w *wire) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case w.conns <- far:
		return near, nil
	case <-w.down:
		return nil, net.ErrClosed
	}
}

// service is the API over a world, behind a real server, with a client.
type service struct {
	*world
	t      *testing.T
	api    *API
	wire   *wire
	client *http.Client
	logs   *observer.ObservedLogs
	signer *access.Signer
}

// kinds are what every service serves.
var kinds = map[string]job.Kind{
	"report": {Name: "report", Worker: "func", Description: "Makes a report.", Timeout: 10 * time.Minute},
	"resize": {
		Name: "resize", Worker: "http", MaxInput: 512,
		Input: []byte(`{"type":"object","required":["url"],"properties":{"url":{"type":"string"},"width":{"type":"integer","minimum":1}}}`),
	},
}

// serve runs test against a service in a bubble of synctest, where time passes
// only while everybody waits. edit changes the API before it is built.
func serve(t *testing.T, test func(t *testing.T, s *service), edit ...func(*API)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, edit...)
		server := &http.Server{Handler: s.handler(), Protocols: new(http.Protocols)}
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
		go func() { _ = server.Serve(s.wire) }()
		defer func() {
			s.client.CloseIdleConnections()
			require.NoError(t, server.Close())
			synctest.Wait()
			require.Zero(t, s.readers(), "readers of the hub that nobody closed")
			require.Zero(t, s.api.open.Load(), "streams that nobody left")
		}()
		test(t, s)
	})
}

func newService(t *testing.T, edit ...func(*API)) *service {
	core, logs := observer.New(zapcore.DebugLevel)
	w := newWorld(t)
	s := &service{
		world: w, t: t, logs: logs,
		wire:   &wire{conns: make(chan net.Conn), down: make(chan struct{})},
		signer: access.NewSigner(bytes.Repeat([]byte{7}, access.KeySize)),
	}
	s.client = &http.Client{
		Transport:     &http.Transport{DialContext: s.wire.dial},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s.api = &API{
		Store: w, Jobs: w, Queue: w, Hub: w, Tokens: s.signer, Kinds: kinds, Log: zap.New(core),
		Heartbeat: 15 * time.Second, Body: 4 << 10, Streams: 3,
	}
	for _, f := range edit {
		f(s.api)
	}
	return s
}

func (s *service) handler() http.Handler {
	s.t.Helper()
	h, err := s.api.Handler()
	require.NoError(s.t, err)
	return h
}

// request returns a request; headers are pairs of name and value.
func (s *service) request(method, path, body string, headers ...string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	require.NoError(s.t, err)
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// chunked returns a request whose body does not tell its length beforehand.
func (s *service) chunked(method, path, body string, headers ...string) *http.Request {
	s.t.Helper()
	r := s.request(method, path, "", headers...)
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), -1
	return r
}

// answer is an answer that was read to its end.
type answer struct {
	*http.Response
	body string
}

func (s *service) do(method, path, body string, headers ...string) answer {
	s.t.Helper()
	return s.send(s.request(method, path, body, headers...))
}

func (s *service) send(r *http.Request) answer {
	s.t.Helper()
	resp, err := s.client.Do(r)
	require.NoError(s.t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	require.NoError(s.t, resp.Body.Close())
	return answer{resp, string(b)}
}

func (s *service) get(path string, headers ...string) answer {
	s.t.Helper()
	return s.do(http.MethodGet, path, "", headers...)
}

func (s *service) post(path, body string, headers ...string) answer {
	s.t.Helper()
	return s.do(http.MethodPost, path, body, append([]string{"Content-Type", jsonType}, headers...)...)
}

// into decodes the body.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(a.body), v), a.body)
}

// problem checks that the answer is a problem of this name and returns it.
func (s *service) problem(a answer, status int, name string) job.Problem {
	s.t.Helper()
	require.Equal(s.t, status, a.StatusCode, a.body)
	require.Equal(s.t, problemType, a.Header.Get("Content-Type"))
	var p job.Problem
	a.into(s.t, &p)
	require.Equal(s.t, status, p.Status)
	require.Equal(s.t, "/problems/"+name, p.Type)
	require.Equal(s.t, job.Titles[name], p.Title)
	require.NotEmpty(s.t, p.Instance)
	return p
}

// submit stores a job of the kind report, past the routes.
func (s *service) submit() job.ID {
	s.t.Helper()
	id := job.NewID()
	_, err := s.Submit(context.Background(), id, &job.Request{Kind: "report", Owner: anonymous, MaxAttempts: 3})
	require.NoError(s.t, err)
	return id
}
