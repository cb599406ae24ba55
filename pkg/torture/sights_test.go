package torture

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// The rules for those who look at a job in another way than by its events.
func TestJudgeOfSights(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*story)
		want   string // "": it is sound
	}{
		{"what the log says", func(s *story) { watched(s, sight(1, "queued"), sight(3, "running"), sight(5, "succeeded")) }, ""},
		{"nothing new", func(s *story) {
			watched(s, sight(3, "running"), entry{What: saw, Job: "a", Status: 304}, sight(5, "succeeded"))
		}, ""},
		{"a state of before", func(s *story) { watched(s, sight(3, "running"), sight(1, "queued"), sight(5, "succeeded")) }, "reordered: a: watcher-00 was shown it queued behind 1-11-1"},
		{"no end for a watcher", func(s *story) { watched(s, sight(3, "running")) }, "stuck: a: watcher-00 was not shown its end"},
		{"another end", func(s *story) { watched(s, sight(5, "failed")) }, "lost: a: watcher-00 was shown it failed at 5"},
		{"another state", func(s *story) { watched(s, sight(1, "running"), sight(5, "succeeded")) }, "lost: a: watcher-00 was shown it running at 1"},
		{"shown and not there", func(s *story) { watched(s, sight(9, "running"), sight(5, "succeeded")) }, "lost: a: watcher-00 was shown it behind 9-19-1, which is gone"},
		{"an attempt of before", func(s *story) {
			early := sight(3, "running")
			early.Attempt = 2
			watched(s, early, sight(5, "succeeded"))
		}, "reordered: a: watcher-00 was shown attempt 1 behind attempt 2"},
		{"what it knows", func(s *story) {
			again := sight(3, "running")
			again.Known = again.Tag
			watched(s, again, sight(5, "succeeded"))
		}, "doubled: a: watcher-00 was shown what it said that it knows"},

		{"a result", func(s *story) { fetchedBy(s, part(0, "r 1/2\nr 2/2\n"), all) }, ""},
		{"a result in parts", func(s *story) { fetchedBy(s, part(0, "r 1"), part(3, "/2\nr 2/2\n"), all) }, ""},
		{"other bytes", func(s *story) { fetchedBy(s, part(0, "r 1"), part(2, "/2\nr 2/2\n"), all) }, "lost: a: fetcher-00 was given other bytes from 2 to 11"},
		{"another size", func(s *story) { fetchedBy(s, entry{What: piece, Job: "a", Size: 3, Bytes: []byte("r 1")}, all) }, "lost: a: fetcher-00 was told that its result has 3 bytes, and it has 12"},
		{"another ETag", func(s *story) {
			p := part(0, "r 1/2\nr 2/2\n")
			p.Tag = `"x"`
			fetchedBy(s, p, all)
		}, `lost: a: fetcher-00 was given its result as "x"`},
		{"a part of it", func(s *story) { fetchedBy(s, part(0, "r 1/2\n"), all) }, "lost: a: fetcher-00 was given 6 of the 12 bytes"},
		{"never a result", func(s *story) { fetchedBy(s, part(0, "r 1/2\n")) }, "stuck: a: fetcher-00 was never given its result"},
		{"no result of what has one", func(s *story) { fetchedBy(s, entry{What: fetched, Job: "a", Status: 409}) }, "lost: a: fetcher-00 was answered 409"},
		{"a result of what has none", func(s *story) {
			s.log[4], s.state = e(5, "job.failed", `{}`), "failed"
			fetchedBy(s, all)
		}, "lost: a: fetcher-00 was answered 200"},
		{"no result of what has none", func(s *story) {
			s.log[4], s.state = e(5, "job.failed", `{}`), "failed"
			fetchedBy(s, entry{What: fetched, Job: "a", Status: 409})
		}, ""},
		{"a large result", func(s *story) { large(s, "r 1/2\nr 2/2\n") }, ""},
		{"a large result that is another", func(s *story) { large(s, "r 1/2\nr 2/1\n") }, "lost: a: its result is told as 12 bytes"},

		{"in its time", func(s *story) { delayed(s, time.Second) }, ""},
		{"too early", func(s *story) { delayed(s, 1500*time.Millisecond) }, "reordered: a began at 10:00:01.000, and was not to begin before 10:00:01.500"},
		{"another kind", func(s *story) { s.foundAs = kindFails }, "lost: a was submitted as lines, and is fails"},
		{"its own input", func(s *story) { given(s, "k") }, ""},
		{"another's input", func(s *story) { given(s, "l") }, `lost: a: its work was given the input of the key "l"`},
		{"a retry", func(s *story) { retried(s, "l") }, ""},
		{"a retry of another", func(s *story) { retried(s, "m") }, `lost: a: its work was given the input of the key "m", and not of "l"`},
	} {
		t.Run(tt.name, func(t *testing.T) { findsIn(t, tt.change, tt.want) })
	}
}

