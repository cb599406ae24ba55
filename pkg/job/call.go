package job

import "encoding/json"

// Call is the HTTP request that a job of a route is of. Its body is the job's input.
type Call struct {
	Method string `json:"method"`
	Target Octets `json:"target"` // path and query, as they came
	Header Header `json:"header,omitempty"`
}

// Answer is how an upstream answered a Call. The body of the answer is the job's result.
type Answer struct {
	Status int    `json:"status"`
	Header Header `json:"header,omitempty"` // those that are replayed with it
}

// Header is that of an HTTP message, with whatever bytes its values have.
type Header map[string][]string

// MarshalJSON returns an object that UnmarshalJSON reads.
func (h Header) MarshalJSON() ([]byte, error) { return json.Marshal(convert[Octets](h)) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Header) UnmarshalJSON(b []byte) error {
	var m map[string][]Octets
	err := json.Unmarshal(b, &m)
	*h = convert[string](m)
	return err
}

func convert[To, From ~string](h map[string][]From) map[string][]To {
	m := make(map[string][]To, len(h))
	for name, values := range h {
		m[name] = make([]To, len(values))
		for i, v := range values {
			m[name][i] = To(v)
		}
	}
	return m
}

// Octets is a text of any bytes, as HTTP has them. In JSON, which has none but UTF-8, each byte
// is the character of its number.
type Octets string

// MarshalText returns the text with a character for each byte.
func (o Octets) MarshalText() ([]byte, error) {
	text := make([]rune, len(o))
	for i := range len(o) {
		text[i] = rune(o[i])
	}
	return []byte(string(text)), nil
}

// UnmarshalText reads what MarshalText wrote.
func (o *Octets) UnmarshalText(text []byte) error {
	b := make([]byte, 0, len(text))
	for _, r := range string(text) {
		b = append(b, byte(r))
	}
	*o = Octets(b)
	return nil
}
