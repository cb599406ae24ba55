package handlers

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNegotiate(t *testing.T) {
	for _, tc := range []struct{ accept, events, submit string }{
		{"", sseType, jsonType},
		{"*/*", sseType, jsonType},
		{"text/event-stream", sseType, sseType},
		{"Text/Event-Stream", sseType, sseType},
		{"application/json", jsonType, jsonType},
		{"application/json; charset=utf-8", jsonType, jsonType},
		{"application/x-ndjson", ndjsonType, jsonType},
		{"application/*", jsonType, jsonType},
		{"text/*", sseType, sseType},
		{"image/png", sseType, jsonType},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", sseType, jsonType}, // a browser's
		{"application/json, text/plain, */*", jsonType, jsonType},                              // axios
		{"application/json, text/event-stream", sseType, jsonType},
		{"text/event-stream, */*;q=0.1", sseType, sseType},
		{"text/event-stream;q=0.5, application/json", jsonType, jsonType},
		{"text/event-stream;q=0.5, application/json;q=0.4", sseType, sseType},
		{"application/x-ndjson;q=0.9, */*;q=0.1", ndjsonType, jsonType},
		{"text/event-stream;q=0, */*", jsonType, jsonType},
		{"text/event-stream;q=0, application/json;q=0, */*", ndjsonType, jsonType},
		{"*/*;q=0", sseType, jsonType},
		{"application/json;q=2", sseType, jsonType}, // no weight: ignored
		{"application/json;q=NaN, application/x-ndjson;q=x", sseType, jsonType},
		{"application/json\napplication/x-ndjson;q=0.5", jsonType, jsonType}, // two headers
		{`application/json;a=", text/event-stream"`, jsonType, jsonType},
		{",;,application/json", jsonType, jsonType},
	} {
		t.Run(tc.accept, func(t *testing.T) {
			h := http.Header{}
			if tc.accept != "" {
				h["Accept"] = strings.Split(tc.accept, "\n")
			}
			require.Equal(t, tc.events, negotiate(h, sseType, jsonType, ndjsonType))
			require.Equal(t, tc.submit, negotiate(h, jsonType, sseType))
		})
	}
}
