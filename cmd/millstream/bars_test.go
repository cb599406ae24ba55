package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// A bar says that the server is away for as long as it is, and then what it said
// before: a job may have no news for hours.
func TestBars_lostAndFound(t *testing.T) {
	s := newBars(new(bytes.Buffer), false)
	defer s.close()
	id := fakeID("output")
	b := s.add(id)
	event := func(typ job.Type, data string) {
		t.Helper()
		e := &client.Event{}
		e.Job, e.Type, e.Attempt, e.Data = id, typ, 1, []byte(data)
		require.NoError(t, s.show(e))
	}
	event(job.Progress, `{"progress":4,"total":9}`)
	s.lost(id, "away")
	require.Equal(t, "away", b.label())
	s.found(id)
	require.Equal(t, "4/9", b.label())

	s.lost(id, "away")
	s.found(id)
	event(job.Log, `{}`)
	require.Equal(t, "4/9", b.label(), "a log says nothing about how far it is")
	event(job.Succeeded, `{}`)
	require.Equal(t, "succeeded", b.label())
}
