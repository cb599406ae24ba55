package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// stores are those whose reads must not differ.
var stores = map[string]func(*testing.T) store{
	"memory": func(t *testing.T) store {
		m := newMemory()
		t.Cleanup(m.close)
		return m
	},
	"embedded": func(t *testing.T) store {
		s, err := openEmbedded(t.Context(), Options{Dir: t.TempDir(), MaxStore: 1 << 30, Log: zap.NewNop()})
		require.NoError(t, err)
		t.Cleanup(s.close)
		require.True(t, s.direct)
		return s
	},
	"remote": func(t *testing.T) store { return remoteStore(t, nil, true) },
	"remote, with a stream of its operator's": func(t *testing.T) store {
		return remoteStore(t, &jetstream.StreamConfig{Name: jobsStream, Subjects: []string{"jobs.>"}}, false)
	},
}

// remoteStore opens a store on a server that has the stream already, if one is given.
func remoteStore(t *testing.T, has *jetstream.StreamConfig, direct bool) store {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
	})
	require.NoError(t, err)
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	require.True(t, srv.ReadyForConnections(timeToWait))
	if has != nil {
		nc, err := nats.Connect(srv.ClientURL())
		require.NoError(t, err)
		defer nc.Close()
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		_, err = js.CreateStream(t.Context(), *has)
		require.NoError(t, err)
	}
	s, err := openRemote(t.Context(), srv.ClientURL())
	require.NoError(t, err)
	t.Cleanup(s.close)
	require.Equal(t, direct, s.direct, "an operator's stream is left as it is")
	return s
}

// publishTo stores the next message of a subject.
func publishTo(t *testing.T, s store, subject string, fence uint64, data string) (position uint64) {
	t.Helper()
	done := make(chan error)
	s.publish(subject, fence, []byte(data), func(p uint64, err error) {
		position = p
		done <- err
	})
	require.NoError(t, <-done)
	return position
}

// severalOf looks at several messages until it has found all that get finds: a look gives up
// after a while, which on a machine that is busy may be before the last answer.
func severalOf(t *testing.T, s store, positions []uint64) (found []stored) {
	t.Helper()
	require.Eventually(t, func() bool {
		found = s.several(t.Context(), positions)
		for i, p := range positions {
			if _, err := s.get(t.Context(), p); err == nil && found[i].subject == "" {
				return false
			}
		}
		return true
	}, timeToWait, tick)
	return found
}

// Several messages are read at once, each as get reads it: those of one job, which lie
// between another's, and nothing in the place of what was purged or is yet to come.
func TestSeveral(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			const a, b, n = "jobs.k.a", "jobs.k.b", 300
			var want []stored
			var positions []uint64
			for i, fence := 0, uint64(0); i < n; i++ {
				data := fmt.Sprint("message ", i, "\r\n\x00")
				if i == n/2 {
					data = strings.Repeat(data, 40_000)
				}
				fence = publishTo(t, s, a, fence, data)
				want, positions = append(want, stored{a, fence, []byte(data)}), append(positions, fence)
				if i%7 == 0 {
					publishTo(t, s, b+fmt.Sprint(i), 0, "another's")
				}
			}
			require.Equal(t, want, severalOf(t, s, positions))
			require.Empty(t, s.several(t.Context(), nil))
			const gone = 100
			require.NoError(t, s.purge(t.Context(), positions[gone]))
			positions = append(positions, 1_000_000)
			want = append(append(make([]stored, gone), want[gone:]...), stored{})
			got := severalOf(t, s, positions)
			for i, p := range positions {
				m, err := s.get(t.Context(), p)
				if want[i].position == 0 {
					require.ErrorIs(t, err, errNone)
					require.Empty(t, got[i].subject, "no message is where none is")
					continue
				}
				require.NoError(t, err)
				require.Equal(t, want[i], m)
				require.Equal(t, want[i], got[i])
			}
			m, err := s.next(t.Context(), a, 0)
			require.NoError(t, err)
			require.Equal(t, want[gone], m)
			_, err = s.next(t.Context(), "jobs.k.none", 0)
			require.ErrorIs(t, err, errNone)
			_, err = s.next(t.Context(), a, 999_999)
			require.ErrorIs(t, err, errNone)
		})
	}
}

