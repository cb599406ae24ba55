package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/millstream"
)

func kindOf(name, description string, schema []byte) millstream.Kind {
	return millstream.Kind{Kind: job.Kind{Name: name, Worker: "exec", Description: description, Input: schema}}
}

func TestBanner(t *testing.T) {
	version = "v1.2.3"
	defer func() { version = "" }()
	var b bytes.Buffer
	banner{url: "http://[::]:8080", data: "./data", samples: true, kinds: []millstream.Kind{
		kindOf("resize", "Makes images small.", []byte("{}")), kindOf("wc", "", nil),
	}}.print(&b)
	require.Equal(t, `
  Millstream v1.2.3 is ready on http://127.0.0.1:8080

  Kinds  resize  Makes images small.
         wc      exec
                 These are samples: see 'millstream serve --help' for kinds of your own.
  Store  ./data

  Submit a job and watch it:

    curl -N http://127.0.0.1:8080/v1/kinds/wc/jobs \
      -H 'Accept: text/event-stream' \
      -H 'Content-Type: text/plain' \
      -d 'slow is smooth and smooth is fast'

  Ctrl-C stops it in peace, twice at once.

`, b.String())
}

func TestBanner_schema(t *testing.T) {
	b := banner{url: "http://a:1", kinds: []millstream.Kind{kindOf("resize", "", []byte("{}"))}}
	require.Contains(t, b.curl(), "/v1/kinds/resize/jobs")
	require.Contains(t, b.curl(), "application/json")
}

func TestBanner_store(t *testing.T) {
	require.Equal(t, "./data", banner{data: "./data"}.store())
	require.Equal(t, "nats://a", banner{data: "./data", nats: "nats://a"}.store())
	require.Equal(t, "in memory: nothing is kept", banner{data: millstream.Memory}.store())
}

// Who is asked for a key is shown where it goes.
func TestBanner_key(t *testing.T) {
	kinds := []millstream.Kind{kindOf("echo", "", nil)}
	require.NotContains(t, banner{url: "http://a:1", kinds: kinds}.curl(), "Authorization")
	require.Contains(t, banner{url: "http://a:1", kinds: kinds, key: true}.curl(), `-H "Authorization: Bearer $MILLSTREAM_KEY"`)
	require.True(t, onLoopback("http://127.0.0.1:8080"))
	require.True(t, onLoopback("http://[::1]:8080"))
	require.False(t, onLoopback("http://[::]:8080"))
	require.False(t, onLoopback("http://10.0.0.1:8080"))
}

// A route has no jobs but requests to its path.
func TestBanner_route(t *testing.T) {
	route := millstream.Route("legacy", millstream.Target{Path: "/legacy/*"})
	only := banner{url: "http://a:1", kinds: []millstream.Kind{route}}.curl()
	require.Contains(t, only, "http://a:1/legacy/ ")
	require.Contains(t, only, "respond-async")
	require.Contains(t, banner{url: "http://a:1", kinds: []millstream.Kind{route, kindOf("wc", "", nil)}}.curl(), "/v1/kinds/wc/jobs")
}
