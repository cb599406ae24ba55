package client_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

const aDelivery = `{"id":"4-7-1","webhook_id":"j_4-7-1","type":"job.failed","url":"https://a/","state":"dead","tries":10,"created_at":"2026-11-22T10:00:00.000Z",
	"next_at":null,"settled_at":"2026-11-25T12:00:00.000Z","last":{"at":"2026-11-25T12:00:00.000Z","status":null,"error":"down"},"links":{"replay":"/x"}}`

func TestDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked, answer string
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = r.Method + " " + r.URL.Path
			_, _ = io.WriteString(w, answer)
		}), client.Options{})
		defer stop()
		answer = `{"deliveries":[` + aDelivery + `,{"id":"3-6-1","last":null}]}`
		all, err := c.Deliveries(t.Context(), testJob)
		require.NoError(t, err)
		require.Equal(t, "GET /v1/jobs/"+string(testJob)+"/deliveries", asked)
		require.Len(t, all, 2)
		d := all[0]
		require.Equal(t, job.DeliveryDead, d.State)
		require.Equal(t, "j_4-7-1", d.Message)
		require.True(t, time.Time(d.NextAt).IsZero())
		require.Equal(t, "2026-11-25T12:00:00.000Z", d.SettledAt.String())
		require.Zero(t, d.Last.Status)
		require.Equal(t, "down", d.Last.Error)
		require.Nil(t, all[1].Last)

		answer = aDelivery
		again, err := c.Replay(t.Context(), testJob, "4-7-1")
		require.NoError(t, err)
		require.Equal(t, "POST /v1/jobs/"+string(testJob)+"/deliveries/4-7-1/replay", asked)
		require.Equal(t, &d, again)
	})
}

// The URL of a webhook goes where no log has it.
func TestSubmitWithWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked *http.Request
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = r
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"id":"`+string(testJob)+`"}`)
		}), client.Options{})
		defer stop()
		_, err := c.Submit(t.Context(), "k", strings.NewReader("x"), &client.SubmitOptions{Webhook: "https://a/?secret"})
		require.NoError(t, err)
		require.Equal(t, "https://a/?secret", asked.Header.Get("Millstream-Webhook"))
		require.Empty(t, asked.URL.RawQuery)
	})
}
