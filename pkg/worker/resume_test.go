package worker_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// The next process goes on in the middle: the output is one text, its chunks are
// numbered on, what is said again is not there twice, and progress does not fall.
func TestPullAttemptGoesOnInTheNextProcess(t *testing.T) {
	desk(t, func(t *testing.T, o *office) {
		o.earlier = []job.Record{
			{Type: job.Output, Data: []byte(`{"index":0,"chunk":"one "}`)},
			{Type: job.Output, Data: []byte(`{"index":1,"chunk":"dHdvIA==","encoding":"base64"}`)},
			{Type: job.Progress, Data: []byte(`{"progress":7}`)},
		}
		go o.run()
		synctest.Wait()
		_, err := o.say(t,
			said(job.Output, `{"chunk":"two thr","offset":4}`),
			said(job.Output, `{"chunk":"three","offset":8}`),
			said(job.Progress, `{"progress":6}`),
		)
		require.NoError(t, err)
		require.Equal(t, []string{`{"index":2,"chunk":"three"}`}, o.data(job.Output))
		require.Empty(t, o.data(job.Progress))
		_, err = o.say(t, said(job.Succeeded, `{"output":true}`))
		require.NoError(t, err)
		require.Equal(t, `{"result":"one two three"}`, string(o.out.Record.Data))
	})
}

// Where the output was cut before the process ended is its end for the next one too.
func TestCutOutputStaysCutInTheNextProcess(t *testing.T) {
	desk(t, func(t *testing.T, o *office) {
		first := open(t)
		first.before = used{bytes: worker.DefaultLimits.Bytes - 5}
		first.lease(t)
		_, err := first.say(t, said(job.Output, `{"chunk":"hello world","offset":0}`))
		require.NoError(t, err)
		o.earlier = first.stored()
		first.cancel(job.ErrDraining)
		<-first.ended

		go o.run()
		synctest.Wait()
		_, err = o.say(t, said(job.Output, `{"chunk":"!","offset":11}`), said(job.Succeeded, `{"output":true}`))
		require.NoError(t, err)
		require.Empty(t, o.stored())
		require.True(t, o.out.Record.Private.Result.Truncated)
		require.EqualValues(t, 5, o.out.Record.Private.Result.Size)
	})
}
