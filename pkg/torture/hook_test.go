package torture

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// The end of a job with a webhook must be delivered, once or more, and be the one that the log
// has.
func TestJudgeOfDeliveries(t *testing.T) {
	delivery := func(e event, id string, status int) entry {
		text, _ := json.Marshal(e)
		return entry{What: delivered, Job: "a", Event: text, Detail: id, Status: status}
	}
	end := e(5, "job.succeeded", ran)
	for name, tc := range map[string]struct {
		received []entry
		want     string // "": it is sound
	}{
		"once":         {[]entry{delivery(end, "a.5", 204)}, ""},
		"twice":        {[]entry{delivery(end, "a.5", 204), delivery(end, "a.5", 204)}, ""},
		"refused":      {[]entry{delivery(end, "a.5", 503), delivery(end, "a.5", 204)}, ""},
		"never":        {nil, "lost: a: its end was never delivered"},
		"only refused": {[]entry{delivery(end, "a.5", 503)}, "lost: a: its end was never delivered"},
		"another id":   {[]entry{delivery(end, "a.5", 204), delivery(end, "a.6", 204)}, "doubled: a: its end was delivered as a.5 and as a.6"},
		"another end":  {[]entry{delivery(e(5, "job.failed", `{}`), "a.5", 204)}, "lost: a: the delivery a.5 says job.failed"},
		"not an end":   {[]entry{delivery(e(2, "job.running", `{}`), "a.2", 204)}, "lost: a: the delivery a.2 says job.running"},
	} {
		t.Run(name, func(t *testing.T) {
			s := soundStory()
			s.diaries["submitter"] = []entry{{What: accepted, Job: "a", Kind: kindLines, Key: "k", Hook: true}}
			s.diaries["upstream"] = tc.received
			v := s.judge(t)
			if tc.want == "" {
				require.True(t, v.Sound(), "%v", v.Reasons)
				return
			}
			require.NotEmpty(t, v.Reasons)
			require.Contains(t, v.Reasons[0], tc.want)
		})
	}
}
