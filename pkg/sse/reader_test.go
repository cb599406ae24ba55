package sse_test

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/sse"
)

// event is an sse.Event that outlives the next one.
type event struct{ ID, Type, Data string }

// outcome is all that a client learns from a stream.
type outcome struct {
	Events []event
	LastID string
	Retry  time.Duration
	Said   bool // it said Retry
	Cut    bool // its end is in the middle of something
}

func read(t require.TestingT, r io.Reader) (o outcome) {
	s := sse.NewReader(r)
	for {
		e, err := s.Next()
		if o.Cut = errors.Is(err, sse.ErrUnfinished); o.Cut || errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		o.Events = append(o.Events, event{e.ID, e.Type, string(e.Data)})
	}
	o.LastID = s.LastID()
	o.Retry, o.Said = s.Retry()
	return o
}

// whatwg is WHATWG HTML 9.2.6 word by word, on a stream that is there as a whole.
// It wants valid UTF-8: that is what the standard decodes before.
func whatwg(stream string) (o outcome) {
	o.Cut = stream == "\uFEFF"
	stream = strings.TrimPrefix(stream, "\uFEFF")
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(stream, "\n")
	var data, typ, id string
	for _, line := range lines[:len(lines)-1] { // the last is cut off, or empty
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			o.LastID = id
			if data != "" {
				e := event{ID: id, Type: typ, Data: strings.TrimSuffix(data, "\n")}
				if typ == "" {
					e.Type = "message"
				}
				o.Events = append(o.Events, e)
			}
			data, typ = "", ""
		case strings.HasPrefix(line, ":"):
		case field == "event":
			typ = value
		case field == "data":
			data += value + "\n"
		case field == "id" && !strings.Contains(value, "\x00"):
			id = value
		case field == "retry" && value != "" && strings.Trim(value, "0123456789") == "":
			o.Said = true
			o.Retry = 1<<63 - 1 - 775807*time.Nanosecond // the longest that is whole milliseconds
			if ms, err := strconv.ParseInt(value, 10, 64); err == nil && ms < o.Retry.Milliseconds() {
				o.Retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
	o.Cut = o.Cut || lines[len(lines)-1] != "" || data != "" || typ != "" || id != o.LastID
	return o
}

func message(data ...string) (o outcome) {
	for _, d := range data {
		o.Events = append(o.Events, event{"", "message", d})
	}
	return o
}

var long = strings.Repeat("x", 2*1024)

// The names in capitals are those of eventsource/format-*.js of web-platform-tests.
var streams = []struct {
	name, stream string
	want         outcome
}{
	{"empty", "", outcome{}},
	{"BOM", "\uFEFFdata:1\n\n\uFEFFdata:2\n\ndata:3\n\n", message("1", "3")},
	{"BOM-2", "\uFEFF\uFEFFdata:1\n\ndata:2\n\ndata:3\n\n", message("2", "3")},
	{"BOM before a blank line", "\uFEFF\n\uFEFFdata:1\n\ndata:2\n\n", message("2")},
	{"BOM cut off", "\xEF\xBB", outcome{Cut: true}},
	{"COMMENTS", "data:1\r:\x00\n:\r\ndata:2\n:" + long + "\rdata:3\n:data:fail\r:" + long + "\ndata:4\n\n", message("1\n2\n3\n4")},
	{"DATA-BEFORE-FINAL-EMPTY-LINE", "retry:1000\ndata:test1\n\nid:test\ndata:test2",
		outcome{Events: message("test1").Events, Retry: time.Second, Said: true, Cut: true}},
	{"data before final empty line, line whole", "id:a\ndata:1\n\nid:b\ndata:2\n",
		outcome{Events: []event{{"a", "message", "1"}}, LastID: "a", Cut: true}},
	{"name before final empty line", "event:a\n", outcome{Cut: true}},
	{"id before final empty line", "id:a\n", outcome{Cut: true}},
	{"FIELD-DATA", "data:\n\ndata\ndata\n\ndata:test\n\n", message("", "\n", "test")},
	{"FIELD-EVENT", "event:test\ndata:x\n\ndata:x\n\n", outcome{Events: []event{{"", "test", "x"}, {"", "message", "x"}}}},
	{"FIELD-EVENT-EMPTY", "event: \ndata:data\n\n", message("data")},
	{"event name of an event without data", "event:a\n\ndata:x\n\n", message("x")},
	{"the last event name counts", "event:a\nevent:b\ndata:x\n\n", outcome{Events: []event{{"", "b", "x"}}}},
	{"FIELD-ID persists", "id:1\ndata:a\n\ndata:b\n\n",
		outcome{Events: []event{{"1", "message", "a"}, {"1", "message", "b"}}, LastID: "1"}},
	{"FIELD-ID-2 any character", "id:…\ndata:hello\n\n", outcome{Events: []event{{"…", "message", "hello"}}, LastID: "…"}},
	{"FIELD-ID-3 resets", "id:1\ndata:a\n\nid\ndata:b\n\ndata:c\n\n",
		outcome{Events: []event{{"1", "message", "a"}, {"", "message", "b"}, {"", "message", "c"}}}},
	{"FIELD-ID-NULL", "id:1\ndata:a\n\nid:2\x00x\ndata:b\n\n",
		outcome{Events: []event{{"1", "message", "a"}, {"1", "message", "b"}}, LastID: "1"}},
	{"id without data", "id:1\n\n", outcome{LastID: "1"}},
	{"FIELD-PARSING", "data:\x00\ndata:  2\rData:1\ndata\x00:2\ndata:1\r\x00data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
		message("\x00\n 2\n1\n3\n\n4")},
	{"FIELD-RETRY", "retry:3000\ndata:x\n\n", outcome{Events: message("x").Events, Retry: 3 * time.Second, Said: true}},
	{"FIELD-RETRY-BOGUS", "retry:3000\nretry:1000x\nretry:+1\nretry:-1\nretry:1_0\nretry:1.5\nretry:٣\nretry:0x1\nretry:  1\n",
		outcome{Retry: 3 * time.Second, Said: true}},
	{"FIELD-RETRY-EMPTY", "retry:1000\nretry\nretry:\n", outcome{Retry: time.Second, Said: true}},
	{"retry cut off", "retry:0", outcome{Cut: true}},
	{"retry 0", "retry: 0\n", outcome{Said: true}},
	{"retry of 292 years", "retry:9223372036854\n", outcome{Retry: 9223372036854 * time.Millisecond, Said: true}},
	{"retry of more", "retry:9223372036855\n", outcome{Retry: 9223372036854 * time.Millisecond, Said: true}},
	{"retry of ages", "retry:" + strings.Repeat("9", 100) + "\n", outcome{Retry: 9223372036854 * time.Millisecond, Said: true}},
	{"retry of ages, bogus", "retry:" + strings.Repeat("9", 100) + "x\n", outcome{}},
	{"FIELD-UNKNOWN", "data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n", message("test\n\ntest")},
	{"LEADING-SPACE", "data:\ttest\rdata: \ndata:test\n\n", message("\ttest\n\ntest")},
	{"NEWLINES", "data:test\r\ndata\ndata:test\r\n\r", message("test\n\ntest")},
	{"newlines: CR alone", "data:a\rdata:b\r\rdata:c\r\r", message("a\nb", "c")},
	{"newlines: CR CR LF is two", "data:a\r\r\ndata:b\n\n", message("a", "b")},
	{"newlines: LF CR is two", "data:a\n\rdata:b\n\n", message("a", "b")},
	{"NULL-CHARACTER", "data:\x00\n\n\n\n", message("\x00")},
	{"UTF-8", "data:ok\xE2\x80\xA6\n\n", message("ok…")},
	{"broken UTF-8", "data:a\xE2\x80\nid:\xFF\n\n", outcome{Events: []event{{"\uFFFD", "message", "a\uFFFD"}}, LastID: "\uFFFD"}},
	{"heartbeats", ":\n:\ndata:a\n:\n\n:\n:\n", message("a")},
	{"heartbeat of others", ": x\n\n: x\n\ndata:a\n\n", message("a")},
}

func TestReader(t *testing.T) {
	for _, tt := range streams {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, read(t, strings.NewReader(tt.stream)))
			require.Equal(t, tt.want, read(t, iotest.OneByteReader(strings.NewReader(tt.stream))), "byte by byte")
			require.Equal(t, tt.want, read(t, iotest.DataErrReader(strings.NewReader(tt.stream))), "with the last read")
			require.Equal(t, tt.want, whatwg(sse.Valid(tt.stream)), "the oracle of the other tests")
		})
	}
}

