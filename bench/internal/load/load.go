// Package load submits jobs as fast as they are taken.
package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what to send. It ends after For, or when Count requests were
// answered if that is not 0.
type Config struct {
	Address string
	Path    string
	Body    string // JSON
	Wait    bool   // for the end of the job
	Clients int    // each with one connection, which it keeps
	For     time.Duration
	Count   int
}

// Result is what came of it.
type Result struct {
	Answers  int
	Elapsed  time.Duration
	P50, P99 time.Duration
}

// Load is the role.
type Load struct{}

// Run sends requests. Any answer that is not as expected is an error.
func (Load) Run(c Config, r *Result) error {
	var wg sync.WaitGroup
	left := new(atomic.Int64)
	left.Store(int64(c.Count))
	begin := time.Now()
	times, errs := make([][]time.Duration, c.Clients), make([]error, c.Clients)
	for i := range c.Clients {
		wg.Go(func() { times[i], errs[i] = c.client(begin.Add(c.For), left) })
	}
	wg.Wait()
	r.Elapsed = time.Since(begin)
	all := slices.Concat(times...)
	slices.Sort(all)
	if r.Answers = len(all); r.Answers > 0 {
		r.P50, r.P99 = all[len(all)/2], all[len(all)*99/100]
	}
	return errors.Join(errs...)
}

// client sends one request after the other, and returns how long each took.
func (c Config) client(end time.Time, left *atomic.Int64) (times []time.Duration, err error) {
	conn, err := net.Dial("tcp", c.Address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	request := c.request()
	answer := bufio.NewReader(conn)
	for begin := time.Now(); c.more(begin, end, left); {
		if _, err := conn.Write(request); err != nil {
			return times, err
		}
		if err := skip(answer, c.expected()); err != nil {
			return times, err
		}
		now := time.Now()
		times = append(times, now.Sub(begin))
		begin = now
	}
	return times, nil
}

func (c Config) request() []byte {
	prefer := ""
	if c.Wait {
		prefer = "Prefer: wait=30\r\n"
	}
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s",
		c.Path, c.Address, prefer, len(c.Body), c.Body)
}

// expected returns what the status line of an answer begins with: a wait that was in
// vain is answered 202.
func (c Config) expected() []byte {
	if c.Wait {
		return []byte("HTTP/1.1 200")
	}
	return []byte("HTTP/1.1 2")
}

func (c Config) more(now, end time.Time, left *atomic.Int64) bool {
	if c.Count > 0 {
		return left.Add(-1) >= 0
	}
	return now.Before(end)
}

// skip reads one answer. It is all of HTTP that the servers here speak: net/http's
// client would take more of the machine than the server does.
func skip(answer *bufio.Reader, expected []byte) error {
	status, err := answer.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, expected) {
		return fmt.Errorf("the answer was %q", status)
	}
	length := 0
	for {
		line, err := answer.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if text, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(text)); err != nil {
				return err
			}
		}
	}
	_, err = io.CopyN(io.Discard, answer, int64(length))
	return err
}
