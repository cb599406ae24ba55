package handlers

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// checker is a Webhooks that takes all URLs but one.
type checker struct{}

func (checker) Check(w *job.Webhook) error {
	if w.URL == "https://bad/" {
		return errors.New("must be good")
	}
	return nil
}

func withWebhooks(a *API) { a.Webhooks = checker{} }

func TestWebhookOption(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		a := s.post("/v1/jobs", `{"kind":"report","input":1,"webhook":{"url":"https://a/b","events":["job.progress","mine"]}}`)
		require.Equal(t, 202, a.StatusCode, a.body)
		require.Equal(t, &job.Webhook{URL: "https://a/b", Events: []job.Type{job.Progress, "mine"}}, s.last.Webhook)
		require.NotContains(t, a.body, "https://a/b", "who reads a job is not told who else is")
		require.Equal(t, 202, s.post("/v1/jobs", `{"kind":"report","input":1,"webhook":null}`).StatusCode)
		require.Nil(t, s.last.Webhook)
		for _, header := range [][]string{{"Millstream-Webhook", "https://a/"}, nil} {
			path := "/v1/kinds/report/jobs"
			if header == nil {
				path += "?webhook=https%3A%2F%2Fa%2F"
			}
			require.Equal(t, 202, s.do("POST", path, "x", header...).StatusCode)
			require.Equal(t, &job.Webhook{URL: "https://a/"}, s.last.Webhook)
		}
		for body, pointer := range map[string]string{
			`"https://a/"`:                                   "/webhook",
			`{"url":1}`:                                      "/webhook",
			`{"url":"https://a/","secret":"x"}`:              "/webhook",
			`{"URL":"https://a/"}`:                           "/webhook",
			`{"url":"https://a/","Url":"https://b/"}`:        "/webhook",
			`{"url":"https://bad/"}`:                         "/webhook/url",
			`{"url":"https://a/","events":["a b"]}`:          "/webhook/events/0",
			`{"url":"https://a/","events":["x","job.done"]}`: "/webhook/events/1",
			`{"url":"https://a/","events":["stream.reset"]}`: "/webhook/events/0",
		} {
			p := s.problem(s.post("/v1/jobs", `{"kind":"report","input":1,"webhook":`+body+`}`), 400, "invalid-request")
			require.Equal(t, pointer, p.Errors[0].Pointer, body)
		}
	}, withWebhooks)
}

// A server that cannot sign takes no job that relies on it, and says what is missing.
func TestWebhookWithoutSecret(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		p := s.problem(s.post("/v1/jobs", `{"kind":"report","input":1,"webhook":{"url":"https://a/"}}`), 400, "invalid-request")
		require.Contains(t, p.Detail, "webhooks.secret")
		p = s.problem(s.do("POST", "/v1/kinds/report/jobs", "x", "Millstream-Webhook", "https://a/"), 400, "invalid-request")
		require.Contains(t, p.Detail, "webhooks.secret")
		s.problem(s.do("POST", "/v1/jobs/"+string(job.NewID())+"/deliveries/1-1-1/replay", ""), 400, "invalid-request")
	})
}

// The same key with another webhook is another request.
func TestWebhookInFingerprint(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		post := func(hook string) int {
			return s.post("/v1/jobs", `{"kind":"report","input":1`+hook+`}`, "Idempotency-Key", "k").StatusCode
		}
		require.Equal(t, 202, post(`,"webhook":{"url":"https://a/"}`))
		require.Equal(t, 202, post(`,"webhook":{"url":"https://a/"}`))
		require.Equal(t, 422, post(`,"webhook":{"url":"https://b/"}`))
		require.Equal(t, 422, post(`,"webhook":{"url":"https://a/","events":["x"]}`))
		require.Equal(t, 422, post(``))
	}, withWebhooks)
}

// A retry tells whom the first job has told.
func TestRetryKeepsWebhook(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		var j struct{ ID job.ID }
		require.NoError(t, json.Unmarshal([]byte(s.post("/v1/jobs", `{"kind":"report","input":1,"webhook":{"url":"https://a/"}}`).body), &j))
		id := j.ID
		s.add(id, job.Record{Type: job.Canceled})
		require.Equal(t, 202, s.do("POST", pathOf(id, "/retry"), "").StatusCode)
		require.Equal(t, "https://a/", s.last.Webhook.URL)
		s.api.Webhooks = nil
		s.problem(s.do("POST", pathOf(id, "/retry"), ""), 400, "invalid-request")
	}, withWebhooks)
}

func TestDeliveries(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		a := s.get(pathOf(id, "/deliveries"))
		require.Equal(t, 200, a.StatusCode)
		require.JSONEq(t, `{"deliveries":[]}`, a.body)
		at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
		gone := job.NewID()
		s.kept = map[job.ID][]job.Delivery{
			id: {{ID: "4-7-1", Job: id, Type: job.Succeeded, URL: "https://a/", State: job.DeliveryDead, CreatedAt: at, SettledAt: at, Tries: 10,
				Last: &job.Try{At: at, Status: 500, Error: "500"}, Body: []byte(`{"secret":1}`)}},
			gone: {{ID: "4-8-1", Job: gone}},
		}
		a = s.get(pathOf(id, "/deliveries"))
		require.JSONEq(t, `{"deliveries":[{"id":"4-7-1","webhook_id":"`+string(id)+`_4-7-1","type":"job.succeeded","url":"https://a/","state":"dead","tries":10,
			"created_at":"2026-11-22T10:00:00.000Z","next_at":null,"settled_at":"2026-11-22T10:00:00.000Z",
			"last":{"at":"2026-11-22T10:00:00.000Z","status":500,"error":"500"},"links":{"replay":"`+pathOf(id, "/deliveries/4-7-1/replay")+`"}}]}`, a.body)
		require.Equal(t, 200, s.get(pathOf(gone, "/deliveries")).StatusCode, "a dead letter outlives its job")
		s.problem(s.get(pathOf(job.NewID(), "/deliveries")), 404, "not-found")
		s.problem(s.get("/v1/jobs/x/deliveries"), 404, "not-found")

		a = s.do("POST", pathOf(id, "/deliveries/4-7-1/replay"), "")
		require.Equal(t, http.StatusAccepted, a.StatusCode)
		require.Contains(t, a.body, `"state":"pending"`)
		s.problem(s.do("POST", pathOf(id, "/deliveries/4-9-1/replay"), ""), 404, "not-found")
		s.problem(s.do("POST", pathOf(id, "/deliveries/x/replay"), ""), 404, "not-found")
		s.problem(s.do("POST", "/v1/jobs/x/deliveries/4-7-1/replay", ""), 404, "not-found")
		s.fail("Deliveries", job.Problemf("storage-unavailable", ""))
		s.problem(s.get(pathOf(id, "/deliveries")), 503, "storage-unavailable")

		token := s.signer.Mint(id, anonymous, time.Now().Add(time.Hour))
		s.problem(s.get(pathOf(id, "/deliveries"), "Authorization", "Bearer "+token), 403, "forbidden")
		s.problem(s.do("POST", pathOf(id, "/deliveries/4-7-1/replay"), "", "Authorization", "Bearer "+token), 403, "forbidden")
	}, withWebhooks)
}
