package torture

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// batched puts the job "a" into the batch "g" of two, with "b", which was erased: it needs no
// events. more is what else is noted.
func batched(s *story, found []string, more ...entry) {
	s.foundIn = "g"
	in := func(job, key string) entry {
		return entry{What: accepted, Job: job, Kind: kindLines, Key: key, Batch: "g", Under: "k", Jobs: 2}
	}
	s.diaries["submitter"] = append([]entry{in("a", "k/0"), in("b", "k/1")}, more...)
	s.diaries["eraser-00"] = []entry{{What: erasing, Job: "b"}, {What: erased, Job: "b"}}
	for _, job := range found {
		s.diaries["audit-01"] = append(s.diaries["audit-01"], entry{What: lists, Batch: "g", Job: job})
	}
	s.diaries["audit-01"] = append(s.diaries["audit-01"], entry{What: listed, Batch: "g"})
}

// The rules for batches.
func TestJudgeOfBatches(t *testing.T) {
	again := func(change func(*entry)) entry {
		e := entry{What: accepted, Job: "a", Kind: kindLines, Key: "k/0", Batch: "g", Under: "k", Jobs: 2}
		change(&e)
		return e
	}
	all := []string{"a"}
	for _, tt := range []struct {
		name   string
		change func(*story)
		want   string // "": it is sound
	}{
		{"a batch", func(s *story) { batched(s, all) }, ""},
		{"told again", func(s *story) { batched(s, all, again(func(*entry) {})) }, ""},
		{"a part that is declined", func(s *story) {
			batched(s, all, entry{What: declined, Batch: "g", Key: "k/2", Kind: kindNone, Status: 404})
		}, ""},
		{"a part that is told later", func(s *story) { batched(s, all, entry{What: refused, Batch: "g", Key: "k/0", Status: 503}) }, ""},
		{"not in its list", func(s *story) { batched(s, nil) }, "lost: a is not in the list of its batch g"},
		{"not in its batch", func(s *story) { batched(s, all); s.foundIn = "" }, `lost: a was submitted in the batch "g", and is in ""`},
		{"one that nobody was told of", func(s *story) { batched(s, []string{"a", "c"}) }, "doubled: the batch g has 3 jobs, and 2 were submitted: [a b c]"},
		{"the key is two batches", func(s *story) { batched(s, all, again(func(e *entry) { e.Job, e.Key, e.Batch = "c", "", "h" })) }, "doubled: the key k is the batches g and h"},
		{"two jobs for one item", func(s *story) { batched(s, all, again(func(e *entry) { e.Job = "c" })) }, "doubled: the key k/0 is a and c"},
		{"a job of two batches", func(s *story) { batched(s, all, again(func(e *entry) { e.Batch = "h" })) }, `doubled: a was told in the batch g, and in "h"`},
		{"an erased one in the list", func(s *story) { batched(s, []string{"a", "b"}) }, "zombie: b was erased, and is in the list of its batch g"},
	} {
		t.Run(tt.name, func(t *testing.T) { findsIn(t, tt.change, tt.want) })
	}
}

// What a batch is answered for an item: a job of the batch for one that is a job, 404 for
// the other, or come back.
func TestItemsOfABatch(t *testing.T) {
	good, wrong := &order{kind: kindLines, key: "k/0"}, &order{kind: kindNone, key: "k/1"}
	for text, want := range map[string][2]what{
		`{"id":"a","batch":"g","status":"running"}`: {accepted, surprise},
		`{"id":"a","batch":"h","status":"running"}`: {surprise, surprise},
		`{"id":"a","status":"running"}`:             {surprise, surprise},
		`{"status":404,"type":"/problems/x"}`:       {surprise, declined},
		`{"status":503,"type":"/problems/x"}`:       {refused, surprise},
		`{"status":422,"type":"/problems/x"}`:       {surprise, surprise},
		`{}`:                                        {surprise, surprise},
	} {
		i := item{raw: json.RawMessage(text)}
		require.NoError(t, json.Unmarshal(i.raw, &i))
		require.Equal(t, want[0], i.entry(entry{Batch: "g"}, good).What, text)
		require.Equal(t, want[1], i.entry(entry{Batch: "g"}, wrong).What, text)
	}
}

// An item whose job was told may be gone, which the judge looks into.
func TestItemAgain(t *testing.T) {
	told := map[string]order{"a": {at: 1}}
	gone := item{Status: json.RawMessage("404")}
	require.Equal(t, entry{What: missing, Job: "a", By: "batch", Status: 404}, gone.again(entry{}, &order{at: 1}, told))
	require.Equal(t, surprise, gone.again(entry{}, &order{at: 0}, told).What, "nobody knows it")
	require.Equal(t, declined, gone.again(entry{}, &order{at: 0, kind: kindNone}, told).What)
	there := item{ID: "a", Batch: "g"}
	require.Equal(t, accepted, there.again(entry{Batch: "g"}, &order{at: 1}, told).What)
}

// A batch with a key is sent again as it was; without, each try is another, and its work
// knows which.
func TestBatchAgain(t *testing.T) {
	items := []order{{kind: kindLines, delay: time.Second}, {kind: kindNone}}
	texts := func(g *batch) (first, second string) {
		a, _ := g.next().body()
		b, _ := g.next().body()
		return string(a), string(b)
	}
	first, second := texts(&batch{name: "n", key: "n", items: items})
	require.Equal(t, `[{"delay":"1s","input":{"by":0,"key":"n/0"},"kind":"lines"},{"input":{"by":0,"key":"n/1"},"kind":"none"}]`, first)
	require.Equal(t, first, second)
	first, second = texts(&batch{name: "n", items: items, lines: true})
	require.Equal(t, 2, strings.Count(first, "\n"))
	require.Contains(t, first, `"n.1/0"`)
	require.Contains(t, second, `"n.2/0"`)
	require.Equal(t, 1, (&batch{items: items}).size())
}