func TestJudgeOfErased(t *testing.T) {
	later := func(what what, status int) entry {
		return entry{What: what, Job: "a", Status: status, Sent: soundStory().at.Add(time.Minute)}
	}
	for _, tt := range []struct {
		name   string
		change func(*story)
		want   string // "": it is sound
	}{
		{"all well", func(s *story) { gives(s, "eraser-00", entry{What: probed, Job: "a", Status: 404}) }, ""},
		{"not there, and not erased", func(s *story) {
			s.diaries = map[string][]entry{"canceler-00": {later(missing, 404)}}
			s.state = "succeeded"
		}, "lost: a: somebody was told"},
		{"not there too early", func(s *story) { gives(s, "canceler-00", entry{What: missing, Job: "a", At: s.at.Add(-time.Second)}) }, "lost: a: somebody was told"},
		{"not there", func(s *story) { gives(s, "canceler-00", later(missing, 404)) }, ""},
		{"there again", func(s *story) { s.state = "succeeded" }, "zombie: a was erased, and is succeeded"},
		{"never told", func(s *story) { s.notOver = true }, "stuck: a: reader-00 was not told that it is erased"},
		{"a hole", func(s *story) { s.read = without(s.log, 2) }, "lost: a: reader-00 was given 4 events up to 5"},
		{"shown", func(s *story) { gives(s, "canceler-00", later(canceled, 200)) }, "zombie: a was erased at 10:00:09.000, and was shown (200)"},
		{"seen by a watcher", func(s *story) { gives(s, "watcher-00", entry{What: watches, Job: "a"}, later(saw, 200)) }, "zombie: a was erased"},
		{"a watcher that was never told", func(s *story) { watched(s, sight(3, "running")) }, "stuck: a: watcher-00 was not told that it is erased"},
		{"a watcher that was told", func(s *story) { watched(s, sight(3, "running"), later(missing, 404)) }, ""},
		{"a result of it", func(s *story) { gives(s, "fetcher-00", entry{What: fetches, Job: "a"}, later(piece, 200)) }, "zombie: a was erased"},
		{"opened", func(s *story) {
			e := later(opened, 200)
			e.By = "page"
			gives(s, "reader-01", entry{What: follows, Job: "a"}, e, later(missing, 404))
		}, "zombie: a was erased"},
		{"a stream that can say no more", func(s *story) {
			e := later(opened, 200)
			e.By = "sse"
			gives(s, "reader-01", entry{What: follows, Job: "a"}, e, later(missing, 404))
		}, ""},
		{"a stream with an event", func(s *story) {
			e := later(opened, 200)
			e.By = "sse"
			gives(s, "reader-01", append(append([]entry{{What: follows, Job: "a"}, e}, s.events(s.log)...), later(missing, 404))...)
		}, "zombie: a was erased at 10:00:09.000, and reader-01 was given events"},
		{"found", func(s *story) { gives(s, "eraser-00", entry{What: probed, Job: "a", By: "GET", Status: 202}) }, "zombie: a was erased, and GET was answered 202"},
		{"its key again", func(s *story) { gives(s, "eraser-00", entry{What: probed, Job: "a", Key: "k", Status: 202}) }, "doubled: a was erased, and its key k again was answered 202"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			findsIn(t, func(s *story) {
				s.state = ""
				s.diaries["eraser-00"] = []entry{
					{What: erasing, Job: "a", At: s.at.Add(8 * time.Second)},
					{What: erased, Job: "a", At: s.at.Add(9 * time.Second), Status: 204},
				}
				tt.change(s)
			}, tt.want)
		})
	}
}

// gives puts more into a diary.
func gives(s *story, diary string, list ...entry) {
	s.diaries[diary] = append(s.diaries[diary], list...)
}

// sight is the job as it is shown behind an event.
func sight(seq uint64, state string) entry {
	return entry{What: saw, Job: "a", Status: 200, State: state, Attempt: 1, Cursor: e(seq, "", "").ID, Tag: fmt.Sprint(seq, state)}
}

func watched(s *story, list ...entry) {
	gives(s, "watcher-00", append([]entry{{What: watches, Job: "a"}}, list...)...)
}

// part is some of the bytes of the sound story's result.
func part(from int64, text string) entry {
	whole := "r 1/2\nr 2/2\n"
	return entry{
		What: piece, Job: "a", Status: 206, From: from, Bytes: []byte(text), Size: int64(len(whole)),
		Tag: fmt.Sprintf("\"%x\"", sha256.Sum256([]byte(whole))),
	}
}

// all is that a fetcher has all.
var all = entry{What: fetched, Job: "a", Status: 200}

func fetchedBy(s *story, list ...entry) {
	gives(s, "fetcher-00", append([]entry{{What: fetches, Job: "a"}}, list...)...)
}

// large makes the job one whose result is told as what it is: that text.
func large(s *story, text string) {
	s.diaries["submitter"] = []entry{{What: accepted, Job: "a", Kind: kindBulk}}
	s.log[4].Data, _ = json.Marshal(object{"result": object{"size": len(text), "sha256": fmt.Sprintf("%x", sha256.Sum256([]byte(text)))}})
}

// delayed makes the job one that was submitted with a delay: it began a second later.
func delayed(s *story, d time.Duration) {
	s.diaries["submitter"] = []entry{{What: accepted, Job: "a", Kind: kindLines, Sent: s.at, For: d}}
}

// given has the work of the job say under which key its input was submitted.
func given(s *story, key string) {
	s.diaries["upstream"] = []entry{{What: asked, Job: "a", Key: key}}
}

// retried makes the job one that is a retry of one of the key "l", which was erased.
func retried(s *story, key string) {
	s.diaries["submitter"] = []entry{
		{What: accepted, Job: "b", Kind: kindLines, Key: "l"}, {What: accepted, Job: "a", Kind: kindLines, Key: "k", Of: "b"},
	}
	s.diaries["eraser-00"] = []entry{{What: erasing, Job: "b"}, {What: erased, Job: "b"}}
	given(s, key)
}
