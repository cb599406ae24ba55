package job

import (
	"bytes"
	"encoding/json"
)

// JSON returns v as JSON on one line. Unlike json.Marshal it leaves <, > and & as they are: what
// is said is stored, sent and shown so, and takes no more bytes than it has.
func JSON(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// MustJSON is JSON for values of our own types, which always encode.
func MustJSON(v any) json.RawMessage {
	b, err := JSON(v)
	if err != nil {
		panic(err)
	}
	return b
}
