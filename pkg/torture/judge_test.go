package torture

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// story is what the diaries say. A test takes one that is sound and changes it.
type story struct {
	at      time.Time
	log     []event // of the job "a", which all readers see as long as read is nil
	read    []event
	state   string
	diaries map[string][]entry
	notOver bool
	foundAs string // its kind, as the audit has it; "": as it was submitted
	foundIn string // its batch, as the audit has it
}

func e(seq uint64, typ, data string) event {
	id := fmt.Sprintf("%d-%d-1", seq, seq+10)
	return event{ID: id, Type: typ, Job: "a", Seq: seq, Data: json.RawMessage(data)}
}

const ran = `{"result":"r 1/2\nr 2/2\n"}`

func soundStory() *story {
	return &story{
		at: time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), state: "succeeded", diaries: map[string][]entry{},
		log: []event{
			e(1, "job.queued", `{}`), e(2, "job.running", `{}`),
			e(3, "job.output", `{"chunk":"r 1/2\n"}`), e(4, "job.output", `{"chunk":"r 2/2\n"}`),
			e(5, "job.succeeded", ran),
		},
	}
}

// events gives events their times and texts.
func (s *story) events(list []event) (entries []entry) {
	for i := range list {
		if list[i].Time.IsZero() {
			list[i].Time = s.at.Add(time.Duration(i) * time.Second)
		}
		text, _ := json.Marshal(list[i])
		entries = append(entries, entry{What: got, Job: "a", Event: text})
	}
	return entries
}

// kind is what the submitter was told last.
func (s *story) kind() string {
	if s.foundAs != "" {
		return s.foundAs
	}
	kind := kindLines
	for _, e := range s.diaries["submitter"] {
		if e.Job == "a" && e.Kind != "" {
			kind = e.Kind
		}
	}
	return kind
}

func (s *story) judge(t *testing.T) *Verdict {
	dir := t.TempDir()
	put := func(name string, list ...entry) {
		d, err := openDiary(filepath.Join(dir, name+".jsonl"))
		require.NoError(t, err)
		for _, e := range list {
			d.note(e)
		}
		d.close()
	}
	put("submitter-00", append([]entry{{What: accepted, Job: "a", Kind: kindLines, Key: "k"}}, s.diaries["submitter"]...)...)
	put("audit-00", append([]entry{{What: has, Job: "a", State: s.state, Kind: s.kind(), Batch: s.foundIn}}, s.events(s.log)...)...)
	if s.read == nil {
		s.read = s.log
	}
	reader := append([]entry{{What: follows, Job: "a"}}, s.events(s.read)...)
	if !s.notOver {
		reader = append(reader, entry{What: told, Job: "a"})
	}
	put("reader-00", reader...)
	for name, list := range s.diaries {
		if name != "submitter" {
			put(name, list...)
		}
	}
	v, err := Judge(dir)
	require.NoError(t, err)
	return v
}

