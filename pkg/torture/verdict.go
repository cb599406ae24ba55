package torture

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Verdict is what the judge found. Of what must not be it counts each case.
type Verdict struct {
	Seed     uint64 `json:"seed"`
	Duration string `json:"duration"`

	Accepted int `json:"accepted"` // jobs that somebody was told of
	Ended    int `json:"ended"`    // of those
	Erased   int `json:"erased"`   // of those, and not ended

	Lost      int `json:"lost"`      // jobs, and events that were there, or had to be
	Doubled   int `json:"doubled"`   // events seen or made twice, ids used twice, jobs of one key, ends of one job
	Reordered int `json:"reordered"` // events that came behind a later one
	Stuck     int `json:"stuck"`     // jobs that are not over, and readers that were not told
	Late      int `json:"late"`      // attempts that were not missed in time
	Zombies   int `json:"zombies"`   // words of an attempt behind the beginning of a newer one
	Surprises int `json:"surprises"` // answers that nobody should get, ends of the server by itself

	Events  int            `json:"events"`  // read, by all readers
	Resumed int            `json:"resumed"` // how often a reader came back to a job
	Faults  map[string]int `json:"faults"`
	Reasons []string       `json:"reasons,omitempty"` // for what is wrong, the first of each sort
}

// Sound reports whether nothing is wrong. Where nothing was accepted nothing was proved.
func (v *Verdict) Sound() bool {
	return v.Accepted > 0 && v.Ended+v.Erased == v.Accepted &&
		v.Lost+v.Doubled+v.Reordered+v.Stuck+v.Late+v.Zombies+v.Surprises == 0
}

// maxReasons is how many reasons are kept of each sort: what follows them says no more.
const maxReasons = 5

// blame counts a case in one of the columns, and says why.
func (v *Verdict) blame(column *int, name, format string, args ...any) {
	if *column++; *column <= maxReasons {
		v.Reasons = append(v.Reasons, name+": "+fmt.Sprintf(format, args...))
	}
}

func (v *Verdict) lost(format string, args ...any) { v.blame(&v.Lost, "lost", format, args...) }
func (v *Verdict) doubled(format string, args ...any) {
	v.blame(&v.Doubled, "doubled", format, args...)
}
func (v *Verdict) reordered(format string, args ...any) {
	v.blame(&v.Reordered, "reordered", format, args...)
}
func (v *Verdict) stuck(format string, args ...any)  { v.blame(&v.Stuck, "stuck", format, args...) }
func (v *Verdict) late(format string, args ...any)   { v.blame(&v.Late, "late", format, args...) }
func (v *Verdict) zombie(format string, args ...any) { v.blame(&v.Zombies, "zombie", format, args...) }
func (v *Verdict) surprise(format string, args ...any) {
	v.blame(&v.Surprises, "surprise", format, args...)
}

// String tells the verdict to people.
func (v *Verdict) String() string {
	var b strings.Builder
	for _, reason := range v.Reasons {
		fmt.Fprintln(&b, reason)
	}
	fmt.Fprintf(&b, "accepted %d, ended %d, erased %d\n", v.Accepted, v.Ended, v.Erased)
	fmt.Fprintf(&b, "%d lost, %d doubled, %d reordered, %d stuck, %d late, %d zombies, %d surprises\n",
		v.Lost, v.Doubled, v.Reordered, v.Stuck, v.Late, v.Zombies, v.Surprises)
	total := 0
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(v.Faults)) {
		total += v.Faults[name]
		faults = append(faults, fmt.Sprintf("%s %d", name, v.Faults[name]))
	}
	fmt.Fprintf(&b, "%d events read, %d times resumed; %d faults: %s\n", v.Events, v.Resumed, total, strings.Join(faults, ", "))
	word := "sound"
	if !v.Sound() {
		word = "NOT SOUND"
	}
	fmt.Fprintf(&b, "%s; to repeat it: millstream torture --seed %d --duration %s\n", word, v.Seed, v.Duration)
	return b.String()
}
