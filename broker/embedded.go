package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
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

// errLocked is the error of a store that another process has open.
var errLocked = errors.New("another process uses it")

// openEmbedded starts a JetStream server inside the process. It opens no port and
// keeps its streams below the directory, of which it is the only user.
func openEmbedded(ctx context.Context, opt Options) (*jetStream, error) {
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	unlock, err := lock(filepath.Join(opt.Dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", opt.Dir, err)
	}
	s, err := openLocked(ctx, opt, unlock)
	if err != nil {
		unlock()
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	return s, nil
}

func openLocked(ctx context.Context, opt Options, unlock func()) (*jetStream, error) {
	if _, err := os.Lstat(filepath.Join(opt.Dir, restoring)); err == nil { // an empty store would be taken for the one that was to come back
		return nil, fmt.Errorf("a restore into %s did not come to its end: remove what is in it, and restore again", opt.Dir)
	}
	m := &mender{dir: opt.Dir, log: opt.Log}
	if err := m.mend(); err != nil {
		return nil, err
	}
	sync, closeSync, err := syncOf(opt)
	if err != nil {
		return nil, err
	}
	e := &embedded{dir: opt.Dir, maxStore: opt.MaxStore, syncAlways: opt.PowerSafe && sync == nil, log: opt.Log}
	s, err := e.open(ctx)
	if err != nil {
		closeSync()
		return nil, err
	}
	s.found = m.found
	s.sound = m.sound
	if sync != nil {
		s.syncer = newSyncer(sync, func(err error) { _ = s.spoil(err) })
	}
	s.stop = func() {
		e.shutdown()
		closeSync()
		if err := m.closed(); err != nil {
			opt.Log.Warn("the end of the store not noted", zap.Error(err))
		}
		unlock()
	}
	return s, nil
}

// syncOf returns what makes the store durable beyond the server's own syncs; nil: nothing
// has to, or can.
func syncOf(opt Options) (sync func() error, close func(), err error) {
	if !opt.PowerSafe {
		return nil, func() {}, nil
	}
	sync, close, err = syncFS(opt.Dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, func() {}, nil
	}
	return sync, close, err
}

// embedded is a JetStream server of our own. A write that fails (the disk is full, or
// sick, or no file could be opened) makes it answer no write any more, also when all
// is well again; it is started anew then. Connections find the one that runs.
type embedded struct {
	dir        string
	maxStore   int64
	syncAlways bool
	log        *zap.Logger

	mu  sync.Mutex // held while it is restarted
	srv *server.Server

	failed atomic.Bool // a write of it failed
	full   atomic.Bool // and that for want of space
	next   time.Time   // not before then it is restarted again
	pause  time.Duration
}

// open starts the server and connects to it.
func (e *embedded) open(ctx context.Context) (*jetStream, error) {
	if err := e.start(); err != nil {
		return nil, err
	}
	nc, err := nats.Connect("", nats.InProcessServer(e), nats.MaxReconnects(-1), nats.Name("millstream"),
		nats.Timeout(storeTime),                                             // of a machine that stalls for a moment nobody has to start anew
		nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(0, 0), // it is only away while it is restarted
		nats.ReconnectBufSize(-1)) // what is published while it is away must not reach it before we know what it has
	if err != nil {
		e.shutdown()
		return nil, err
	}
	s, err := newJetStream(ctx, nc, e)
	if err != nil {
		nc.Close()
		e.shutdown()
		return nil, err
	}
	return s, nil
}

// neverMet is the limit that the server is given: what may be stored is decided
// before (room), and a server that refused by itself would refuse what makes room, too.
const neverMet = 1 << 50

// start starts the server. e.mu is held, or nobody else is there yet.
func (e *embedded) start() error {
	srv, err := server.NewServer(&server.Options{
		ServerName: "millstream", DontListen: true, NoSigs: true, NoLog: true, DisableJetStreamBanner: true,
		JetStream: true, StoreDir: e.dir, JetStreamMaxStore: neverMet, JetStreamMaxMemory: 1 << 20, // nothing is kept in its memory
		SyncInterval: syncInterval, SyncAlways: e.syncAlways, MaxPayload: maxPayload,
	})
	if err != nil {
		return err
	}
	srv.SetLoggerV2(serverLog{e.log.Named("nats").Sugar(), e}, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(startTime) {
		srv.Shutdown()
		return errors.New("not ready in time")
	}
	e.srv = srv
	return nil
}

func (e *embedded) shutdown() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.srv.Shutdown()
	e.srv.WaitForShutdown()
}

// restart starts the server anew, over what it left on the disk.
func (e *embedded) restart() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.srv.Shutdown()
	e.srv.WaitForShutdown()
	e.failed.Store(false)
	e.full.Store(false)
	return e.start()
}

const (
	// restartPause is how long a server that was started anew is left alone; it doubles up
	// to maxRestartPause while writes go on to fail, and begins again after that time.
	restartPause    = time.Second
	maxRestartPause = 30 * time.Second
)

// mayRestart reports whether the server's writes failed, and whether what ails it may
// be over. Only heal calls it.
func (e *embedded) mayRestart(now time.Time) bool {
	if !e.failed.Load() || e.full.Load() && e.free() <= 0 || now.Before(e.next) {
		return false
	}
	if now.Sub(e.next) > maxRestartPause {
		e.pause = 0
	}
	e.pause = min(max(restartPause, 2*e.pause), maxRestartPause)
	e.next = now.Add(e.pause)
	return true
}

// InProcessConn returns a connection to the server that runs now.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.srv.InProcessConn()
}

