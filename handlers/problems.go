package handlers

import (
	"bytes"
	"html/template"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// advice says for each type of problem what to do about it.
var advice = map[string]string{
	"invalid-request":       "Mend the request as its detail and errors say. The same request will fail again.",
	"unauthenticated":       "Send a token that is valid and has not expired; the answer to a submit has one.",
	"forbidden":             "Use other credentials: these are not meant for this.",
	"not-found":             "Check the address. A job that expired, was erased or is not yours looks like one that never was.",
	"method-not-allowed":    "Use one of the methods in the Allow header.",
	"cross-origin":          "Configure the page's origin on the server, if its users may do this from there.",
	"lease-lost":            "Stop the work and write nothing more: the job is over, waits for another attempt, or has one.",
	"in-progress":           "Send the same request again: in a moment, if it is a submit, or when the job is over.",
	"job-failed":            "See the error member for what the job's last attempt ran into.",
	"job-canceled":          "There is no result. Submit the work again if it is wanted after all.",
	"job-damaged":           "Do not wait: it comes back only if who runs the server puts a backup of the store back. The work may be submitted again.",
	"precondition-failed":   "Read the resource again: it is not the one that the If-Match header names.",
	"too-large":             "Send less, or a reference to where it is.",
	"unsupported-type":      "Send a media type that the Accept header of this answer names, without Content-Encoding.",
	"wrong-host":            "Use an address or a name that the server is configured for.",
	"invalid-input":         "Mend what was sent at the places that errors points to; the schema of a kind's input is at /v1/kinds.",
	"invalid-batch":         "Mend the jobs at the places that errors points to: the first part of each pointer is the job's place in the batch, from 0.",
	"idempotency-mismatch":  "Use a new key for a new request, or send what was sent first.",
	"rate-limited":          "Come back after the time in Retry-After.",
	"queue-full":            "Come back after the time in Retry-After: too much work of this kind is waiting.",
	"draining":              "Come back after the time in Retry-After: the server is being replaced.",
	"storage-full":          "Come back later. Who runs the server has to make room.",
	"storage-unavailable":   "Come back after the time in Retry-After. What was answered before is kept.",
	"headers-too-large":     "Send fewer or shorter headers.",
	"range-not-satisfiable": "Ask for a range within the size in the Content-Range header.",
	"upstream-timeout":      "Send it with Prefer: respond-async: a job has more patience, and another attempt may be had.",
	"internal":              "Tell who runs the server; its log says more.",

	"attempt-failed":    "See the detail. Another attempt follows while any is left.",
	"start-timeout":     "Submit it again, or give it longer to begin: the queue was too long for it, or no worker serves its kind.",
	"deadline-exceeded": "Submit it again if it is still wanted, with a later deadline.",
	"attempt-timeout":   "Give the work less to do, or the kind a longer timeout.",
	"exit-status":       "See the detail and the job's log for what the command wrote.",
	"upstream-status":   "See the detail for what the upstream answered.",
	"upstream-failed":   "Check that the upstream runs and can be reached from the server.",
	"outcome-unknown":   "Find out whether the work was done before submitting it again.",
	"worker-panic":      "Tell who wrote the worker; the server's log has the stack.",
	"invalid-result":    "Tell who wrote the worker: what it returned is no JSON, or too large.",
	"attempts-used-up":  "See the job's events for how each attempt ended.",
}

var problemTemplate = template.Must(template.New("problem").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{.Title}}</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}</style>
<p><code>/problems/{{.Name}}</code>{{with .Status}} · {{.}}{{end}}</p>
<h1>{{.Title}}</h1>
<p>{{.Advice}}</p>
</html>
`))

// problemPage answers GET /problems/{name}: what a problem's type means.
func problemPage(c *gin.Context) error {
	name := c.Param("name")
	title, ok := job.Titles[name]
	if !ok {
		return job.Problemf("not-found", "There is no problem of this name.")
	}
	var b bytes.Buffer
	err := problemTemplate.Execute(&b, struct {
		Name, Title, Advice string
		Status              int
	}{name, title, advice[name], statuses[name]})
	if err != nil {
		return err
	}
	c.Header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	return send(c, http.StatusOK, "text/html; charset=utf-8", b.Bytes())
}
