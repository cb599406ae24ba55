package broker_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/broker"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
)

func remote(t *testing.T, url string) (*broker.Broker, error) {
	k := job.Kind{Name: "k"}
	q := queue.New(k)
	return broker.Open(t.Context(), broker.Options{URL: url, Kinds: []job.Kind{k}, Queue: q, Folds: []func(*job.Commit){q.Fold}})
}

// A second process on a server does not begin; once the first is gone it does.
func TestSole(t *testing.T) {
	url := startServer(t)
	first, err := remote(t, url)
	require.NoError(t, err)
	const hereTime = 500 * time.Millisecond // that the first has to say that it is there: on a slow machine it may not
	for tries := 0; ; tries++ {
		begin := time.Now()
		second, err := remote(t, url)
		if err != nil {
			require.ErrorContains(t, err, "another process")
			break
		}
		require.NoError(t, second.Close())
		require.Greater(t, time.Since(begin), hereTime, "nobody was asked")
		require.Less(t, tries, 3)
	}
	_, err = first.Submit(t.Context(), job.NewID(), &job.Request{Kind: "k"})
	require.NoError(t, err, "the first does not notice")
	require.NoError(t, first.Close())
	next, err := remote(t, url)
	require.NoError(t, err)
	require.NoError(t, next.Close())
}

// A server that is full is opened all the same: what it has is served.
func TestRemoteFull(t *testing.T) {
	srv, url := startServerWith(t, func(o *server.Options) { o.JetStreamMaxStore = 1 << 20 })
	b, err := remote(t, url)
	require.NoError(t, err)
	id := job.NewID()
	_, err = b.Submit(t.Context(), id, &job.Request{Kind: "k", Input: []byte("in")})
	require.NoError(t, err)
	require.NoError(t, b.Close())
	fill(t, srv.ClientURL())

	b, err = remote(t, url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	j, err := b.Job(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, job.StatusQueued, j.Status)
	_, err = b.Submit(t.Context(), job.NewID(), &job.Request{Kind: "k"})
	require.ErrorContains(t, err, "full")
}

// fill fills the store of the server to the last message.
func fill(t *testing.T, url string) {
	t.Helper()
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	defer nc.Close()
	js, err := nc.JetStream()
	require.NoError(t, err)
	_, err = js.AddStream(&nats.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
	require.NoError(t, err)
	for size := 100 << 10; size > 0; {
		if _, err := js.Publish("other", make([]byte, size)); err != nil {
			size /= 2
		}
	}
}
