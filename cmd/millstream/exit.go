package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"

	"github.com/millstream/millstream/pkg/job"
)

// The codes that the program ends with. Scripts rely on them; --help lists them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitCanceled    = 3
	exitServer      = 4
	exitNotOver     = 5
	exitDamaged     = 6
	exitInterrupted = 130 // what a shell shows for SIGINT
)

const exitHelp = `Exit codes:
  0    done; of a job that was watched: it succeeded
  1    the job failed; or the output could not be written, or the server stopped with an error, or is not healthy,
       or a store or a backup could not be read or written, as when there is none, a server has it open, or
       something is there already; or what was tortured broke a promise, or could not be judged
  2    wrong usage or configuration
  3    the job was canceled
  4    the server cannot be reached, or it refused
  5    the job was not over when --wait was
  6    the store is damaged
  130  interrupted; the job goes on, unless it was submitted with --cancel-on-disconnect
Of several jobs the first of 4, 1, 3 that holds for any of them counts.`

// exitError is an error that decides the code the program ends with. Its err may
// be nil: then all there is to say was said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exitCode returns the code for err. What nobody has given one came up before
// anything was done: it is a mistake in how the program was called.
func exitCode(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &e):
		return e.code
	}
	return exitUsage
}

// report says on w what went wrong, unless that was said.
func report(w io.Writer, err error) {
	var e *exitError
	if err == nil || errors.As(err, &e) && e.err == nil || errors.Is(err, context.Canceled) {
		return
	}
	fmt.Fprintf(w, "millstream: %v\n", err)
}

// inPlainWords says of an error of a request what a user can do about it.
func inPlainWords(server string, err error) error {
	var refused *job.Problem
	switch {
	case errors.As(err, &refused):
		for _, f := range refused.Errors {
			if strings.Contains(refused.Detail, f.Detail) {
				continue // it was said
			}
			err = fmt.Errorf("%w\n  %s: %s", err, f.Pointer, f.Detail)
		}
		return err
	case neverReached(err):
		return fmt.Errorf("cannot reach %s: %w (does 'millstream serve' run there? see --server)", server, away(err).Err)
	case away(err) != nil:
		return fmt.Errorf("the request to %s failed: %w", server, away(err).Err)
	}
	return fmt.Errorf("%s: %w", server, err)
}

// away returns the error of a request that got no answer; nil if it is another one.
func away(err error) *url.Error {
	var e *url.Error
	_ = errors.As(err, &e)
	return e
}

// neverReached reports whether nobody was there to be asked.
func neverReached(err error) bool {
	var dial *net.OpError
	return away(err) != nil && errors.As(err, &dial) && dial.Op == "dial"
}

// ofStatus returns the error that stands for a job's end; nil if it succeeded.
func ofStatus(s job.Status) error {
	switch s {
	case job.StatusFailed:
		return &exitError{code: exitFailed}
	case job.StatusCanceled:
		return &exitError{code: exitCanceled}
	}
	return nil
}

// worst returns the error that counts for several jobs.
func worst(errs []error) error {
	rank := map[int]int{exitServer: 1, exitFailed: 2, exitCanceled: 3}
	var first error
	best := len(rank) + 1
	for _, err := range errs {
		if r, ok := rank[exitCode(err)]; ok && r < best {
			first, best = err, r
		} else if !ok && err != nil {
			return err
		}
	}
	return first
}

// said returns an error with the code of err and nothing more to say.
func said(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: exitCode(err)}
}
