package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// ListOptions say which jobs a list has; zero fields hold for any.
type ListOptions struct {
	Statuses      []job.Status // any of these
	Kinds         []string     // any of these
	Tags          []string     // all of these
	Batch         string
	CreatedAfter  time.Time // then or later
	CreatedBefore time.Time // earlier
	Limit         int       // jobs of the page; 0 leaves it to the server
	Cursor        string    // of the page before; "": from the newest on
}

// Page is a part of a list of jobs, newest first. A result that is not small is a
// reference here, whatever it is.
type Page struct {
	Jobs   []*Job
	Cursor string // of the page that follows; "": this is the last one. A page may be short, or empty, and not be the last
}

// List returns a page of the jobs there are.
func (c *Client) List(ctx context.Context, o *ListOptions) (*Page, error) {
	req, err := c.request(ctx, http.MethodGet, nil, "v1", "jobs")
	if err != nil {
		return nil, err
	}
	if o != nil {
		req.URL.RawQuery = o.query().Encode()
	}
	p := new(Page)
	if err := c.object(req, p); err != nil {
		return nil, err
	}
	return p, nil
}

func (o *ListOptions) query() url.Values {
	q := url.Values{"kind": o.Kinds, "tag": o.Tags}
	for _, s := range o.Statuses {
		q.Add("status", string(s))
	}
	set := func(name, value string, given bool) {
		if given {
			q.Set(name, value)
		}
	}
	set("batch", o.Batch, o.Batch != "")
	set("created_after", o.CreatedAfter.Format(time.RFC3339Nano), !o.CreatedAfter.IsZero())
	set("created_before", o.CreatedBefore.Format(time.RFC3339Nano), !o.CreatedBefore.IsZero())
	set("limit", strconv.Itoa(o.Limit), o.Limit > 0)
	set("cursor", o.Cursor, o.Cursor != "")
	return q
}
