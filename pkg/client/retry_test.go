package client_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
)

// The server copies a large input before it answers a retry, which takes as long as it
// takes. Any other answer comes soon, or the server is gone.
func TestRetry_slow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		asked := 0
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			time.Sleep(20 * time.Minute)
			fmt.Fprint(w, jobJSON)
		})}
		go func() { _ = srv.Serve(w) }()
		defer srv.Close()
		c, err := client.New("http://millstream.test", nil)
		require.NoError(t, err)
		defer c.DialBy(w.dial)()

		begin := time.Now()
		j, err := c.Retry(t.Context(), testJob, &client.RetryOptions{Key: "k"})
		require.NoError(t, err)
		require.Equal(t, testJob, j.ID)
		require.Equal(t, 20*time.Minute, time.Since(begin))
		require.Equal(t, 1, asked)

		begin = time.Now()
		_, err = c.Job(t.Context(), testJob)
		require.ErrorContains(t, err, "timeout")
		require.Equal(t, time.Minute, time.Since(begin))
		time.Sleep(time.Hour) // the server is done with it
	})
}
