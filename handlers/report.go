package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/access"
	"github.com/millstream/millstream/pkg/job"
)

// maxSaid is how many events one report may have: more say no more to anybody who reads.
const maxSaid = 1000

// report answers POST /v1/leases/{lease}/events: if anything is wrong with what the worker
// says none of it is stored, and with 200 all of it is. It need not say anything to be heard
// of.
func (a *API) report(c *gin.Context) error {
	l, err := a.leaseNamed(c)
	if err != nil {
		return err
	}
	said, err := a.said(c)
	if err != nil {
		return err
	}
	s, err := a.Desk.Report(c.Request.Context(), l.Job, l.Seq, said)
	switch {
	case errors.Is(err, job.ErrLeaseLost):
		return leaseLost()
	case err != nil:
		return err
	}
	b, err := job.JSON(struct {
		ExpiresAt job.Time `json:"expires_at"`
		Cancel    bool     `json:"cancel"`
	}{job.Time(s.Expires), s.Cancel})
	if err != nil {
		return err
	}
	c.Header("Cache-Control", "no-store")
	return send(c, http.StatusOK, jsonType, b)
}

// leaseNamed returns the lease that the path names.
func (a *API) leaseNamed(c *gin.Context) (access.Lease, error) {
	l, err := a.Tokens.VerifyLease(c.Param("lease"))
	switch {
	case errors.Is(err, job.ErrLeaseLost):
		return l, leaseLost()
	case err != nil:
		return l, job.Problemf("not-found", "There is no such lease.")
	case a.kinds[l.Kind] == nil || a.kinds[l.Kind].Lease <= 0:
		return l, leaseLost() // it was one of another configuration
	}
	return l, nil
}

// leaseLost says all that may have become of the lease: which it was does not matter to
// who has to stop.
func leaseLost() error {
	return job.Problemf("lease-lost", "The lease has expired, or its job was handed back, is over, or belongs to another attempt.")
}

// said reads the body: an array of events.
func (a *API) said(c *gin.Context) ([]job.Said, error) {
	if err := needJSON(c); err != nil {
		return nil, err
	}
	doc, err := body(c, a.Body)
	if err != nil {
		return nil, err
	}
	return parseSaid(doc)
}

func parseSaid(doc []byte) ([]job.Said, error) {
	if err := checkJSON(doc); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	if bracket, err := d.Token(); err != nil || bracket != json.Delim('[') {
		return nil, invalid("", "The body must be an array of events.")
	}
	var said []job.Said
	for d.More() {
		if len(said) == maxSaid {
			return nil, invalid("", "The body has more than %d events.", maxSaid)
		}
		e, err := readSaid("/"+strconv.Itoa(len(said)), d)
		if err != nil {
			return nil, err
		}
		said = append(said, e)
	}
	return said, nil
}

// readSaid reads one event, which stands at a pointer.
func readSaid(at string, d *json.Decoder) (e job.Said, err error) {
	if brace, err := d.Token(); err != nil || brace != json.Delim('{') {
		return e, invalidSaid(at, "must be an object")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return e, err
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return e, err
		}
		switch name {
		case "type":
			if json.Unmarshal(raw, &e.Type) != nil {
				return e, invalidSaid(at+"/type", "must be a string")
			}
		case "data":
			e.Data = raw
		default:
			return e, invalidSaid(at+"/"+escape(name.(string)), "is not known")
		}
	}
	if e.Type == "" {
		return e, invalidSaid(at+"/type", "is required")
	}
	_, err = d.Token() // the closing brace
	return e, err
}

// invalidSaid is the problem of an event that is JSON, but none that a worker says.
func invalidSaid(at, detail string) error {
	p := invalid(at, "%s", detail)
	p.Type, p.Title = "/problems/invalid-input", job.Titles["invalid-input"]
	return p
}
