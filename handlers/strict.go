package handlers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/millstream/millstream/pkg/job"
)

// checkJSON fails unless doc is JSON that every reader takes for the same: UTF-8,
// no member twice, not nested deeper than job.MaxDepth. It decodes nothing, so that a
// small document cannot become a large one in memory.
func checkJSON(doc []byte) error {
	if err := validJSON(doc); err != nil {
		return err
	}
	w := walker{text: string(doc)}
	return w.walk()
}

// validJSON fails unless doc is JSON at all.
func validJSON(doc []byte) error {
	if !utf8.Valid(doc) {
		return job.Problemf("invalid-request", "The body is not UTF-8.")
	}
	if !json.Valid(doc) {
		err := json.Unmarshal(doc, new(json.RawMessage)) // only for its words
		return job.Problemf("invalid-request", "The body is not JSON: %v.", err)
	}
	return nil
}

// space is what JSON has between its values.
const space = " \t\r\n"

// invalid returns the problem of one place in the request's body.
func invalid(pointer, format string, args ...any) *job.Problem {
	detail := fmt.Sprintf(format, args...)
	p := job.Problemf("invalid-request", "%s: %s", strings.TrimPrefix(pointer, "/"), detail)
	if pointer == "" {
		p.Detail = detail
	}
	p.Errors = []job.FieldError{{Pointer: pointer, Detail: detail}}
	return p
}

// walker goes once through a text that is known to be JSON.
type walker struct {
	text   string
	levels []level  // the objects and arrays that are open
	keys   []string // names in the open objects, those of one behind those of what it is in
}

// level is an open object or array.
type level struct {
	object bool
	value  bool   // in an object: behind a colon
	name   string // of the object's current member
	index  int    // of the array's current element
	keys   int    // where the object's names begin
}

func (w *walker) walk() error {
	for i := 0; i < len(w.text); i++ {
		switch w.text[i] {
		case '"':
			end := stringEnd(w.text, i)
			w.word(w.text[i:end])
			i = end - 1
		case '{', '[':
			if len(w.levels) == job.MaxDepth {
				return invalid(w.pointer(), "is nested deeper than %d", job.MaxDepth)
			}
			w.levels = append(w.levels, level{object: w.text[i] == '{', keys: len(w.keys)})
		case '}', ']':
			if err := w.leave(); err != nil {
				return err
			}
		case ',':
			top := w.top()
			top.value = false
			top.index++
		case ':':
			w.top().value = true
		}
	}
	return nil
}

func (w *walker) top() *level { return &w.levels[len(w.levels)-1] }

// stringEnd returns where the string that begins at i ends.
func stringEnd[T string | []byte](text T, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// word notes a string if it is the name of a member.
func (w *walker) word(quoted string) {
	if len(w.levels) == 0 || !w.top().object || w.top().value {
		return
	}
	name := unquoted(quoted)
	w.top().name = name
	w.keys = append(w.keys, name)
}

// unquoted returns what a string says that is known to be JSON.
func unquoted(quoted string) string {
	text := quoted[1 : len(quoted)-1]
	if strings.Contains(text, `\`) {
		_ = json.Unmarshal([]byte(quoted), &text)
	}
	return text
}

// members returns the members of an object that is known to be JSON one by one, so
// that a body of a hundred thousand is refused at the first that is none of ours. The
// values share the object's memory.
func members(doc []byte) iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		for i := bytes.IndexByte(doc, '{') + 1; ; {
			begin := bytes.IndexByte(doc[i:], '"')
			if begin < 0 {
				return
			}
			end := stringEnd(doc, i+begin)
			name := unquoted(string(doc[i+begin : end]))
			from := end + bytes.IndexByte(doc[end:], ':') + 1
			i = valueEnd(doc, from)
			if !yield(name, bytes.Trim(doc[from:i:i], space)) {
				return
			}
		}
	}
}

// elements returns the elements of an array that is known to be JSON, but no more than
// most of them. They share the array's memory.
func elements(doc []byte, most int) (list []json.RawMessage) {
	for i := bytes.IndexByte(doc, '[') + 1; len(list) < most; {
		end := valueEnd(doc, i)
		if value := bytes.Trim(doc[i:end:end], space); len(value) > 0 { // an array may have none
			list = append(list, value)
		}
		if doc[end] == ']' {
			break
		}
		i = end + 1
	}
	return list
}

// valueEnd returns where the value that begins at i ends: at the comma behind it, or the
// brace or bracket.
func valueEnd(doc []byte, i int) int {
	for depth := 0; ; i++ {
		switch doc[i] {
		case '"':
			i = stringEnd(doc, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
}

// leave closes an object or array and fails if it was an object that has a name
// twice: Go takes the last of them, others the first.
func (w *walker) leave() error {
	from := w.top().keys
	w.levels = w.levels[:len(w.levels)-1]
	names := w.keys[from:]
	slices.Sort(names)
	for i := 1; i < len(names); i++ {
		if names[i] == names[i-1] {
			return invalid(w.pointer()+"/"+escape(names[i]), "is there twice")
		}
	}
	w.keys = w.keys[:from]
	return nil
}

// pointer returns the JSON pointer (RFC 6901) of the value that is being read.
func (w *walker) pointer() string {
	var b strings.Builder
	for _, l := range w.levels {
		b.WriteByte('/')
		if l.object {
			b.WriteString(escape(l.name))
		} else {
			b.WriteString(strconv.Itoa(l.index))
		}
	}
	return b.String()
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

func escape(name string) string { return pointerEscapes.Replace(clip(name, maxEchoName)) }

// What is said of a body repeats no more than this of it: an answer is never
// larger than its question.
const (
	maxEchoName = 64
	maxEcho     = 256
)

// clip cuts s to about n bytes, between runes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
