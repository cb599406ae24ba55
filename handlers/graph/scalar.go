package graph

import (
	"encoding/json"
	"errors"
	"io"

	"github.com/99designs/gqlgen/graphql"

	"github.com/millstream/millstream/pkg/job"
)

// JSON is a value of any form, as it was written.
type JSON json.RawMessage

// MarshalGQL writes the value; null if there is none.
func (j JSON) MarshalGQL(w io.Writer) {
	if len(j) == 0 {
		j = JSON("null")
	}
	_, _ = w.Write(j) // to memory
}

// UnmarshalGQL takes a value: that of a variable as it was written, and a literal of the
// query.
func (j *JSON) UnmarshalGQL(v any) error {
	if raw, ok := v.(json.RawMessage); ok {
		*j = JSON(raw)
		return nil
	}
	b, err := job.JSON(v)
	*j = JSON(b)
	return err
}

// MarshalJSON returns the value.
func (j JSON) MarshalJSON() ([]byte, error) { return json.RawMessage(j).MarshalJSON() }

// UnmarshalJSON keeps a copy of the value.
func (j *JSON) UnmarshalJSON(b []byte) error { return (*json.RawMessage)(j).UnmarshalJSON(b) }

// MarshalString writes a string.
func MarshalString(s string) graphql.Marshaler { return graphql.MarshalString(s) }

// UnmarshalString takes a string and nothing else: what a variable has is not checked before.
func UnmarshalString(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	return "", errors.New("must be a string")
}

// MarshalInt writes a number.
func MarshalInt(n int32) graphql.Marshaler { return graphql.MarshalInt32(n) }

// UnmarshalInt takes a whole number of 32 bits, and no text that reads as one.
func UnmarshalInt(v any) (int32, error) {
	if _, text := v.(string); text {
		return 0, errors.New("must be a whole number")
	}
	return graphql.UnmarshalInt32(v)
}
