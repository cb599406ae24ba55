package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// webhookSecret is what the tests' servers sign with.
const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw9r8GKYqrTwg="

// receiver takes webhooks as they come, and answers what it is told to.
type receiver struct {
	t       *testing.T
	address string
	srv     *http.Server

	mu     sync.Mutex
	answer int
	got    []received
}

// received is one request.
type received struct {
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, address: freeAddress(t), answer: http.StatusNoContent}
	t.Cleanup(r.close)
	return r
}

func (r *receiver) url() string { return "http://" + r.address + "/hook" }

// listen begins to take webhooks; before it, connections are refused.
func (r *receiver) listen() {
	r.t.Helper()
	ln, err := net.Listen("tcp", r.address)
	require.NoError(r.t, err)
	r.srv = &http.Server{Handler: r}
	go func() { _ = r.srv.Serve(ln) }()
}

func (r *receiver) close() {
	if r.srv != nil {
		_ = r.srv.Close()
	}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	headers := map[string]string{}
	for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
		headers[name] = req.Header.Get(name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answer < 300 {
		r.got = append(r.got, received{headers, string(body)})
	}
	w.WriteHeader(r.answer)
}

func (r *receiver) say(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = status
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

// ends returns the types of the terminal events that came, by job.
func (r *receiver) ends() map[string]string {
	ends := map[string]string{}
	for _, g := range r.all() {
		var e struct{ Job, Type string }
		require.NoError(r.t, json.Unmarshal([]byte(g.Body), &e))
		ends[e.Job] = e.Type
	}
	return ends
}

// verifier checks deliveries as a user of npm does, and prints the type of each.
const verifier = `
const { Webhook } = require("standardwebhooks");
const wh = new Webhook(process.argv[1]);
for (const d of JSON.parse(require("fs").readFileSync(0, "utf8"))) {
	console.log(wh.verify(d.body, d.headers).type);
	try { wh.verify(d.body + " ", d.headers); console.log("a changed body passes"); } catch {}
}`

// verified has npm's standardwebhooks verify what came, and returns what it says.
func (r *receiver) verified(secret string) string {
	r.t.Helper()
	in, err := json.Marshal(r.all())
	require.NoError(r.t, err)
	file := filepath.Join(r.t.TempDir(), "got.json")
	require.NoError(r.t, os.WriteFile(file, in, 0o600))
	stdin, err := os.Open(file)
	require.NoError(r.t, err)
	defer func() { _ = stdin.Close() }()
	node := exec.Command("node", "-e", verifier, secret)
	node.Stdin = stdin
	out, err := node.CombinedOutput()
	require.NoError(r.t, err, "%s", out)
	return string(out)
}

func webhookConfig() object {
	return object{
		"webhooks": object{"secret": webhookSecret, "allow": []string{"127.0.0.0/8"}},
		"kinds":    object{"k": object{"exec": object{"command": []string{"cat"}}}},
	}
}

func (s *server) submitWithWebhook(url string) string {
	s.t.Helper()
	body, err := json.Marshal(object{"kind": "k", "input": "x", "webhook": object{"url": url}})
	require.NoError(s.t, err)
	return s.accepted(s.ask("POST", "/v1/jobs", bytes.NewReader(body), "Content-Type", "application/json")).ID
}

// A receiver that is down, and a server that is killed meanwhile: the end of every job is
// received, signed so that others can verify it.
func TestWebhooksOutliveAKill(t *testing.T) {
	t.Parallel()
	s, r := start(t, webhookConfig()), newReceiver(t)
	var ids []string
	for range 5 {
		begin := time.Now()
		ids = nil
		for range 3 {
			ids = append(ids, s.submitWithWebhook(r.url()))
		}
		for _, id := range ids {
			eventually(t, "the job ends", func() bool { return s.job(id).Status == "succeeded" })
		}
		s.kill()
		if time.Since(begin) < 4*time.Second {
			break
		}
		s.boot() // there may have been a second try, behind which the next is minutes away
	}
	r.listen()
	s.boot()
	for _, id := range ids {
		eventually(t, "its end is received", func() bool { return r.ends()[id] != "" })
		require.Equal(t, "job.succeeded", r.ends()[id])
	}
	require.Regexp(t, `^(job\.succeeded\n){3,}$`, r.verified(webhookSecret))
}

// cli runs a command against the server, and returns what it prints.
func (s *server) cli(args ...string) string {
	s.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "MILLSTREAM_SERVER="+s.base)
	out, err := cmd.CombinedOutput()
	require.NoError(s.t, err, "%v: %s", args, out)
	return string(out)
}

// deliveryState is the part of a delivery that the tests look at.
type deliveryState struct {
	ID, State string
	Webhook   string `json:"webhook_id"`
	Tries     int
	Last      struct {
		Status int
		Error  string
	}
	Links struct{ Replay string }
}

// delivery returns the one delivery of a job, once it is in a state.
func (s *server) delivery(id, state string) (d deliveryState) {
	s.t.Helper()
	eventually(s.t, "the delivery is "+state, func() bool {
		var all struct{ Deliveries []deliveryState }
		s.ask("GET", "/v1/jobs/"+id+"/deliveries", nil).into(s.t, &all)
		if len(all.Deliveries) != 1 {
			return false
		}
		d = all.Deliveries[0]
		return d.State == state
	})
	return d
}

// What was given up is a dead letter: it outlives a restart, and is sent again by hand, over
// HTTP and on the command line, under the same id.
func TestDeadLetterIsReplayed(t *testing.T) {
	t.Parallel()
	s, r := start(t, webhookConfig()), newReceiver(t)
	r.listen()
	r.say(http.StatusGone)
	byHTTP, byHand := s.submitWithWebhook(r.url()), s.submitWithWebhook(r.url())
	dead := s.delivery(byHTTP, "dead")
	require.Equal(t, 410, dead.Last.Status)
	require.Equal(t, 1, dead.Tries)
	s.delivery(byHand, "dead")
	s.kill()
	s.boot()
	require.Regexp(t, `job\.succeeded +dead +1 .* 410: the receiver wants no more\n$`, s.cli("webhook", "list", byHand))
	require.Empty(t, r.all())
	r.say(http.StatusNoContent)
	require.Equal(t, 202, s.ask("POST", dead.Links.Replay, nil).Status)
	require.Contains(t, s.cli("webhook", "replay", byHand), "pending")
	for _, id := range []string{byHTTP, byHand} {
		d := s.delivery(id, "delivered")
		require.Equal(t, 1, d.Tries)
	}
	require.Len(t, r.ends(), 2)
	ids := map[string]bool{}
	for _, g := range r.all() {
		ids[g.Headers["webhook-id"]] = true
	}
	require.True(t, ids[dead.Webhook], "the id is the same as at the first try")
	require.Regexp(t, `^(job\.succeeded\n){2}$`, r.verified(webhookSecret))
	require.Equal(t, 404, s.ask("POST", "/v1/jobs/"+byHTTP+"/deliveries/1-1-1/replay", nil).Status)

	require.Equal(t, 204, s.ask("DELETE", "/v1/jobs/"+byHTTP, nil).Status)
	require.Equal(t, 404, s.ask("GET", "/v1/jobs/"+byHTTP+"/deliveries", nil).Status)
	require.Equal(t, 404, s.ask("POST", dead.Links.Replay, nil).Status)
	require.NotContains(t, s.said(), webhookSecret)
}

// A webhook has the same event with the same id as every other transport, and more than the
// end where it is asked for.
func TestWebhookHasTheSameEvents(t *testing.T) {
	t.Parallel()
	config := webhookConfig()
	config["kinds"] = object{"k": object{"exec": object{"command": []string{"sh", "-c", "for n in 1 2 3; do echo $n; sleep 0.2; done"}}}}
	s, r := start(t, config), newReceiver(t)
	r.listen()
	body, err := json.Marshal(object{"kind": "k", "input": "x", "webhook": object{"url": r.url(), "events": []string{"job.queued", "job.running", "job.output"}}})
	require.NoError(t, err)
	id := s.accepted(s.ask("POST", "/v1/jobs", bytes.NewReader(body), "Content-Type", "application/json")).ID
	eventually(t, "the end is received", func() bool { return r.ends()[id] == "job.succeeded" || s.delivery(id, "delivered").Tries > 0 })
	var page struct{ Events []json.RawMessage }
	s.ask("GET", "/v1/jobs/"+id+"/events?format=json", nil).into(t, &page)
	byID := map[string]map[string]any{}
	for _, raw := range page.Events {
		var e map[string]any
		require.NoError(t, json.Unmarshal(raw, &e))
		byID[e["id"].(string)] = e
	}
	output := ""
	eventually(t, "all output is received", func() bool {
		output = ""
		for _, g := range r.all() {
			var e map[string]any
			require.NoError(t, json.Unmarshal([]byte(g.Body), &e))
			same := byID[e["id"].(string)]
			require.Equal(t, e["timestamp"], e["time"])
			require.Equal(t, id+"_"+e["id"].(string), g.Headers["webhook-id"])
			delete(e, "timestamp")
			if e["type"] == "job.output" {
				output += e["data"].(map[string]any)["chunk"].(string)
				continue
			}
			require.Equal(t, same, e)
		}
		return output == "1\n2\n3\n"
	})
	events := strings.ReplaceAll(r.verified(webhookSecret), "job.succeeded\n", "") // which waits for none of the others, and may come first
	require.Regexp(t, `^job\.queued\njob\.running\n(job\.output\n)+$`, events)
}

// millstream webhook listen verifies what a server sends, and prints it.
func TestWebhookListen(t *testing.T) {
	t.Parallel()
	s, address := start(t, webhookConfig()), freeAddress(t)
	out := filepath.Join(t.TempDir(), "out")
	file, err := os.Create(out)
	require.NoError(t, err)
	listen := exec.Command(binary, "webhook", "listen", "--addr", address, "--secret", webhookSecret)
	listen.Stdout, listen.SysProcAttr = file, withUs
	require.NoError(t, listen.Start())
	t.Cleanup(func() { _ = listen.Process.Kill(); _ = listen.Wait(); _ = file.Close() })
	eventually(t, "it listens", func() bool {
		c, err := net.Dial("tcp", address)
		return err == nil && c.Close() == nil
	})
	id := s.submitRawWithWebhook("http://" + address + "/")
	eventually(t, "a line", func() bool {
		text, err := os.ReadFile(out)
		require.NoError(t, err)
		return regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d verified job\.succeeded ` + id + ` ` + id + `_[0-9-]+$`).Match(text)
	})
	s.delivery(id, "delivered")
	resp, err := http.Post("http://"+address+"/", "application/json", bytes.NewReader([]byte("{}")))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
}

func (s *server) submitRawWithWebhook(url string) string {
	s.t.Helper()
	return s.accepted(s.ask("POST", "/v1/kinds/k/jobs", bytes.NewReader([]byte("x")), "Millstream-Webhook", url)).ID
}