func TestReaderAtEverySplitPoint(t *testing.T) {
	for _, tt := range streams {
		for i := range len(tt.stream) {
			r := io.MultiReader(strings.NewReader(tt.stream[:i]), strings.NewReader(tt.stream[i:]))
			require.Equal(t, tt.want, read(t, r), "%s, split at %d", tt.name, i)
		}
	}
}

// alphabet makes streams in which something is the matter.
var alphabet = rapid.SampledFrom([]string{
	"\r", "\n", "\r\n", "\n\n", ":", " ", "data", "data: ", "data:x", "event: ", "id: ", "id:1", "id", "retry:", "7",
	"\x00", "\uFEFF", "é", "\xE2\x80", "\xFF", "x", "data:a\n\n", "id:2\ndata:b\r\r",
})

func text(t *rapid.T, name string) string {
	return strings.Join(rapid.SliceOf(alphabet).Draw(t, name), "")
}

func TestReaderIsTheStandardHoweverItIsCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := text(t, "stream")
		sizes := rapid.SliceOf(rapid.IntRange(1, 5)).Draw(t, "sizes")
		require.Equal(t, whatwg(sse.Valid(stream)), read(t, &pieces{stream, sizes}))
	})
}

// pieces reads text in pieces of the given sizes, and the rest as one.
type pieces struct {
	text  string
	sizes []int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	n := len(p.text)
	if len(p.sizes) > 0 {
		n, p.sizes = min(n, p.sizes[0]), p.sizes[1:]
	}
	n = copy(b, p.text[:n])
	p.text = p.text[n:]
	return n, nil
}

