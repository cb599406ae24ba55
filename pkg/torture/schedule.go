package torture

import (
	"math/rand/v2"
	"time"
)

// doing is something that is done to the server, or around it.
type doing struct {
	name  string
	after time.Duration // since the beginning, at the earliest
	last  time.Duration // how long it lasts
	n     int           // what else it needs to know
}

// faultWeights are how often each fault comes, beside the others. Only those that the
// system can make are made.
var faultWeights = []struct {
	name   string
	weight int
}{
	{kill, 8},           // kill -9, and a start
	{killAcked, 6},      // the same, right behind an answer to a submit
	{stop, 4},           // SIGSTOP and SIGCONT
	{term, 2},           // an orderly stop, and a start
	{cut, 5},            // of every connection
	{cutFrame, 5},       // the same, after some more bytes
	{workerKill, 4},     // a command of the server's
	{workerFreeze, 2},   //
	{upstreamCut, 3},    // its answers end
	{upstreamFreeze, 2}, // its answers pause
	{disk, 2},           // writes fail
}

const (
	kill           = "kill"
	killAcked      = "kill behind an ack"
	stop           = "stop"
	term           = "restart"
	cut            = "cut"
	cutFrame       = "cut in a frame"
	workerKill     = "kill a command"
	workerFreeze   = "freeze a command"
	upstreamCut    = "cut the upstream"
	upstreamFreeze = "freeze the upstream"
	disk           = "sick disk"
)

const (
	firstFault = 300 * time.Millisecond // something has to be under way
	meanGap    = 1200 * time.Millisecond
	minLast    = 200 * time.Millisecond
	maxLast    = 3 * time.Second
	maxBytes   = 3000 // that a connection has yet before it is cut: some events
)

// schedule returns what is done in a torture of that length. It depends on the seed
// alone: what is done later is not changed by how long the earlier took.
func schedule(seed uint64, length time.Duration) (list []doing) {
	r := rand.New(rand.NewPCG(seed, 1))
	for at := firstFault; at < length; at += meanGap/2 + upTo(r, meanGap) {
		list = append(list, doing{
			name: pick(r), after: at, last: minLast + upTo(r, maxLast-minLast), n: r.IntN(maxBytes),
		})
	}
	return list
}

// upTo returns some time less than the most.
func upTo(r *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(most)))
}

func pick(r *rand.Rand) string {
	sum := 0
	for _, f := range faultWeights {
		sum += f.weight
	}
	n := r.IntN(sum)
	for _, f := range faultWeights {
		if n -= f.weight; n < 0 {
			return f.name
		}
	}
	panic("unreachable")
}
