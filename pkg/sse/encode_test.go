package sse_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	gosse "github.com/tmaxmax/go-sse"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/sse"
)

func TestAppendEvent(t *testing.T) {
	for _, tt := range []struct{ name, id, event, data, want string }{
		{"all", "7-1-1", "job.progress", `{"a":1}`, "event: job.progress\ndata: {\"a\":1}\nid: 7-1-1\n\n"},
		{"nothing", "", "", "", "data: \n\n"},
		{"no id", "", "a", "x", "event: a\ndata: x\n\n"},
		{"no name", "1", "", "x", "data: x\nid: 1\n\n"},
		{"leading space", " 1", " a", " x", "event:  a\ndata:  x\nid:  1\n\n"},
		{"lines", "", "", "a\nb\rc\r\nd", "data: a\ndata: b\ndata: c\ndata: d\n\n"},
		{"line breaks only", "", "", "\n\r\r\n", "data: \ndata: \ndata: \ndata: \n\n"},
		{"LF CR is two", "", "", "\n\r", "data: \ndata: \ndata: \n\n"},
		{"NUL in data", "", "", "\x00", "data: \x00\n\n"},
		{"CR in id", "1\rdata: forged", "", "x", "data: x\n\n"},
		{"LF in id", "1\n\n", "", "x", "data: x\n\n"},
		{"NUL in id", "1\x00", "a", "x", "event: a\ndata: x\n\n"},
		{"CR in name", "1", "a\rid: 9", "x", "data: x\nid: 1\n\n"},
		{"LF in name", "1", "\na", "x", "data: x\nid: 1\n\n"},
		{"NUL in name", "1", "\x00", "x", "data: x\nid: 1\n\n"},
		{"fields in data", "", "", "x\n\nevent: done\nid: 9\n: c\n", "data: x\ndata: \ndata: event: done\ndata: id: 9\ndata: : c\ndata: \n\n"},
		{"broken UTF-8", "\xFF", "\xC3", "\xE2\x80", "event: \uFFFD\ndata: \uFFFD\nid: \uFFFD\n\n"},
		{"BOM", "\uFEFF", "", "\uFEFFx", "data: \uFEFFx\nid: \uFEFF\n\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, string(sse.AppendEvent(nil, tt.id, tt.event, []byte(tt.data))))
			require.Equal(t, "before "+tt.want, string(sse.AppendEvent([]byte("before "), tt.id, tt.event, []byte(tt.data))))
		})
	}
}

func TestAppendRetry(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                       "retry: 0\n",
		-time.Second:            "retry: 0\n",
		2500 * time.Millisecond: "retry: 2500\n",
		1500 * time.Microsecond: "retry: 1\n",
		math.MaxInt64:           "retry: 9223372036854\n",
	} {
		require.Equal(t, want, string(sse.AppendRetry(nil, d)))
	}
}

// A retry and a heartbeat are nothing to a client that makes an event of each
// blank line, and take effect nevertheless.
func TestRetryAndHeartbeatAreNoEvents(t *testing.T) {
	b := sse.AppendRetry([]byte(sse.Heartbeat), 3*time.Second)
	b = append(b, sse.Heartbeat...)
	require.NotContains(t, string(b), "\n\n")
	require.Equal(t, outcome{Retry: 3 * time.Second, Said: true}, read(t, strings.NewReader(string(b))))

	b = sse.AppendEvent(b, "1", "a", []byte("x"))
	require.Equal(t, outcome{[]event{{"1", "a", "x"}}, "1", 3 * time.Second, true, false}, read(t, strings.NewReader(string(b))))
}

// The examples of the Unicode standard, tables 3-8 to 3-11.
func TestBrokenCharactersAreReplacedAsBrowsersDo(t *testing.T) {
	for broken, want := range map[string]string{
		"\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64": "a???b?c??d",
		"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41":                 "????????A",
		"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41":                 "????????A",
		"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42":                 "?????A??B",
		"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41":                 "????A",
		"\uFFFD é 𝄞\xF0\x9D\x84":                               "? é 𝄞?",
	} {
		require.Equal(t, strings.ReplaceAll(want, "?", "\uFFFD"), sse.Valid(broken), "%x", broken)
	}
}

// seen is the event that every client sees of what AppendEvent was given; last
// is the id it had before.
func seen(last, id, name, data string) event {
	e := event{ID: last, Type: "message", Data: sse.Valid(data)}
	if id != "" && !strings.ContainsAny(id, "\r\n\x00") {
		e.ID = sse.Valid(id)
	}
	if name != "" && !strings.ContainsAny(name, "\r\n\x00") {
		e.Type = sse.Valid(name)
	}
	e.Data = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(e.Data)
	return e
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var want outcome
		for range rapid.IntRange(1, 5).Draw(t, "events") {
			id, name, data := text(t, "id"), text(t, "event"), text(t, "data")
			stream = sse.AppendEvent(stream, id, name, []byte(data))
			e := seen(want.LastID, id, name, data)
			want.Events, want.LastID = append(want.Events, e), e.ID
		}
		sizes := rapid.SliceOf(rapid.IntRange(1, 5)).Draw(t, "sizes")
		require.Equal(t, want, read(t, &pieces{string(stream), sizes}))
		require.Equal(t, want, whatwg(string(stream)))
	})
}

// independent reads a stream with somebody else's parser.
func independent(t *testing.T, stream string) (events []event) {
	for e, err := range gosse.Read(strings.NewReader(stream), &gosse.ReadConfig{MaxEventSize: sse.MaxEvent}) {
		require.NoError(t, err)
		if e.Type == "" {
			e.Type = "message"
		}
		events = append(events, event{e.LastEventID, e.Type, e.Data})
	}
	return events
}

// Whatever a worker calls its event or puts in it, it is one event between the
// others, to our reader and to somebody else's.
func FuzzAppendEvent(f *testing.F) {
	f.Add("7-1-1", "job.progress", `{"progress":1}`)
	f.Add("1\nid: 2", "a\n\nevent: done\ndata: 1\n\n", "x\r\n\r\nevent: done\r\ndata: 1\r\n\r\n")
	f.Add("1\rid: 2", "a\r\rdata: 1\r\r", "x\r\rid: 9\r\r")
	f.Add("\x00", "\x00", "\x00")
	f.Add("", "", "")
	f.Add("\uFEFF", "\uFEFF", "\uFEFF\n\uFEFF")
	f.Add("\xE2\x80", "\xFF", "\xF0\x9D\x84\n\xC0")
	f.Fuzz(func(t *testing.T, id, name, data string) {
		stream := sse.AppendEvent(nil, "first", "a", []byte("1"))
		stream = sse.AppendEvent(stream, id, name, []byte(data))
		stream = sse.AppendEvent(stream, "last", "z", []byte("2"))
		want := []event{{"first", "a", "1"}, seen("first", id, name, data), {"last", "z", "2"}}
		require.Equal(t, want, read(t, strings.NewReader(string(stream))).Events)
		require.Equal(t, want, independent(t, string(stream)))
	})
}

func BenchmarkAppendEvent(b *testing.B) {
	data := []byte(`{"id":"7-18423-1","seq":7,"type":"job.progress","data":{"progress":42,"total":100,"message":"encoding"}}`)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = sse.AppendEvent(buf[:0], "7-18423-1", "job.progress", data)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkReader(b *testing.B) {
	frame := sse.AppendEvent(nil, "7-18423-1", "job.progress", []byte(strings.Repeat("x", 200)))
	r := sse.NewReader(&endless{text: string(frame)})
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
