package broker_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millstream/millstream/broker"
	"github.com/millstream/millstream/broker/brokertest"
)

// TestMain fails if goroutines are left. Those of a connection that was closed end a moment
// later, which goleak by itself gives no half a second.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		err := goleak.Find()
		for late := time.Now().Add(time.Minute); err != nil && time.Now().Before(late); {
			err = goleak.Find()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func TestMemory(t *testing.T) {
	brokertest.Run(t, func(*testing.T) brokertest.Store {
		return brokertest.Store{Open: openWith}
	})
}

func TestEmbedded(t *testing.T) {
	brokertest.Run(t, func(t *testing.T) brokertest.Store {
		dir := t.TempDir()
		return brokertest.Store{Durable: true, Open: func(t *testing.T, opt broker.Options) *broker.Broker {
			opt.Dir, opt.MaxStore = dir, 1<<30
			return openWith(t, opt)
		}}
	})
}

// TestRemote runs the suite against a NATS server over TCP.
func TestRemote(t *testing.T) {
	brokertest.Run(t, func(t *testing.T) brokertest.Store {
		url := startServer(t)
		return brokertest.Store{Durable: true, Open: func(t *testing.T, opt broker.Options) *broker.Broker {
			opt.URL = url
			return openWith(t, opt)
		}}
	})
}

func openWith(t *testing.T, opt broker.Options) *broker.Broker {
	t.Helper()
	b, err := broker.Open(t.Context(), opt)
	require.NoError(t, err)
	return b
}

// startServer starts a NATS server of its own on a free port of loopback.
func startServer(t *testing.T) (url string) {
	t.Helper()
	_, url = startServerWith(t, func(*server.Options) {})
	return url
}

func startServerWith(t *testing.T, change func(*server.Options)) (srv *server.Server, url string) {
	t.Helper()
	opt := &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 1 << 30, JetStreamMaxMemory: 1 << 20,
	}
	change(opt)
	srv, err := server.NewServer(opt)
	require.NoError(t, err)
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	require.True(t, srv.ReadyForConnections(time.Minute))
	return srv, srv.ClientURL()
}