// An event whose end has come is returned at once, though a LF might follow.
func TestReaderDoesNotWaitForMore(t *testing.T) {
	for _, end := range []string{"\n\n", "\r\r", "\r\n\r\n", "\r\n\r", "\n\r"} {
		r := sse.NewReader(io.MultiReader(strings.NewReader("data: x"+end), iotest.ErrReader(errors.New("read on"))))
		e, err := r.Next()
		require.NoError(t, err, "%q", end)
		require.Equal(t, "x", string(e.Data))
	}
}

func TestReaderKeepsItsError(t *testing.T) {
	broken := errors.New("broken")
	r := sse.NewReader(io.MultiReader(strings.NewReader("id:1\ndata: x\n\nid:2\ndata: y\n"), iotest.ErrReader(broken), strings.NewReader("\n")))
	_, err := r.Next()
	require.NoError(t, err)
	for range 3 {
		_, err = r.Next()
		require.ErrorIs(t, err, broken)
		require.Equal(t, "1", r.LastID())
	}
}

// endless repeats a text for ever.
type endless struct {
	text string
	at   int
}

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.text[e.at:])
	e.at = (e.at + n) % len(e.text)
	return n, nil
}

func TestReaderIsBounded(t *testing.T) {
	for name, stream := range map[string]io.Reader{
		"line":        &endless{text: "x"},
		"comment":     io.MultiReader(strings.NewReader(":"), &endless{text: "x"}),
		"data lines":  &endless{text: "data: x\n"},
		"empty lines": &endless{text: "data\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := sse.NewReader(stream)
			for range 2 {
				_, err := r.Next()
				require.ErrorIs(t, err, sse.ErrTooLarge)
			}
		})
	}
}

// The limit is of one event, not of the stream.
func TestReaderTakesTheLargest(t *testing.T) {
	const field = "data: "
	largest := field + strings.Repeat("x", sse.MaxEvent-len(field))
	r := sse.NewReader(strings.NewReader(strings.Repeat(largest+"\n\n", 3) + largest + "x\n\n"))
	for range 3 {
		e, err := r.Next()
		require.NoError(t, err)
		require.Len(t, e.Data, sse.MaxEvent-len(field))
	}
	_, err := r.Next()
	require.ErrorIs(t, err, sse.ErrTooLarge)
}

func TestReaderTakesCommentsForEver(t *testing.T) {
	stream := io.MultiReader(io.LimitReader(&endless{text: sse.Heartbeat}, 3*sse.MaxEvent), strings.NewReader("data: x\n\n"))
	require.Equal(t, message("x"), read(t, stream))
}

func FuzzReader(f *testing.F) {
	for _, tt := range streams {
		f.Add(tt.stream, 1)
	}
	f.Fuzz(func(t *testing.T, stream string, size int) {
		want := whatwg(sse.Valid(stream))
		require.Equal(t, want, read(t, strings.NewReader(stream)))
		size = max(1, size)
		require.Equal(t, want, read(t, &pieces{stream, slices.Repeat([]int{size}, min(len(stream), 1000))}))
	})
}
