package handlers

import (
	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// raw answers POST /v1/kinds/{kind}/jobs: the body is the input, of any type that
// the kind takes, and the options are in the query or in headers.
func (a *API) raw(c *gin.Context) error {
	k, err := a.submittable(c.Param("kind"))
	if err != nil {
		return err
	}
	inputType, err := inputTypeOf(c, k)
	if err != nil {
		return err
	}
	o, err := rawOptions(c)
	if err != nil {
		return err
	}
	r, err := o.request(k)
	if err != nil {
		return err
	}
	if err := a.sendable(r); err != nil {
		return err
	}
	r.InputType = inputType
	if o.large, err = a.input(c, k, r); err != nil {
		return err
	}
	if job.IsJSON(inputType) {
		if err := checkJSON(r.Input); err != nil {
			return err
		}
	}
	return a.store(c, k, o, r, "")
}

const unknownType = "application/octet-stream"

// inputTypeOf returns the media type of the body. A schema can only check JSON.
func inputTypeOf(c *gin.Context, k *kind) (string, error) {
	t := c.GetHeader("Content-Type")
	switch {
	case t != "" && !job.ValidMediaType(t):
		return "", job.Problemf("unsupported-type", "Content-Type is not a media type of at most %d bytes.", job.MaxMediaType)
	case k.input != nil:
		return t, needJSON(c)
	case t == "":
		return unknownType, nil
	}
	return t, nil
}

// rawOptions returns what the headers and the query ask for. The query wins: whoever
// wrote the address saw it last. Of tags all count.
func rawOptions(c *gin.Context) (*options, error) {
	o := new(options)
	if err := o.setHeader(c.Request.Header); err != nil {
		return nil, err
	}
	if err := o.setQuery(queryOf(c.Request)); err != nil {
		return nil, err
	}
	return o, nil
}
