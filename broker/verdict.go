package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millstream/millstream/pkg/job"
)

// errSilent is the problem of a store that could not be asked.
var errSilent = func() *job.Problem {
	p := job.Problemf("storage-unavailable", "the store does not answer")
	p.Retryable = true
	return p
}()

// unavailable is errSilent, and why; or job.ErrDamaged, if that is why. A store that is
// full has answered.
func unavailable(err error) error {
	switch {
	case err == nil, errors.Is(err, errFull()):
		return err
	case errors.Is(err, errDamaged):
		return fmt.Errorf("%w (%w)", job.ErrDamaged, err)
	}
	return fmt.Errorf("%w (%w)", errSilent, err)
}

// verdict turns the answer to a write into one of our errors.
func verdict(err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrMaxPayload):
		return job.ErrTooLarge
	case !errors.As(err, &api):
		return unavailable(err)
	case api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence:
		return errRefused
	case full[api.ErrorCode]:
		return fmt.Errorf("%w (%w)", errFull(), err)
	}
	return unavailable(err)
}

// errFull returns the problem of a store without room.
func errFull() *job.Problem {
	p := job.Problemf("storage-full", "the store is full")
	p.Retryable = true
	return p
}

// full has the codes that say there is no room: memory, storage, a stream's limit.
var full = map[jetstream.ErrorCode]bool{10023: true, 10028: true, 10047: true, 10077: true, 10122: true}

// errorOf reads the error out of a publish acknowledgement, if there is one.
func errorOf(ack []byte) error {
	if !bytes.Contains(ack, []byte(`"error"`)) {
		return nil
	}
	var a struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(ack, &a); err != nil || a.Error == nil {
		return err
	}
	return a.Error
}
