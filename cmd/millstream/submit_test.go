package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// An interrupt ends a submit whose input does not come.
func TestRead_interrupted(t *testing.T) {
	in, silent := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := new(submission).read(ctx, in)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, silent.Close())
}

func TestCheck_runAt(t *testing.T) {
	s := submission{runAt: "2026-11-22T10:00:00+01:00"}
	require.NoError(t, s.check())
	require.Equal(t, time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), s.options.RunAt.UTC())
	s.runAt = "tomorrow"
	require.ErrorContains(t, s.check(), "--run-at tomorrow")
}

// What is longer than most servers take is sent while it is read, and is what it
// seems to be all the same.
func TestRead_long(t *testing.T) {
	list := "[" + strings.Repeat("\"text\",\n", maxPeek/8) + "0]"
	for input, want := range map[string]string{
		list:                             "application/json",
		"[1}" + list:                     "text/plain; charset=utf-8",
		strings.Repeat("text\n", 300000): "text/plain; charset=utf-8",
		strings.Repeat("\x00", 2000000):  "application/octet-stream",
	} {
		var s submission
		got, err := s.read(t.Context(), strings.NewReader(input))
		require.NoError(t, err)
		require.Equal(t, want, s.options.ContentType)
		all, err := io.ReadAll(got)
		require.NoError(t, err)
		require.True(t, string(all) == input)

		endless := io.MultiReader(strings.NewReader(input), iotest.ErrReader(io.ErrNoProgress))
		got, err = s.read(t.Context(), endless)
		require.NoError(t, err)
		_, err = io.ReadAll(got)
		require.ErrorIs(t, err, io.ErrNoProgress)
	}
}

// sender answers requests without a network; with "" nobody does.
type sender func(*http.Request) string

func (s sender) RoundTrip(r *http.Request) (*http.Response, error) {
	text := s(r)
	if text == "" {
		return nil, errors.New("nobody is there")
	}
	h := http.Header{"Content-Type": {"text/event-stream"}}
	return &http.Response{StatusCode: http.StatusOK, Request: r, Header: h, ContentLength: int64(len(text)), Body: io.NopCloser(strings.NewReader(text))}, nil
}

// The time to wait is for the job's end, and not for what is to be done then.
func TestFollowOne_within(t *testing.T) {
	bounded := map[string]bool{}
	c, err := client.New("http://s", &client.Options{HTTP: &http.Client{Transport: sender(func(r *http.Request) string {
		_, bounded[r.URL.Path[len("/v1/jobs/"+fakeID("output")):]] = r.Context().Deadline()
		e := job.Event{Job: fakeID("output"), Record: job.Record{Seq: 1, Type: job.Succeeded, Data: json.RawMessage(`{"result":"x"}`)}}
		if strings.HasSuffix(r.URL.Path, "/events") {
			return "id: 1-1-1\nevent: job.succeeded\ndata: " + string(e.AppendJSON(nil)) + "\n\n"
		}
		return `{"id":"` + string(e.Job) + `"}`
	})}})
	require.NoError(t, err)
	for _, v := range []view{viewAll, viewResult, viewJob} {
		var out bytes.Buffer
		require.NoError(t, (&remote{Client: c}).followOne(t.Context(), fakeID("output"), following{view: v, within: time.Hour}, &out, io.Discard))
		require.NotEmpty(t, out.String())
	}
	require.Equal(t, map[string]bool{"/events": true, "/result": false, "": false}, bounded)
}

// Who watches is told when the server is away.
func TestFollowOne_lost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := job.Event{Job: fakeID("output"), Record: job.Record{Seq: 1, Type: job.Canceled}}
		tries := 0
		r := &remote{}
		c, err := client.New("http://s", &client.Options{Lost: r.lost, Found: r.found, HTTP: &http.Client{Transport: sender(func(*http.Request) string {
			switch tries++; tries {
			case 1:
				return ": a stream that is cut\n\n"
			case 2, 3:
				return ""
			}
			return "id: 1-1-1\nevent: job.canceled\ndata: " + string(e.AppendJSON(nil)) + "\n\n"
		})}})
		require.NoError(t, err)
		r.Client = c
		var status bytes.Buffer
		err = r.followOne(t.Context(), e.Job, following{}, io.Discard, &status)
		require.Equal(t, exitCanceled, exitCode(err))
		require.Regexp(t, `^[\d:]+ the server is away \(nobody is there\): trying again\n[\d:]+ the server is back\n[\d:]+ canceled\n$`, status.String())
	})
}