// A stream that our own server has from before it was read in this way is from now on.
func TestOlderStreamIsReadDirectly(t *testing.T) {
	dir := t.TempDir()
	s, err := openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	for _, stream := range []jetstream.Stream{s.jobs, s.hooks} {
		c := stream.CachedInfo().Config
		c.AllowDirect = false
		_, err = s.js.UpdateStream(t.Context(), c)
		require.NoError(t, err)
	}
	p := publishTo(t, s, "jobs.k.a", 0, "data")
	s.close()

	s, err = openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	defer s.close()
	require.True(t, s.direct)
	require.True(t, s.hooks.CachedInfo().Config.AllowDirect)
	require.True(t, s.hooks.CachedInfo().Config.AllowDirect)
	require.Equal(t, []stored{{"jobs.k.a", p, []byte("data")}}, severalOf(t, s, []uint64{p}))
}

// What must be a verdict is asked of the leader, also if any server would answer.
func TestVerdictsAreTheLeaders(t *testing.T) {
	s, err := openEmbedded(t.Context(), Options{Dir: t.TempDir(), MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	defer s.close()
	p := publishTo(t, s, "jobs.k.a", 0, "data")
	asked, err := s.nc.SubscribeSync("$JS.API.>")
	require.NoError(t, err)
	_, err = s.get(t.Context(), p)
	require.NoError(t, err)
	_, err = s.next(t.Context(), "jobs.k.a", p)
	require.NoError(t, err)
	for range 2 {
		m, err := asked.NextMsg(timeToWait)
		require.NoError(t, err)
		require.Equal(t, askLeader, m.Subject)
	}
}

// What somebody else's servers have of deliveries and keys is asked of the leader, also if any
// of them would answer: one that lags behind would say that there is none.
func TestDeliveriesElsewhereAreTheLeaders(t *testing.T) {
	s := remoteStore(t, nil, true).(*jetStream)
	for _, stream := range []*jetstream.Stream{&s.hooks, &s.keyed} {
		c := (*stream).CachedInfo().Config
		require.False(t, c.AllowDirect, "it is not changed")
		c.AllowDirect = true
		changed, err := s.js.UpdateStream(t.Context(), c)
		require.NoError(t, err)
		*stream = changed
	}
	_, err := s.setDelivery(t.Context(), "due.a.b", []byte("d"), 0, nil)
	require.NoError(t, err)
	_, err = s.setKey(t.Context(), "k", []byte("v"), time.Hour, true)
	require.NoError(t, err)
	asked, err := s.nc.SubscribeSync("$JS.API.>")
	require.NoError(t, err)
	was := func(stream string) {
		m, err := asked.NextMsg(timeToWait)
		require.NoError(t, err)
		require.Equal(t, leaderAPI+stream, m.Subject)
	}
	d, err := s.delivery(t.Context(), "due.a.b")
	require.NoError(t, err)
	require.Equal(t, "d", string(d.data))
	was(hooksStream)
	_, err = s.delivery(t.Context(), "due.a.c")
	require.ErrorIs(t, err, errNone)
	was(hooksStream)
	v, err := s.key(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "v", string(v))
	was(keysStream)
}

// An operator who takes back the permission to read directly is no damage.
func TestNoLongerDirect(t *testing.T) {
	s, err := openEmbedded(t.Context(), Options{Dir: t.TempDir(), MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	b := node(t, s)
	id := talk(t, b).Job.ID
	c := s.jobs.CachedInfo().Config
	c.AllowDirect = false
	_, err = s.js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	requireAll(t, allEvents(t, b, id))
}
