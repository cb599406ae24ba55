package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
