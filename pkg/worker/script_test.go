package worker

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// FuzzScript looks at what a pull worker may say: it is taken, or a place is named.
func FuzzScript(f *testing.F) {
	for typ, data := range map[job.Type]string{
		job.Progress:  `{"progress":1,"total":2,"message":"m"}`,
		job.Output:    `{"chunk":"AA==","encoding":"base64","offset":1e3}`,
		job.Log:       `{"stream":"s","line":"l"}`,
		job.Succeeded: `{"result":"x","type":"text/plain"}`,
		job.Failed:    `{"error":{"type":"/problems/exit-status","retryable":false}}`,
		job.Queued:    `{}`,
		"checkpoint":  `[1]`,
	} {
		f.Add(string(typ), []byte(data))
	}
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		if !json.Valid(data) {
			return // was refused before
		}
		s := &script{t: &Task{lim: DefaultLimits}, length: 5}
		err := s.read("/0", &job.Said{Type: job.Type(typ), Data: data})
		var p *job.Problem
		switch {
		case err != nil:
			require.True(t, errors.As(err, &p) && len(p.Errors) == 1, "%v", err)
		case s.end == nil:
			require.Len(t, s.lines, 1)
			require.GreaterOrEqual(t, s.length, int64(5))
		default:
			require.True(t, ends([]job.Said{{Type: job.Type(typ)}}))
		}
	})
}

// The place that is named is one that a JSON pointer finds.
func TestPointerOfAMember(t *testing.T) {
	s := &script{t: &Task{lim: DefaultLimits}}
	err := s.read("/0", &job.Said{Type: job.Progress, Data: json.RawMessage(`{"a/b~c":1}`)})
	var p *job.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, "/0/data/a~1b~0c", p.Errors[0].Pointer)
}
