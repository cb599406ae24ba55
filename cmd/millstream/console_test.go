package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vbauerster/mpb/v8"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

func outputEvent(index int, text string) *client.Event {
	e := new(client.Event)
	e.Type, e.Attempt = job.Output, 1
	e.Data = job.MustData(map[string]any{"index": index, "chunk": text})
	return e
}

// TestConsole_aboveTheBar: while there is a bar on the terminal, output goes
// above it in whole lines, however it comes; afterwards it is written as it is.
func TestConsole_aboveTheBar(t *testing.T) {
	var direct, bar bytes.Buffer
	s := &console{out: &output{w: &direct}, status: &bar, screen: &direct, shared: true}
	require.NoError(t, s.show(outputEvent(0, "no line yet")))
	s.begin(&bars{Progress: mpb.New(mpb.WithOutput(&bar), mpb.WithAutoRefresh())})
	require.Equal(t, "no line yet\n", direct.String(), "the bar begins on a line of its own")
	for i, text := range []string{"par", "tial\nmo", "", "re\n\nend"} {
		require.NoError(t, s.show(outputEvent(i+1, text)))
	}
	s.line("said")
	s.close()
	require.Equal(t, "no line yet\n", direct.String())
	require.Equal(t, "partial\nmore\n\nsaid\nend\n", bar.String())

	require.NoError(t, s.show(outputEvent(9, "x")))
	require.Equal(t, "no line yet\nx", direct.String())
	s.line("a line does not begin in one of output")
	require.Contains(t, bar.String(), "end\n\na line")
}

func TestConsole_apart(t *testing.T) {
	var out, status bytes.Buffer
	s := newConsole(&output{w: &out}, &status)
	require.NoError(t, s.show(outputEvent(0, "no line")))
	s.line("said")
	s.close()
	require.Equal(t, "no line", out.String())
	require.Equal(t, "said\n", status.String())
}