// A judge that finds nothing is worth what it would have found.
func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*story)
		want   string // "": it is sound
	}{
		{"all well", func(*story) {}, ""},
		{"job gone", func(s *story) { s.diaries["audit-01"], s.state = nil, "" }, "lost: a was accepted and is gone"},
		{"job damaged", func(s *story) { s.state = "not to be read" }, "lost: a cannot be read"},
		{"not over", func(s *story) { s.state, s.log = "running", s.log[:4] }, "stuck: a is running"},
		{"a hole", func(s *story) { s.read = without(s.log, 2) }, "lost: a: reader-00 was given 4 events up to 5"},
		{"no end", func(s *story) { s.read = s.log[:4] }, "lost: a: reader-00 was given no end"},
		{"never told", func(s *story) { s.notOver = true }, "stuck: a: reader-00 was not told"},
		{"twice", func(s *story) { s.read = insert(s.log, 2, s.log[1]) }, "doubled: a: reader-00 was given 2 twice"},
		{"out of order", func(s *story) { s.read = insert(without(s.log, 2), 3, s.log[2]) }, "reordered: a: reader-00 was given 3 behind 4"},
		{"told to start over", func(s *story) { s.read = insert(s.log, 3, e(0, "stream.reset", `{"reason":"cursor"}`)) }, "lost: a: reader-00 was told to start over"},
		{"two ends", func(s *story) { s.log = append(s.log, e(6, "job.failed", `{}`)) }, "doubled: a: the log was given a job.failed behind the end"},
		{"shown and gone", func(s *story) { s.read, s.log = s.log, append(s.log[:3:3], e(4, "job.succeeded", ran)) }, "lost: a: reader-00 was given 5-15-1, which is gone"},
		{"two truths", func(s *story) { s.read = insert(without(s.log, 2), 2, e(3, "job.output", `{"chunk":"x"}`)) }, "doubled: a: reader-00 was given another 3"},
		{"an id twice", func(s *story) { s.log[3].ID = s.log[2].ID }, "doubled: the id 3-13-1 is two events"},
		{"another's event", func(s *story) {
			s.read = insert(without(s.log, 2), 2, event{ID: "3-13-1", Type: "x", Job: "b", Seq: 3})
		}, "surprise: a: reader-00 was given an event of b"},
		{"a key twice", func(s *story) { s.diaries["submitter"] = []entry{{What: accepted, Job: "b", Key: "k"}} }, "doubled: the key k is a and b"},
		{"a surprise", func(s *story) { s.diaries["server"] = []entry{{What: surprise, Detail: "ended by itself"}} }, "surprise: server"},
		{"canceled and not", func(s *story) { s.diaries["canceler-00"] = []entry{{What: canceled, Job: "a", State: "canceled"}} }, "lost: a was canceled, and is succeeded"},
		{"output lost", func(s *story) { s.log[2].Data = json.RawMessage(`{"chunk":""}`) }, "lost: a: it succeeded with 1 of 2 steps"},
		{"output twice", func(s *story) { s.log[3].Data = json.RawMessage(`{"chunk":"r 1/2\nr 2/2\n"}`) }, "doubled: a: step 1 of 2 is there twice"},
		{"result lost", func(s *story) { s.log[4].Data = json.RawMessage(`{"result":"r 1/2\n"}`) }, "lost: a: its result is"},
		{"asked twice", func(s *story) {
			s.diaries["upstream"] = []entry{{What: asked, Job: "a", Kind: kindOnce, Key: "k"}, {What: asked, Job: "a", Kind: kindOnce, Key: "k"}}
		}, "doubled: a: the upstream that must be asked once was asked 2 times"},
		{"another end than its state", func(s *story) { s.log[4].Type = "job.failed" }, "lost: a is succeeded, and its log ends with job.failed"},
		{"a cancel that was told and is gone", func(s *story) { s.diaries["canceler-00"] = []entry{{What: canceled, Job: "a", State: "running"}} }, "lost: a was told to stop, and its log has no word of it"},
		{"a cancel that was too late", func(s *story) {
			s.log = insert(s.log, 4, e(5, "job.cancel_requested", `{}`))
			s.log[5] = e(6, "job.succeeded", ran)
			s.diaries["canceler-00"] = []entry{{What: canceled, Job: "a", State: "running"}}
		}, ""},
		{"a cancel that was forgotten", func(s *story) {
			s.log = secondAttempt("new 1/1\n", "retry")
			s.log[2] = e(3, "job.cancel_requested", `{}`)
		}, "lost: a was told to stop, and begins again at 5"},
		{"two who run it", func(s *story) { s.log[2].Type = "job.running" }, "doubled: a begins at 3, while it runs"},
		{"an attempt again", func(s *story) { s.log[2].Attempt = 2 }, "reordered: a: an event of attempt 0 at 4, behind one of attempt 2"},
		{"a word between two attempts", func(s *story) {
			s.log = secondAttempt("new 1/1\n", "lease-lost")
			s.log[2], s.log[3] = e(3, "job.queued", `{}`), e(4, "job.output", `{"chunk":"old 1/2\n"}`)
		}, "zombie: a: a job.output at 4, while nobody has the job"},
		{"a key with a job that nobody was told of", func(s *story) {
			s.diaries["upstream"] = []entry{{What: asked, Job: "b", Key: "k"}}
		}, "doubled: the key k is"},
		{"the answer of the upstream", func(s *story) { once(s, "r") }, ""},
		{"no answer of the upstream", func(s *story) { once(s, "another") }, `lost: a: its result is "done by r\n"`},
		{"a zombie", func(s *story) { s.log = secondAttempt("old 2/2\nnew 1/1\n", "lease-lost") }, "zombie: a: the run old of attempt 1 speaks in attempt 2"},
		{"a second attempt", func(s *story) { s.log = secondAttempt("new 1/1\n", "drain") }, ""},
		{"missed in time", func(s *story) {
			s.log = secondAttempt("new 1/1\n", "lease-lost")
			s.diaries["server"] = []entry{{At: s.at.Add(2500 * time.Millisecond), What: died}, {At: s.at.Add(2600 * time.Millisecond), What: ready}}
		}, ""},
		{"missed late", func(s *story) {
			s.log = secondAttempt("new 1/1\n", "lease-lost")
			s.log[3].Time = s.at.Add(9 * time.Second)
			s.diaries["server"] = []entry{{At: s.at.Add(2500 * time.Millisecond), What: died}, {At: s.at.Add(2600 * time.Millisecond), What: ready}}
		}, "late: a: missed 6.4s after"},
		{"a worker missed in time", func(s *story) { pulled(s, 2*time.Second) }, ""},
		{"a worker missed late", func(s *story) { pulled(s, 5*time.Second) }, "late: a: missed 3s after"},
		{"acknowledged and gone", func(s *story) {
			s.diaries["worker-00"] = []entry{{What: reported, Job: "a", Kind: "step", Said: &said{Run: "r", N: 1, Of: 2}}}
		}, "lost: a: step 1 of r was acknowledged"},
	} {
		t.Run(tt.name, func(t *testing.T) { findsIn(t, tt.change, tt.want) })
	}
}

