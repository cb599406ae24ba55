package millstream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/hub"
	"github.com/millstream/millstream/pkg/index"
	"github.com/millstream/millstream/pkg/job"
)

// readLog has one event of every job and counts who reads it.
type readLog struct {
	hub.Log // nil: of what else there is nothing is asked
	reads   int
}

func (l *readLog) History(_ context.Context, id job.ID, _ job.Cursor, _ int) ([]job.Event, error) {
	l.reads++
	return []job.Event{ended(id)}, nil
}

func (l *readLog) Job(_ context.Context, id job.ID) (job.Job, error) { return job.Job{ID: id}, nil }

func ended(id job.ID) job.Event {
	return job.Event{Job: id, Record: job.Record{Seq: 1, Type: job.Canceled, Data: []byte("{}")}, Place: job.Place{Position: 1, Epoch: 1}}
}

// What expires leaves the memory of the hub with the next sweep.
func TestSweepDropsTapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &readLog{}
		p := &parts{hub: hub.New(log, nil, hub.Options{}), index: index.New(log)}
		id := job.NewID()
		e := ended(id)
		c := &job.Commit{Job: &job.Job{ID: id, Status: job.StatusCanceled, ExpiresAt: time.Now().Add(time.Hour), Cursor: e.Cursor()}, Events: []job.Event{e}}
		p.index.Fold(c)
		p.hub.Fold(c)
		ctx, cancel := context.WithCancel(t.Context())
		go p.sweep(ctx)
		onTape := func() bool {
			before := log.reads
			r, err := p.hub.Open(ctx, id, job.Cursor{})
			require.NoError(t, err)
			_, err = r.Next(ctx, nil)
			require.NoError(t, err)
			r.Close()
			return log.reads == before
		}
		time.Sleep(time.Hour - time.Second)
		require.True(t, onTape())
		time.Sleep(time.Minute)
		require.False(t, onTape())
		cancel()
		synctest.Wait()
	})
}
