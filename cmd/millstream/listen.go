package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/standardwebhooks"
)

// listener receives webhooks and prints them.
type listener struct {
	secrets []string
	address string
	answer  int
	bodies  bool

	keys standardwebhooks.Keys
	out  io.Writer
	mu   sync.Mutex // protects out, and what follows
	seen map[string]bool
}

const (
	// maxHook is how large a webhook may be: an event, and what is around it.
	maxHook = 512 << 10
	// maxSeen is how many ids are remembered.
	maxSeen = 10_000
)

func webhookListenCommand() *cobra.Command {
	l := &listener{seen: map[string]bool{}}
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "Receives webhooks on this machine, verifies them, and prints a line for each",
		Long: `Receives webhooks, to try them: verifies each as a receiver should, prints a line for it, and
answers 204, or what --answer says. What does not verify is answered 401. Without --secret it
makes one, and says how a server is to be run that sends here.`,
		Example: `  millstream webhook listen
  millstream webhook listen --addr 127.0.0.1:9001 --secret "$(cat webhook.secret)" --body
  millstream webhook listen --answer 503          # a receiver that is in trouble`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&l.secrets, "secret", nil, "`secret` that they are signed with; may be repeated: any of these")
	f.StringVar(&l.address, "addr", "127.0.0.1:9000", "`host:port` to listen on")
	f.IntVar(&l.answer, "answer", http.StatusNoContent, "`status` to answer what verifies with")
	f.BoolVar(&l.bodies, "body", false, "print each body behind its line")
	return cmd
}

func (l *listener) run(cmd *cobra.Command) (err error) {
	if l.answer < 200 || l.answer > 599 {
		return errors.New("--answer must be a status from 200 to 599")
	}
	made := len(l.secrets) == 0
	if made {
		l.secrets = []string{standardwebhooks.NewSecret()}
	}
	if several := strings.Fields(strings.Join(l.secrets, " ")); len(several) > 0 { // as a file has them, a line each
		l.secrets = several
	}
	if l.keys, err = standardwebhooks.ParseKeys(l.secrets...); err != nil {
		return fmt.Errorf("--secret: %w", err)
	}
	ln, err := net.Listen("tcp", l.address)
	if err != nil {
		return &exitError{exitFailed, err}
	}
	l.out = cmd.OutOrStdout()
	l.introduce(cmd.ErrOrStderr(), ln.Addr(), made)
	return l.serve(cmd.Context(), ln)
}

// introduce says how to send something here, from this machine. wordcount is a sample that
// such a server has.
func (l *listener) introduce(w io.Writer, on net.Addr, made bool) {
	fmt.Fprintf(w, "Receiving webhooks on http://%s/\n", on)
	if made {
		to := reached(on)
		fmt.Fprintf(w, "Send some:\n  millstream serve --webhooks-secret %s --webhooks-allow %s\n  echo hello | millstream submit wordcount --webhook http://%s/\n", l.secrets[0], to.Addr(), to)
	}
}

// reached returns an address that leads to on: nobody can send to 'all addresses'.
func reached(on net.Addr) netip.AddrPort {
	at := on.(*net.TCPAddr).AddrPort()
	if addr := at.Addr().Unmap(); !addr.IsUnspecified() {
		return netip.AddrPortFrom(addr, at.Port())
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
}

func (l *listener) serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{Handler: l, ReadTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return &exitError{exitFailed, err}
	}
	return nil
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHook))
	if err == nil {
		err = l.keys.Verify(r.Header, body)
	}
	status := l.answer
	if err != nil {
		status = http.StatusUnauthorized
	}
	l.print(r, body, err)
	w.WriteHeader(status)
}

// print prints a line for what came.
func (l *listener) print(r *http.Request, body []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, id := time.Now().Format(time.TimeOnly), r.Header.Get(standardwebhooks.HeaderID)
	if err != nil {
		fmt.Fprintf(l.out, "%s refused: %v\n", now, err)
		return
	}
	again := ""
	if l.seen[id] {
		again = " again"
	}
	if len(l.seen) >= maxSeen {
		clear(l.seen)
	}
	l.seen[id] = true
	var e struct{ Type, Job string }
	_ = json.Unmarshal(body, &e) // it may be from another sender
	fmt.Fprintf(l.out, "%s verified%s %s %s %s\n", now, again, clean(e.Type), clean(e.Job), clean(id))
	if l.bodies {
		fmt.Fprintf(l.out, "%s\n", clean(string(body)))
	}
}
