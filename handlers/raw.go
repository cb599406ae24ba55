package handlers

import (
	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// raw answers POST /v1/kinds/{kind}/jobs: the body is the input, of any type that
// the kind takes, and the options are in the query or in headers.
func (a *API) raw(c *gin.Context) error {
	if err := refuseKey(c); err != nil {
		return err
	}
	k, err := a.kindNamed(c.Param("kind"))
	if err != nil {
		return err
	}
	inputType, err := inputTypeOf(c, k)
	if err != nil {
		return err
	}
	r, err := rawRequest(c, k)
	if err != nil {
		return err
	}
	input, err := body(c, min(a.Body, k.MaxInput))
	if err != nil {
		return err
	}
	if job.IsJSON(inputType) {
		if err := checkJSON(input); err != nil {
			return err
		}
	}
	r.Input, r.InputType = input, inputType
	return a.store(c, k, r, "")
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

// rawRequest returns the request that the headers and the query ask for. The query
// wins: whoever wrote the address saw it last.
func rawRequest(c *gin.Context, k *kind) (*job.Request, error) {
	var o options
	if err := o.setHeader(c.Request.Header); err != nil {
		return nil, err
	}
	if err := o.setQuery(queryOf(c.Request)); err != nil {
		return nil, err
	}
	return o.request(k)
}
