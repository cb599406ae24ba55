package powercut

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
)

// One machine, whose power is cut again and again, in the middle of work, of a start, or
// just behind an orderly end. What it had told anybody before is there when it
// comes back, and it does not say that anything is damaged.
func TestPowerCut(t *testing.T) {
	tr := newTrial(t, "power-safe")
	for n := range *cuts {
		tr.round(n, moments[tr.rand.IntN(len(moments))], keeps[n%len(keeps)])
	}
	tr.end()
	require.Zero(t, tr.total.lost(), "%s", strings.Join(tr.total.words, "\n"))
	require.Empty(t, tr.damage, "it says that it is damaged")
}

// The same without the syncs loses something, or the test above proves nothing.
func TestPowerCutOfKillSafe(t *testing.T) {
	const cuts = 4
	tr := newTrial(t, "kill-safe")
	for n := range cuts {
		tr.round(n, atWork, 0)
	}
	tr.end()
	require.NotZero(t, tr.total.lostJobs)
	require.NotZero(t, tr.total.lostEvents)
}

// keeps are how many percent of what was not flushed is on the disk after a cut.
var keeps = []int{0, 50, 90, 10}

// moment is when the power is cut.
type moment string

const (
	atWork     moment = "at work"
	atStart    moment = "at a start"
	afterAnEnd moment = "after an end"
)

var moments = []moment{atWork, atWork, atWork, atWork, atStart, afterAnEnd}

// trial is a machine and what comes of it.
type trial struct {
	*machine
	durability string
	rand       *rand.Rand
	history    history
	all        []told // of every life

	rows   strings.Builder
	total  verdict
	damage []string
}

func newTrial(t *testing.T, durability string) *trial {
	t.Logf("seed %d", *seed)
	m := newMachine(t, object{
		"durability": durability, "drain": "1s", "log": object{"level": "warn", "format": "json"},
		"kinds": object{"talk": object{"concurrency": 64, "http": object{"url": newUpstream(t).URL, "idempotent": true}}},
	})
	tr := &trial{machine: m, durability: durability, rand: rand.New(rand.NewPCG(*seed, 0)), history: history{text: map[string]string{}}}
	tr.start()
	tr.ready()
	return tr
}

func (tr *trial) client() client { return client{"http://" + tr.address} }

// round has the machine work, cuts its power, starts it again and looks for what it told.
func (tr *trial) round(n int, when moment, keep int) {
	if when != atStart && tr.rand.IntN(2) == 0 { // there is an index then, which will be stale
		tr.stop()
		tr.start()
		tr.ready()
	}
	was, left := tr.live(when, keep)
	tr.replug(left.disk)
	tr.start()
	tr.ready()
	c := tr.check(was)
	tr.all = append(tr.all, was)
	damage := tr.complaints()
	tr.damage = append(tr.damage, damage...)
	_, _ = fmt.Fprintf(&tr.rows, "%d\t%s\t%d %%\t%d of %d\t%d\t%d\t%d\t%d\t%d\t%d\n", n+1, when, keep, left.kept, left.cached,
		len(was.jobs), len(was.events), c.lostJobs, c.lostEvents, c.doubled, len(damage))
}

// live lives up to a cut, and returns what was told before it, and what is left.
func (tr *trial) live(when moment, keep int) (was told, left remains) {
	if when == atStart {
		tr.stop()
		tr.start()
		tr.wait(200 * time.Millisecond)
		return told{}, tr.disk.cut(keep, tr.rand, func() {})
	}
	l := newLoad(tr.t.Context(), tr.client(), tr.rand)
	defer l.stop()
	tr.wait(2500 * time.Millisecond)
	if when == afterAnEnd {
		l.stop()
		tr.stop()
		tr.wait(50 * time.Millisecond)
	}
	tr.disk.busy(tr.rand.IntN(mostCached))
	left = tr.disk.cut(keep, tr.rand, func() { was = l.upToNow() })
	return was, left
}

// mostCached is up to how many pages are to be in the cache when the power is cut: most of
// the time there are few, and nothing to lose.
const mostCached = 30

// wait waits for any time up to most.
func (tr *trial) wait(most time.Duration) {
	select {
	case <-time.After(time.Duration(tr.rand.Int64N(int64(most)))):
	case <-tr.t.Context().Done():
	}
}

func (tr *trial) check(was told) *checker {
	c := &checker{client: tr.client(), history: &tr.history}
	c.check(context.WithoutCancel(tr.t.Context()), was)
	return c
}

// end looks once more for all that was ever told, and says what came of it.
func (tr *trial) end() {
	var released, shown int
	for _, was := range tr.all {
		c := tr.check(was)
		tr.total.add(&c.verdict)
		released, shown = released+len(was.jobs), shown+len(was.events)
	}
	require.NotZero(tr.t, released)
	require.NotZero(tr.t, shown)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "cut\tmoment\tkept\tof pages\treleased\tshown\tjobs lost\tevents lost\tdoubled\tdamage\n%s", tr.rows.String())
	_ = w.Flush()
	fmt.Printf("%s: %d cuts, %d submits released, %d events shown; lost: %d jobs, %d events; %d doubled, %d reports of damage\n\n",
		tr.durability, len(tr.all), released, shown, tr.total.lostJobs, tr.total.lostEvents, tr.total.doubled, len(tr.damage))
}
