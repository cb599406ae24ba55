package handlers

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

const deliveriesPath = "/v1/jobs/:id/deliveries"

// delivery is a webhook delivery as clients see it. Every member is always there, null if it
// has no value.
type delivery struct {
	ID        string            `json:"id"` // of the event
	Message   string            `json:"webhook_id"`
	Type      job.Type          `json:"type"`
	URL       string            `json:"url"`
	State     job.DeliveryState `json:"state"`
	Tries     int               `json:"tries"`
	CreatedAt job.Time          `json:"created_at"`
	NextAt    job.Time          `json:"next_at"`
	SettledAt job.Time          `json:"settled_at"`
	Last      *try              `json:"last"`
	Links     struct {
		Replay string `json:"replay"`
	} `json:"links"`
}

// try is what came of sending a delivery once.
type try struct {
	At     job.Time `json:"at"`
	Status *int     `json:"status"` // of the answer
	Error  *string  `json:"error"`
}

func deliveryOf(d *job.Delivery) delivery {
	v := delivery{
		ID: d.ID, Message: d.Message(), Type: d.Type, URL: d.URL, State: d.State, Tries: d.Tries,
		CreatedAt: job.Time(d.CreatedAt), NextAt: job.Time(d.NextAt), SettledAt: job.Time(d.SettledAt),
	}
	v.Links.Replay = linksOf(d.Job).Self + "/deliveries/" + d.ID + "/replay"
	if l := d.Last; l != nil {
		v.Last = &try{At: job.Time(l.At)}
		if l.Status != 0 {
			v.Last.Status = &l.Status
		}
		if l.Error != "" {
			v.Last.Error = &l.Error
		}
	}
	return v
}

// deliveries answers GET /v1/jobs/{id}/deliveries: where the job's end was sent, and what came
// of it. Dead letters are there for some time after their job has gone.
func (a *API) deliveries(c *gin.Context) error {
	all, err := a.deliveriesOf(c)
	if err != nil {
		return err
	}
	list := make([]delivery, len(all))
	for i := range all {
		list[i] = deliveryOf(&all[i])
	}
	b, err := job.JSON(map[string][]delivery{"deliveries": list})
	if err != nil {
		return err
	}
	private(c)
	return send(c, http.StatusOK, jsonType, b)
}

// deliveriesOf returns the deliveries of the job that the request names.
func (a *API) deliveriesOf(c *gin.Context) ([]job.Delivery, error) {
	id := c.Param("id")
	if !job.ValidID(id) {
		return nil, errNoJob
	}
	_, gone := a.find(c.Request.Context(), job.ID(id))
	if gone != nil && !errors.Is(gone, errNoJob) {
		return nil, gone
	}
	all, err := a.Store.Deliveries(c.Request.Context(), job.ID(id))
	if err == nil && len(all) == 0 {
		err = gone
	}
	return all, err
}

// errNoDelivery is the one answer for a delivery that never was, or is no more.
var errNoDelivery = job.Problemf("not-found", "The job has no delivery with this id; GET its deliveries.")

// redeliver answers POST /v1/jobs/{id}/deliveries/{d}/replay: the delivery is sent again, now,
// with all its tries before it, whatever had become of it.
func (a *API) redeliver(c *gin.Context) error {
	id, event := c.Param("id"), c.Param("delivery")
	if err := optionsElsewhere(c.Request); err != nil {
		return err
	}
	switch _, err := job.ParseCursor(event); {
	case !job.ValidID(id):
		return errNoJob
	case err != nil:
		return errNoDelivery
	case a.Webhooks == nil:
		return noSecret("")
	}
	d, err := a.Store.Replay(c.Request.Context(), job.ID(id), event)
	if errors.Is(err, job.ErrNotFound) {
		return errNoDelivery
	}
	if err != nil {
		return err
	}
	b, err := job.JSON(deliveryOf(&d))
	if err != nil {
		return err
	}
	private(c)
	return send(c, http.StatusAccepted, jsonType, b)
}
