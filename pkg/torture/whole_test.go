package torture

import (
	"bufio"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of all jobs, an overseer must be given each event once, in the order of the log, as the log
// has it.
func TestJudgeOfOverseers(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(s *story, given []event) []event
		want   string // "": it is sound
	}{
		"all well": {func(_ *story, g []event) []event { return g }, ""},
		"of others, too": {func(_ *story, g []event) []event {
			return insert(g, 1, event{ID: "1-11-7", Type: "job.queued", Job: "b", Seq: 1})
		}, "reordered"},
		"of others, in place": {func(_ *story, g []event) []event {
			return append(g, event{ID: "1-99-1", Type: "job.queued", Job: "b", Seq: 1})
		}, ""},
		"erased, where it was": {func(_ *story, g []event) []event {
			return append(g, event{ID: "7-15-1", Type: "stream.erased", Job: "b"})
		}, ""},
		"a hole":       {func(_ *story, g []event) []event { return without(g, 2) }, "lost: a: overseer-00 was not given 3-13-1"},
		"no end":       {func(_ *story, g []event) []event { return g[:4] }, "lost: a: overseer-00 was not given 5-15-1"},
		"twice":        {func(_ *story, g []event) []event { return insert(g, 2, g[1]) }, "reordered: overseer-00 was given 2-12-1 behind 2-12"},
		"out of order": {func(_ *story, g []event) []event { return insert(without(g, 2), 3, g[2]) }, "reordered: overseer-00 was given 3-13-1 behind 4-14"},
		"another": {func(_ *story, g []event) []event {
			return insert(without(g, 2), 2, e(3, "job.output", `{"chunk":"x"}`))
		}, "reordered: a: overseer-00 was given 3-13-1 out of its place, or as something else"},
		"more than there is": {func(_ *story, g []event) []event { return append(g, e(6, "job.failed", `{}`)) }, "doubled: a: overseer-00 was given 6 events"},
		"an erased job": {func(s *story, g []event) []event {
			s.diaries["eraser-00"] = []entry{{What: erasing, Job: "a", At: s.at}, {What: erased, Job: "a", At: s.at}}
			return g[:2]
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := soundStory()
			given := tc.change(s, append([]event(nil), s.log...))
			list := s.events(given)
			for i := range list {
				list[i].Job = given[i].Job
			}
			s.diaries["overseer-00"] = append(list, entry{What: told})
			v := s.judge(t)
			of := ""
			for _, f := range v.Reasons {
				if strings.Contains(f, "overseer") {
					of += f + "\n"
				}
			}
			if tc.want == "" {
				require.Empty(t, of)
				return
			}
			require.Contains(t, of, tc.want)
		})
	}
	s := soundStory()
	s.diaries["overseer-00"] = s.events(s.log)
	require.Contains(t, strings.Join(s.judge(t).Reasons, "\n"), "stuck: overseer-00 has not read all there is")
}

// A place that is told without an event is kept, and is no event.
func TestFramesOfAPlace(t *testing.T) {
	f := &frames{in: bufio.NewReader(strings.NewReader("retry: 5\n:\nid: 9-9-1\n\nevent: x\ndata: {\"id\":\"1-10-1\",\"type\":\"x\"}\nid: 1-10-1\n\n"))}
	e, err := f.read()
	require.NoError(t, err)
	require.Equal(t, "1-10-1", e.ID)
	require.Equal(t, "9-9-1", f.at)
}
