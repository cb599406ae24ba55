package handlers

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/handlers/graph"
)

// Whatever is sent to GraphQL is a message with a request of its language, or is refused in
// JSON that clients can read. No resolver is called.
func FuzzGraphQLMessage(f *testing.F) {
	for _, payload := range []string{
		queried(submitQuery, "job", map[string]any{"kind": "report", "input": []any{1, nil, "x"}, "tags": []string{"a"}}), queried(cancelQuery, "job", "j"),
		queried(jobQuery, "job", "j"), queried(eventsQuery, "job", "j", "after", "latest", "types", []string{"x"}),
		`{"query":"query a($x: [ID!] = [1]){__typename ...f @include(if: true)} fragment f on Query{__schema{types{name}}}","operationName":"a","variables":{"x":null},"extensions":{}}`,
	} {
		f.Add([]byte(`{"type":"subscribe","id":"a","payload":` + payload + `}`))
	}
	f.Add([]byte(`{"type":"connection_init","payload":{"Authorization":"Bearer x"}}`))
	a := &API{}
	a.graph = graph.New(graphService{a}, a.graphProblem)
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := messageIn(text)
		if err != nil {
			return
		}
		tokenIn(m.payload)
		if m.kind != "subscribe" {
			return
		}
		require.NotEmpty(t, m.id)
		request, err := requestIn(m.payload)
		if err != nil {
			return
		}
		o, refused := a.graph.Parse(t.Context(), request)
		require.NotEqual(t, o == nil, refused == nil)
		if refused != nil {
			require.True(t, json.Valid(refused.JSON), "%s", refused.JSON)
			require.True(t, json.Valid(messageOf(m.id, "error", refused.Errors)))
		}
	})
}