const (
	// diskSpare is what is left free of the disk for those who share it, and for what
	// a file system takes beside the files; of a small disk it is spareShare.
	diskSpare  = 64 << 20
	spareShare = 0.05
)

// free returns how much more the disk takes; less than nothing if it is full, or
// almost.
func (e *embedded) free() int64 {
	free, total, err := diskOf(e.dir)
	if err != nil {
		return math.MaxInt64 / 2 // not known
	}
	return free - min(diskSpare, int64(spareShare*float64(total)))
}

// serverLog passes the server's log to Zap, its notices to those who debug. The log is
// the only place where the server says why a write failed.
type serverLog struct {
	to *zap.SugaredLogger
	of *embedded
}

func (l serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if strings.Contains(text, syscall.ENOSPC.Error()) {
		l.of.full.Store(true)
		l.of.failed.Store(true)
	}
	if strings.Contains(strings.ToLower(text), "write error") {
		l.of.failed.Store(true)
	}
	l.to.Error(text)
}

func (l serverLog) Noticef(format string, v ...any) { l.to.Debugf(format, v...) }
func (l serverLog) Warnf(format string, v ...any)   { l.to.Warnf(format, v...) }
func (l serverLog) Fatalf(format string, v ...any)  { l.to.Errorf(format, v...) }
func (l serverLog) Debugf(string, ...any)           {}
func (l serverLog) Tracef(string, ...any)           {}

// openRemote connects to a NATS server with JetStream.
func openRemote(ctx context.Context, url string) (*jetStream, error) {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.Timeout(storeTime), nats.FlusherTimeout(storeTime), nats.Name("millstream"))
	if err != nil {
		return nil, fmt.Errorf("broker %w", err) // without the URL: it may hold a password
	}
	s, err := newRemote(ctx, nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("broker: %w", err)
	}
	return s, nil
}

func newRemote(ctx context.Context, nc *nats.Conn) (*jetStream, error) {
	if err := beSole(ctx, nc); err != nil {
		return nil, err
	}
	return newJetStream(ctx, nc, nil)
}

const (
	// here is where the process that serves the jobs of an account answers whoever
	// asks for it.
	here = "millstream.here"
	// hereTime is how long its answer may take: its handler has nothing to wait for.
	hereTime = 500 * time.Millisecond
)

// errNotSole is the error of a store that a process serves already. Each of two would
// take the other's running jobs for lost, and purge what the other had just stored.
var errNotSole = errors.New("another process serves the jobs on this server")

// beSole answers from now on that a process is here, unless another one does. Of two
// that begin at once none may go on.
func beSole(ctx context.Context, nc *nats.Conn) error {
	self := nats.NewInbox()
	_, err := nc.Subscribe(here, func(m *nats.Msg) {
		if m.Reply != "" && string(m.Data) != self {
			_ = m.Respond(nil)
		}
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, hereTime)
	defer cancel()
	_, err = nc.RequestWithContext(ctx, here, []byte(self))
	switch {
	case err == nil:
		return errNotSole
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoResponders):
		return nil // nobody but ourselves was asked
	}
	return err
}
