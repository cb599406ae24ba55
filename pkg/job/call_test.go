package job_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

// What HTTP carries need not be UTF-8, and none of it may become another byte.
func TestCallIsStoredByteForByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })
		want := job.Call{Method: "POST", Target: job.Octets(text.Draw(t, "target"))}
		want.Header = rapid.MapOf(rapid.StringMatching(`[A-Z][a-z]{0,5}`), rapid.SliceOf(text)).Draw(t, "header")
		r := job.Record{Seq: 1, Type: job.Queued, Data: job.MustData(nil), Private: &job.Private{Request: &job.Request{Call: &want}}}
		line := r.AppendLine(nil, job.NewID())
		got, _, err := job.ParseLine(line[:len(line)-1])
		require.NoError(t, err)
		require.Equal(t, want.Target, got.Private.Request.Call.Target)
		require.Len(t, got.Private.Request.Call.Header, len(want.Header))
		for name, values := range want.Header {
			require.ElementsMatch(t, values, got.Private.Request.Call.Header[name])
		}
	})
}

// What was stored before there were routes reads as it did, and the other way around.
func TestResultWithoutAnAnswer(t *testing.T) {
	const stored = `{"type":"text/plain","size":3,"sha256":"ab","lease":2}`
	var r job.Result
	require.NoError(t, json.Unmarshal([]byte(stored), &r))
	require.Nil(t, r.Answer)
	require.True(t, r.Plain())
	require.JSONEq(t, stored, string(job.MustData(&r)))
	require.NotContains(t, string(r.Reference("job_1")), "status")
}

// While a job waits nobody holds its request in memory: its headers may be long, and many
// jobs may wait.
func TestCallIsNotHeld(t *testing.T) {
	q := &job.Request{Kind: "k", MaxAttempts: 3, Call: &job.Call{Method: "GET", Target: "/x"}}
	j := job.Job{ID: job.NewID()}
	r := job.Record{Seq: 1, Type: job.Queued, Attempt: 1, Private: &job.Private{Request: q}, Data: job.MustData(job.QueuedData{Attempt: 1})}
	require.NoError(t, j.Fold(&r, job.Place{}))
	require.Nil(t, j.Request.Call)
	require.Equal(t, 3, j.Request.MaxAttempts)
	require.NotNil(t, r.Private.Request.Call, "what is stored has it")
}
