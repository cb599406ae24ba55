package client

import (
	"context"
	"net/http"

	"github.com/millstream/millstream/pkg/job"
)

// Delivery is what has become of a job's event that was sent to its webhook.
type Delivery struct {
	ID        string            `json:"id"`         // of the event
	Message   string            `json:"webhook_id"` // as the receiver has it
	Type      job.Type          `json:"type"`
	URL       string            `json:"url"`
	State     job.DeliveryState `json:"state"`
	Tries     int               `json:"tries"`
	CreatedAt job.Time          `json:"created_at"`
	NextAt    job.Time          `json:"next_at"`    // of the next try; zero: there is none
	SettledAt job.Time          `json:"settled_at"` // when it was delivered, or given up; zero: it is pending
	Last      *struct {
		At     job.Time `json:"at"`
		Status int      `json:"status"` // of the answer; 0: there was none
		Error  string   `json:"error"`  // why it was no success
	} `json:"last"` // nil: it was not tried yet
}

// Deliveries returns the webhook deliveries of a job, the oldest first. Dead letters are there
// for some time after their job has gone.
func (c *Client) Deliveries(ctx context.Context, id job.ID) ([]Delivery, error) {
	req, err := c.ofJob(ctx, http.MethodGet, http.NoBody, id, "deliveries")
	if err != nil {
		return nil, err
	}
	var all struct{ Deliveries []Delivery }
	return all.Deliveries, c.object(req, &all)
}

// Replay has a delivery sent again, now, with all its tries before it, whatever had become
// of it.
func (c *Client) Replay(ctx context.Context, id job.ID, delivery string) (*Delivery, error) {
	req, err := c.ofJob(ctx, http.MethodPost, http.NoBody, id, "deliveries", delivery, "replay")
	if err != nil {
		return nil, err
	}
	d := new(Delivery)
	return d, c.object(req, d)
}
