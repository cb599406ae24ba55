package torture

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What an EventSource forgives is a surprise; what a cut connection leaves is none.
func TestFrames(t *testing.T) {
	const whole = "event: job.queued\ndata: {\"id\":\"1-1-1\",\"type\":\"job.queued\"}\nid: 1-1-1\n\n"
	for _, tt := range []struct {
		name, text string
		events     int
		surprise   bool
	}{
		{"two", "retry: 20\n" + whole + ":\n" + whole, 2, false},
		{"cut behind one", whole + "event: job.q", 1, false},
		{"cut before the blank line", strings.TrimSuffix(whole, "\n"), 0, false},
		{"cut in the data", whole[:len(whole)-8], 0, false},
		{"no event", strings.Replace(whole, "event: job.queued\n", "", 1), 0, true},
		{"a place", "id: 1-1-1\n\n" + whole, 1, false},
		{"two ids", strings.Replace(whole, "\n\n", "\nid: 1-1-1\n\n", 1), 0, true},
		{"the id first", "id: 1-1-1\n" + strings.Replace(whole, "id: 1-1-1\n", "", 1), 0, true},
		{"no id", strings.Replace(whole, "id: 1-1-1\n", "", 1), 0, true},
		{"another id", strings.Replace(whole, "id: 1-1-1", "id: 2-1-1", 1), 0, true},
		{"no JSON", strings.Replace(whole, "{", "", 1), 0, true},
		{"two lines of data", strings.Replace(whole, "\nid: ", "\ndata: x\nid: ", 1), 0, true},
		{"a field that is none", "x: y\n" + whole, 0, true},
		{"a retry that is none", "retry: soon\n" + whole, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := &frames{in: bufio.NewReader(strings.NewReader(tt.text))}
			n := 0
			_, err := in.read()
			for ; err == nil; _, err = in.read() {
				n++
			}
			require.Equal(t, tt.events, n)
			var u unexpected
			require.Equal(t, tt.surprise, errors.As(err, &u), "%v", err)
			if !tt.surprise {
				require.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), "%v", err)
			}
		})
	}
}

func TestWhatCommandsSay(t *testing.T) {
	require.Equal(t, []said{{Run: "r", N: 1, Of: 12}, {Run: "r", N: 2, Of: 12}}, linesSaid("r 1/12\nnot said\nr 2/12\nr 3/1"))
}
