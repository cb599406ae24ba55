package broker

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// What was sent is kept no longer than it takes to deliver it, where its job has it; a replay
// sends the same bytes again, of a result that stood there by reference too.
func TestBodyOfWhatWasDelivered(t *testing.T) {
	for _, size := range []int{10, 20 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			var e ear
			m := newMemory()
			t.Cleanup(m.close)
			b := telling(t, shared{m}, e.due)
			id := job.NewID()
			_, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind, Webhook: &job.Webhook{URL: "https://a/"}})
			require.NoError(t, err)
			task := claimFrom(t, b, id)
			text := bytes.Repeat([]byte("x"), size)
			end := attached(task, text)
			end.Record.Data = job.MustData(map[string]string{"result": string(text)})
			task.Succeed(end)
			require.NoError(t, task.succeed(t.Context()))
			require.Eventually(t, func() bool { return b.Archived(id) }, timeToWait, tick)
			told := e.heard()
			require.Len(t, told, 1)
			first := told[0]
			require.Equal(t, size < 100, bytes.Contains(first.Body, text))

			deliver := func() {
				d, err := b.Delivery(t.Context(), id, first.ID)
				require.NoError(t, err)
				require.Equal(t, string(first.Body), string(d.Body))
				d.State = job.Delivered
				require.NoError(t, b.Tried(t.Context(), &d))
				require.Equal(t, string(first.Body), string(d.Body), "what was given is as it was")
				kept, err := b.Delivery(t.Context(), id, first.ID)
				require.NoError(t, err)
				require.Empty(t, kept.Body)
			}
			deliver()
			_, err = b.Replay(t.Context(), id, first.ID)
			require.NoError(t, err)
			deliver()
			b.purgeBelow(b.mark())
			_, err = b.Replay(t.Context(), id, first.ID)
			require.NoError(t, err)
			deliver()

			m.mu.Lock()
			delete(m.archive, string(id))
			m.mu.Unlock()
			_, err = b.Replay(t.Context(), id, first.ID)
			require.ErrorIs(t, err, job.ErrNotFound, "its job is no more")
		})
	}
}

// What may outlive its job keeps what it sends.
func TestLean(t *testing.T) {
	d := pending()
	d.KeptUntil = time.Now().Add(2 * deliveredTime)
	for state, kept := range map[job.DeliveryState]bool{job.DeliveryPending: true, job.DeliveryDead: true, job.Delivered: false} {
		d.State = state
		require.Equal(t, kept, lean(d).Body != nil, state)
	}
	d.KeptUntil = time.Now().Add(deliveredTime / 2)
	require.NotNil(t, lean(d).Body)
}