// findsIn judges a changed story, and looks whether it was found out; want "": it is sound.
func findsIn(t *testing.T, change func(*story), want string) {
	s := soundStory()
	change(s)
	v := s.judge(t)
	if want == "" {
		require.Empty(t, v.Reasons)
		require.True(t, v.Sound())
		return
	}
	require.False(t, v.Sound())
	require.Contains(t, v.String(), want)
}

func without(list []event, i int) []event { return append(list[:i:i], list[i+1:]...) }

func insert(list []event, i int, e event) []event {
	return append(append(list[:i:i], e), list[i:]...)
}

// secondAttempt is the log of a job that was tried twice.
func secondAttempt(output, why string) []event {
	said, _ := json.Marshal(map[string]string{"chunk": output})
	result, _ := json.Marshal(map[string]string{"result": output})
	return []event{
		e(1, "job.queued", `{}`), e(2, "job.running", `{}`), e(3, "job.output", `{"chunk":"old 1/2\n"}`),
		e(4, "job.queued", fmt.Sprintf(`{"reason":%q}`, why)), e(5, "job.running", `{}`),
		e(6, "job.output", string(said)), e(7, "job.succeeded", string(result)),
	}
}

// pulled makes the job one that a worker pulled, who was last heard of at 1.5 s, and missed
// so much later.
func pulled(s *story, later time.Duration) {
	step := func(seq uint64, run string, n int) event {
		return e(seq, "step", fmt.Sprintf(`{"run":%q,"n":%d,"of":1}`, run, n))
	}
	s.log = []event{
		e(1, "job.queued", `{}`), e(2, "job.running", `{}`), step(3, "old", 1),
		e(4, "job.queued", `{"reason":"lease-lost"}`), e(5, "job.running", `{}`), step(6, "new", 1), e(7, "job.succeeded", `{}`),
	}
	heard := s.at.Add(1500 * time.Millisecond)
	s.log[3].Time = heard.Add(later)
	s.diaries["submitter"] = []entry{{What: accepted, Job: "a", Kind: kindPull}}
	s.diaries["worker-00"] = []entry{{At: heard, What: reported, Job: "a", Kind: "step", Said: &said{Run: "old", N: 1, Of: 1}}}
}

// once makes the job one of the upstream that is asked once, and was by a run.
func once(s *story, run string) {
	s.log = []event{e(1, "job.queued", `{}`), e(2, "job.running", `{}`), e(3, "job.succeeded", `{"result":"done by r\n"}`)}
	s.diaries["submitter"] = []entry{{What: accepted, Job: "a", Kind: kindOnce}}
	s.diaries["upstream"] = []entry{{What: asked, Job: "a", Kind: kindOnce, Key: "k", Run: run}}
}

// Nothing was proved where nothing was done.
func TestNothingIsNoProof(t *testing.T) {
	v, err := Judge(t.TempDir())
	require.NoError(t, err)
	require.False(t, v.Sound())
}

func TestScheduleIsOfTheSeed(t *testing.T) {
	require.Equal(t, schedule(7, time.Minute), schedule(7, time.Minute))
	require.NotEqual(t, schedule(7, time.Minute), schedule(8, time.Minute))
	require.Equal(t, schedule(7, time.Minute), schedule(7, 2*time.Minute)[:len(schedule(7, time.Minute))])
	made := map[string]bool{}
	for _, d := range schedule(7, 10*time.Minute) {
		made[d.name] = true
	}
	require.Len(t, made, len(ways), "each is made at some time")
}
