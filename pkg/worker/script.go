package worker

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/millstream/millstream/pkg/job"
)

// script is what a pull worker says in one report, once all of it was looked at.
type script struct {
	t      *Task
	lines  []func() error
	end    *ending
	length int64 // of the attempt's output behind the last line
}

// read looks at what is said. Its error is invalid-input, and names the place.
func (t *Task) read(said []job.Said) (*script, error) {
	s := &script{t: t, length: t.out.written()}
	for i := range said {
		at := fmt.Sprintf("/%d", i)
		if s.end != nil {
			return nil, wrong(at, "comes behind the end of the attempt")
		}
		if err := s.read(at, &said[i]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// ends reports whether what is said ends its attempt.
func ends(said []job.Said) bool {
	if len(said) == 0 {
		return false
	}
	t := said[len(said)-1].Type
	return t.Terminal() || t == job.Queued
}

func wrong(pointer, format string, args ...any) error {
	detail := fmt.Sprintf(format, args...)
	p := job.Problemf("invalid-input", "%s: %s", strings.TrimPrefix(pointer, "/"), detail)
	p.Errors = []job.FieldError{{Pointer: pointer, Detail: detail}}
	return p
}

func (s *script) read(at string, said *job.Said) error {
	if !said.Type.Reserved() {
		return s.readOwn(at, said)
	}
	switch at += "/data"; said.Type {
	case job.Progress:
		return s.readProgress(object(at, said.Data, "progress", "total", "message"))
	case job.Output:
		return s.readOutput(object(at, said.Data, "chunk", "encoding", "offset"))
	case job.Log:
		return s.readLog(object(at, said.Data, "stream", "line"))
	case job.Succeeded:
		return s.readSuccess(object(at, said.Data, "result", "output", "type", "encoding"))
	case job.Failed:
		return s.readFailure(object(at, said.Data, "error"))
	case job.Queued:
		s.end = &ending{err: job.ErrDraining}
		return object(at, said.Data).err
	}
	return wrong(strings.TrimSuffix(at, "/data")+"/type", "%q is not an event that a worker writes", clip(string(said.Type), maxStream))
}

func (s *script) add(line func() error) { s.lines = append(s.lines, line) }

func (s *script) readProgress(d *members) error {
	progress, total, message := d.number("progress", true), d.number("total", false), d.text("message", false)
	s.add(func() error { s.t.Progress(progress, total, message); return nil })
	return d.err
}

// readOutput reads a chunk. One that says where in the output it belongs may be said
// again: what is there already is left out.
func (s *script) readOutput(d *members) error {
	chunk := d.bytes("chunk")
	if _, ok := d.all["offset"]; ok {
		offset := d.number("offset", true)
		switch {
		case offset < 0 || offset != math.Trunc(offset):
			d.fail("/offset", "must be a whole number")
		case offset > float64(s.length):
			d.fail("/offset", "is behind the end of the output, which has %d bytes", s.length)
		default:
			chunk = chunk[min(int64(len(chunk)), s.length-int64(offset)):]
		}
	}
	s.length += min(int64(len(chunk)), math.MaxInt64-s.length)
	s.add(func() error { _, err := s.t.Write(chunk); return err })
	return d.err
}

func (s *script) readLog(d *members) error {
	stream, line := "log", d.text("line", true)
	if _, ok := d.all["stream"]; ok {
		stream = d.text("stream", true)
	}
	s.add(func() error { s.t.Log(stream, line); return nil })
	return d.err
}

func (s *script) readOwn(at string, said *job.Said) error {
	data, err := job.Data(said.Data)
	switch {
	case !job.ValidType(said.Type):
		return wrong(at+"/type", "%q is not a name that an event may have", clip(string(said.Type), maxStream))
	case err != nil:
		return wrong(at+"/data", "is not JSON")
	case said.Type == job.Checkpoint && len(data) > job.MaxCheckpoint:
		return wrong(at+"/data", "is larger than a checkpoint may be: %d bytes", job.MaxCheckpoint)
	case len(data) > s.t.lim.Event:
		return wrong(at+"/data", "is larger than an event may be: %d bytes", s.t.lim.Event)
	}
	s.add(func() error { return s.t.Emit(string(said.Type), data) })
	return nil
}

// readSuccess reads what the result is: JSON, a text of another type, bytes as base64,
// or what was written.
func (s *script) readSuccess(d *members) error {
	typ, output, result := d.text("type", false), d.flag("output", false), d.all["result"]
	switch {
	case typ != "" && !job.ValidMediaType(typ):
		d.fail("/type", "is not a media type")
	case output == (result != nil):
		d.fail("", "has a result, or output true, and not both")
	case output:
		s.end = &ending{value: Output{Type: typ}}
	case d.all["encoding"] != nil:
		s.end = &ending{value: Result{Type: typ, Body: d.bytes("result")}}
	case typ == "" && string(result) == "null":
		s.end = &ending{}
	case typ == "":
		s.end = &ending{value: result}
	case job.IsJSON(typ):
		s.end = &ending{value: Result{Type: typ, Body: result}}
	default:
		s.end = &ending{value: Result{Type: typ, Body: []byte(d.text("result", true))}}
	}
	return d.err
}

// theirs are the problems of Millstream's own that a worker may fail with. The others
// say something about the server.
var theirs = []string{"attempt-failed", "exit-status", "upstream-status", "upstream-failed", "outcome-unknown", "worker-panic", "invalid-result", "invalid-input"}

const ownProblems = "/problems/"

// maxDetail bounds what an error says.
const maxDetail = 16 << 10

// readFailure reads why the attempt failed. Unless the worker says otherwise another may
// help, as with any other worker's error.
func (s *script) readFailure(d *members) error {
	raw, ok := d.all["error"]
	if !ok {
		d.fail("/error", "is required")
	}
	e := object(d.at+"/error", raw, "type", "title", "detail", "retryable")
	p := job.Problemf("attempt-failed", "")
	if typ := e.text("type", false); typ != "" {
		name, own := strings.CutPrefix(typ, ownProblems)
		if own && !slices.Contains(theirs, name) || len(typ) > 256 {
			e.fail("/type", "is not a problem that a worker may have")
		}
		p.Type, p.Title = typ, job.Titles[name]
	}
	if title := e.text("title", false); title != "" {
		p.Title = clip(title, maxProgress)
	}
	p.Detail, p.Retryable = clip(e.text("detail", false), maxDetail), e.flag("retryable", true)
	s.end = &ending{err: p}
	return cmp.Or(d.err, e.err)
}

// pointerEscapes makes a member's name a part of a JSON pointer (RFC 6901 3).
var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// members are those of an object; the first error stays.
type members struct {
	at  string
	all map[string]json.RawMessage
	err error
}

// object reads an object, one member after the other, up to the first that has none of
// the names. Nothing is an object without any.
func object(at string, data json.RawMessage, names ...string) *members {
	m := &members{at: at, all: map[string]json.RawMessage{}}
	if len(data) == 0 {
		return m
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if brace, err := d.Token(); err != nil || brace != json.Delim('{') {
		m.fail("", "must be an object")
	}
	for m.err == nil && d.More() {
		name, _ := d.Token() // what comes here has been found to be JSON
		var raw json.RawMessage
		switch known := slices.Contains(names, name.(string)); {
		case !known:
			m.fail("/"+pointerEscapes.Replace(clip(name.(string), maxStream)), "is not known")
		case d.Decode(&raw) != nil:
			m.fail("/"+name.(string), "is not JSON")
		}
		m.all[name.(string)] = raw
	}
	return m
}

func (m *members) fail(name, format string, args ...any) {
	if m.err == nil {
		m.err = wrong(m.at+name, format, args...)
	}
}

// value reads a member, if it is there.
func value[T any](m *members, name string, required bool, what string, v T) T {
	raw, ok := m.all[name]
	switch {
	case !ok && required:
		m.fail("/"+name, "is required")
	case ok && (string(raw) == "null" || json.Unmarshal(raw, &v) != nil):
		m.fail("/"+name, "must be %s", what)
	}
	return v
}

func (m *members) text(name string, required bool) string {
	return value(m, name, required, "a string", "")
}

func (m *members) number(name string, required bool) float64 {
	return value(m, name, required, "a number", 0.0)
}

func (m *members) flag(name string, otherwise bool) bool {
	return value(m, name, false, "true or false", otherwise)
}

// bytes reads a text, or base64 if that is the encoding that is named beside it.
func (m *members) bytes(name string) []byte {
	text := m.text(name, true)
	if m.all["encoding"] == nil {
		return []byte(text)
	}
	if m.text("encoding", true) != "base64" {
		m.fail("/encoding", "must be base64, or left out")
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		m.fail("/"+name, "is not base64")
	}
	return b
}
