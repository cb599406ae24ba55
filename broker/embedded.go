package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	// syncInterval bounds what a loss of power can take; kill -9 loses nothing at
	// any interval. One second costs nothing that can be measured.
	syncInterval = time.Second
	// maxPayload leaves room around the largest input and the largest event.
	maxPayload = 8 << 20
	// startTime is how long a large store may take to be read.
	startTime = 2 * time.Minute
)

// openEmbedded starts a JetStream server inside the process. It opens no port and
// keeps its streams below dir, of which it is the only user.
func openEmbedded(ctx context.Context, dir string, maxStore int64) (*jetStream, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	srv, err := startServer(dir, maxStore)
	if err != nil {
		unlock()
		return nil, err
	}
	stop := func() { srv.Shutdown(); srv.WaitForShutdown(); unlock() }
	nc, err := nats.Connect("", nats.InProcessServer(srv), nats.MaxReconnects(-1), nats.Name("millstream"))
	if err != nil {
		stop()
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	s, err := newJetStream(ctx, nc, stop)
	if err != nil {
		nc.Close()
		stop()
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	s.maxStore = maxStore
	return s, nil
}

func startServer(dir string, maxStore int64) (*server.Server, error) {
	srv, err := server.NewServer(&server.Options{
		ServerName: "millstream", DontListen: true, NoSigs: true, NoLog: true, DisableJetStreamBanner: true,
		JetStream: true, StoreDir: dir, JetStreamMaxStore: maxStore, JetStreamMaxMemory: 1 << 20, // nothing is kept in its memory
		SyncInterval: syncInterval, MaxPayload: maxPayload,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(startTime) {
		srv.Shutdown()
		return nil, errors.New("embedded broker: not ready in time")
	}
	return srv, nil
}

// openRemote connects to a NATS server with JetStream.
func openRemote(ctx context.Context, url string) (*jetStream, error) {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.FlusherTimeout(storeTime), nats.Name("millstream"))
	if err != nil {
		return nil, fmt.Errorf("broker %w", err) // without the URL: it may hold a password
	}
	s, err := newJetStream(ctx, nc, nil)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("broker: %w", err)
	}
	return s, nil
}
