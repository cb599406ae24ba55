package handlers

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// A request of a route that becomes a job tells whom it names, or is refused as any other
// submit that nothing could be sent of.
func TestWebhookOfARoute(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		post := func(url string) answer {
			return s.do("POST", "/legacy/soap", "<a/>", "Prefer", "respond-async", "Millstream-Webhook", url)
		}
		require.Equal(t, http.StatusAccepted, post("https://a/").StatusCode)
		require.Equal(t, &job.Webhook{URL: "https://a/"}, s.last.Webhook)
		require.Empty(t, s.last.Call.Header["Millstream-Webhook"], "it is none of the upstream's business")
		s.last = nil
		p := s.problem(post("https://bad/"), 400, "invalid-request")
		require.Equal(t, "webhook/url: must be good", p.Detail)
		s.api.Webhooks = nil
		p = s.problem(post("https://a/"), 400, "invalid-request")
		require.Contains(t, p.Detail, "webhooks.secret")
		require.Nil(t, s.last)
	}, withRoute(t, "http://upstream.invalid"), withWebhooks)
}
