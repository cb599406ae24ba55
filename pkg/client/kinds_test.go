package client_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
)

func TestKinds(t *testing.T) {
	const kind = `{"name":"resize","worker":"pull","description":"Makes it small.","input":{"type":"object"},"result":null,` +
		`"limits":{"timeout":"15m0s","max_attempts":3,"retention":"24h0m0s","concurrency":8,"queue":10000,"input":1048576},"queue":{"queued":7,"running":1},"links":{}}`
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "GET /v1/kinds", r.Method+" "+r.RequestURI)
		fmt.Fprint(w, `{"kinds":[`+kind+`]}`)
	})
	all, err := c.Kinds(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, &client.Kind{
		Name: "resize", Worker: "pull", Description: "Makes it small.", Input: []byte(`{"type":"object"}`), Result: []byte("null"),
		Limits: client.KindLimits{Timeout: "15m0s", MaxAttempts: 3, Retention: "24h0m0s", Concurrency: 8, Queue: 10000, Input: 1 << 20},
		Queue:  client.KindQueue{Queued: 7, Running: 1}, JSON: []byte(kind),
	}, all[0])

	for _, body := range []string{"", "<html>", `{"kinds":7}`, `{"kinds":[7]}`} {
		c := against(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
		_, err := c.Kinds(t.Context())
		require.ErrorContains(t, err, "answer of", body)
	}
}
