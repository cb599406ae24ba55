package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// A document that is many times its size once it is decoded is looked through
// without that. (The bomb takes 46 MB as a Go value.)
func TestBomb(t *testing.T) {
	const size = 1 << 20
	for name, piece := range map[string]string{"objects": `{"a":0}`, "empty objects": `{}`, "numbers": `0`, "strings": `""`} {
		t.Run(name, func(t *testing.T) {
			doc := []byte("[" + strings.Repeat(piece+",", size/(len(piece)+1)) + "0]")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			require.NoError(t, checkJSON(doc))
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4*size))
		})
	}
}

func TestDepthOfAnything(t *testing.T) {
	for _, n := range []int{65, 9_999, 10_001, 500_000} {
		err := checkJSON([]byte(strings.Repeat("[", n) + strings.Repeat("]", n)))
		require.ErrorIs(t, err, job.Problemf("invalid-request", ""))
	}
}

// FuzzMembers compares the members of an object with those that the standard library
// finds.
func FuzzMembers(f *testing.F) {
	for _, doc := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a" : [1,{"b":"}"}] , "c":{"d":{}},"e\"\u0041":"\\","":null}`, "\r\n{\t\"a\"\n:\n\"x,y\"\n,\"b\":-1e5 }\n",
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		d := json.NewDecoder(bytes.NewReader(doc))
		if first, err := d.Token(); err != nil || first != json.Delim('{') || checkJSON(doc) != nil {
			return
		}
		for name, raw := range members(doc) {
			token, err := d.Token()
			require.NoError(t, err)
			require.Equal(t, token, name)
			var want json.RawMessage
			require.NoError(t, d.Decode(&want))
			require.Equal(t, string(want), string(raw))
		}
		require.False(t, d.More())
	})
}

// FuzzSaid does with a report what FuzzSubmission does with a submit.
func FuzzSaid(f *testing.F) {
	for _, s := range []string{
		`[]`, `[{"type":"job.progress","data":{"progress":1}},{"type":"own"}]`, `[{"type":"a","data":null}]`,
		`[{"data":1}]`, `[{"TYPE":"a"}]`, `[{"type":"a","type":"b"}]`, `[1]`, `{}`, `[{"t\u0079pe":"a"}]`, `[[`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		said, err := parseSaid(doc)
		if err != nil {
			var p *job.Problem
			require.True(t, errors.As(err, &p), "%v", err)
			return
		}
		var want []struct {
			Type job.Type
			Data json.RawMessage
		}
		require.NoError(t, json.Unmarshal(doc, &want))
		require.Len(t, said, len(want))
		for i := range want {
			require.Equal(t, want[i].Type, said[i].Type)
			require.Equal(t, string(want[i].Data), string(said[i].Data))
		}
	})
}

// FuzzSubmission compares what is accepted with what the standard library makes of
// it: one meaning, and the input as it was sent.
func FuzzSubmission(f *testing.F) {
	for _, s := range []string{
		`{"kind":"a","input":{"b":[1,"x",null]}}`,
		`{"kind":"a","input":1,"tags":["x"],"timeout":"1s","max_attempts":2,"priority":"low","retention":"1h"}`,
		`{"k\u0069nd":"a","kind":"b","input":1}`,
		`{"KIND":"a"}`,
		`{"kind":"a","input":{"a":1,"\u0061":2}}`,
		`[[[[{"a":{"a":{"a":[]}}}]]]]`,
		`{"kind":"\ud800","input":"\"}{\\"}`,
		"{\"kind\":\"\xff\"}",
		` 1 `,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := parseSubmission(doc)
		if err != nil {
			var p *job.Problem
			require.True(t, errors.As(err, &p), "%v", err)
			return
		}
		members := map[string]json.RawMessage{}
		require.NoError(t, json.Unmarshal(doc, &members))
		var kind string
		require.NoError(t, json.Unmarshal(members["kind"], &kind))
		require.Equal(t, kind, s.kind)
		require.Equal(t, string(members["input"]), string(s.input))
		require.Equal(t, len(members), names(t, doc), "a name that is there twice")
	})
}

// names counts the members of an object, those of the same name too, and fails
// on an object within that has a name twice.
func names(t *testing.T, doc []byte) (n int) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	_, err := d.Token()
	require.NoError(t, err)
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		require.NoError(t, err)
		require.False(t, seen[name.(string)], "%q twice", name)
		seen[name.(string)] = true
		var value json.RawMessage
		require.NoError(t, d.Decode(&value))
		within(t, value)
		n++
	}
	return n
}

func within(t *testing.T, value json.RawMessage) {
	switch value[0] {
	case '{':
		names(t, value)
	case '[':
		var elements []json.RawMessage
		require.NoError(t, json.Unmarshal(value, &elements))
		for _, e := range elements {
			within(t, e)
		}
	}
}

func TestTagOfHalfARuneIsRefused(t *testing.T) {
	for _, tag := range []string{`"\ud83d"`, `"a\ude00"`, `"\ufffd"`} {
		s, err := parseSubmission([]byte(`{"kind":"k","input":1,"tags":[` + tag + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.check(&kind{}); err == nil {
			t.Errorf("%s was stored as another tag", tag)
		}
	}
}
