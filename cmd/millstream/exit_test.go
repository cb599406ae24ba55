package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

func TestExitCode(t *testing.T) {
	r := &remote{address: "http://s"}
	for want, errs := range map[int][]error{
		exitOK:          {nil, r.fault(nil), ofStatus(job.StatusSucceeded), worst(nil), said(nil)},
		exitFailed:      {ofStatus(job.StatusFailed), said(ofStatus(job.StatusFailed))},
		exitUsage:       {errors.New("x")},
		exitCanceled:    {ofStatus(job.StatusCanceled)},
		exitServer:      {r.fault(job.ErrNotFound), r.fault(errors.New("x"))},
		exitInterrupted: {context.Canceled, r.fault(fmt.Errorf("x: %w", context.Canceled))},
	} {
		for _, err := range errs {
			require.Equal(t, want, exitCode(err), "%v", err)
		}
	}
}

func TestWorst(t *testing.T) {
	failed, canceled, server := ofStatus(job.StatusFailed), ofStatus(job.StatusCanceled), (&remote{}).fault(job.ErrNotFound)
	for _, tt := range []struct {
		errs []error
		want error
	}{
		{[]error{nil, nil}, nil},
		{[]error{nil, canceled}, canceled},
		{[]error{canceled, failed, nil}, failed},
		{[]error{failed, server, canceled}, server},
		{[]error{server, context.Canceled}, context.Canceled},
	} {
		require.Equal(t, tt.want, worst(tt.errs))
	}
}

func TestReport(t *testing.T) {
	for want, err := range map[string]error{"millstream: x\n": errors.New("x"), "": ofStatus(job.StatusFailed)} {
		var b bytes.Buffer
		report(&b, err)
		require.Equal(t, want, b.String())
	}
	var b bytes.Buffer
	report(&b, nil)
	report(&b, context.Canceled)
	require.Empty(t, b.String())
}

// What failed on the way says whether there was anybody, and of a submit whether
// there may be a job.
func TestInPlainWords(t *testing.T) {
	r := &remote{address: "http://s"}
	lost := &url.Error{Op: "Post", URL: "http://s/v1", Err: io.EOF}
	nobody := &url.Error{Op: "Post", URL: "http://s/v1", Err: &net.OpError{Op: "dial", Err: errors.New("refused")}}
	require.EqualError(t, r.fault(nobody), "cannot reach http://s: dial: refused (does 'millstream serve' run there? see --server)")
	require.EqualError(t, r.unanswered(io.Discard, nobody), r.fault(nobody).Error())
	require.EqualError(t, r.fault(lost), "the request to http://s failed: EOF")
	require.EqualError(t, r.unanswered(io.Discard, lost), "the request to http://s failed: EOF; the job may have been stored, or not")
	require.Equal(t, exitServer, exitCode(r.unanswered(io.Discard, lost)))

	unread := &url.Error{Op: "Post", URL: "http://s/v1", Err: &fs.PathError{Op: "read", Path: "f", Err: io.ErrNoProgress}}
	require.EqualError(t, r.unanswered(io.Discard, unread), "read f: "+io.ErrNoProgress.Error())
	require.Equal(t, exitUsage, exitCode(r.unanswered(io.Discard, unread)))

	var said bytes.Buffer
	require.Equal(t, exitInterrupted, exitCode(r.unanswered(&said, context.Canceled)))
	require.Equal(t, "Interrupted before the answer: the job may have been stored, or not.\n", said.String())

	p := job.Problemf("invalid-request", "tags/0: must be short")
	p.Errors = []job.FieldError{{Pointer: "/tags/0", Detail: "must be short"}}
	require.EqualError(t, r.fault(p), p.Detail, "nothing is said twice")
}
