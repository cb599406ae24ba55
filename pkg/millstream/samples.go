package millstream

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/millstream/millstream/pkg/job"
)

// Samples returns the kinds that are served when none is configured: safe for
// anybody's input, and enough to see what Millstream does.
func Samples() []Kind {
	words := Func("wordcount", wordcount)
	words.Description = "Counts the lines, words and bytes of the text it is given, and its most frequent words."
	echo := Func("echo", echo)
	echo.Description = "Says its input again, a line at a time, three a second."
	count := Func("countdown", countdown)
	count.Description = `Counts down a second at a time: {"from": 10}.`
	count.Input = []byte(`{"type":"object","properties":{"from":{"type":"integer","minimum":0,"maximum":3600}},"additionalProperties":false}`)
	return []Kind{words, echo, count}
}

// wordCount is the result of wordcount.
type wordCount struct {
	Lines int        `json:"lines"`
	Words int        `json:"words"`
	Bytes int        `json:"bytes"`
	Top   []wordFreq `json:"top"`
}

type wordFreq struct {
	Word  string `json:"word"`
	Count int    `json:"count"`
}

// topWords is how many of the most frequent words are told.
const topWords = 10

func wordcount(ctx context.Context, t *Task) (any, error) {
	input := t.Input()
	c := wordCount{Bytes: len(input)}
	freq := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(input))
	lines.Buffer(nil, len(input)+1)
	read := 0
	for lines.Scan() && ctx.Err() == nil {
		c.Lines++
		read += len(lines.Bytes()) + 1
		for _, w := range strings.FieldsFunc(lines.Text(), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' }) {
			c.Words++
			freq[strings.ToLower(w)]++
		}
		t.Progress(float64(min(read, len(input))), float64(len(input)), "counting")
	}
	c.Top = mostFrequent(freq)
	return c, context.Cause(ctx)
}

func mostFrequent(freq map[string]int) []wordFreq {
	words := slices.SortedFunc(maps.Keys(freq), func(a, b string) int {
		return cmp.Or(cmp.Compare(freq[b], freq[a]), cmp.Compare(a, b))
	})
	top := []wordFreq{}
	for _, w := range words[:min(topWords, len(words))] {
		top = append(top, wordFreq{w, freq[w]})
	}
	return top
}

func echo(ctx context.Context, t *Task) (any, error) {
	const pace = time.Second / 3 // slow enough to watch
	lines := bytes.SplitAfter(t.Input(), []byte("\n"))
	for i, line := range lines {
		if len(line) > 0 {
			if _, err := t.Write(line); err != nil {
				return nil, err
			}
		}
		t.Progress(float64(i+1), float64(len(lines)), "")
		if err := wait(ctx, pace); err != nil {
			return nil, err
		}
	}
	return Result{Type: t.InputType(), Body: t.Input()}, nil
}

func countdown(ctx context.Context, t *Task) (any, error) {
	in := struct {
		From int `json:"from"`
	}{10}
	if len(t.Input()) > 0 {
		if err := t.Bind(&in); err != nil {
			return nil, job.Problemf("invalid-input", "%v", err)
		}
	}
	for left := in.From; left > 0; left-- {
		t.Progress(float64(in.From-left), float64(in.From), "")
		if err := t.Emit("tick", map[string]int{"left": left}); err != nil {
			return nil, err
		}
		if err := wait(ctx, time.Second); err != nil {
			return nil, err
		}
	}
	t.Progress(float64(in.From), float64(in.From), "lift-off")
	return map[string]int{"counted": in.From}, nil
}

// wait waits for d, or returns why ctx ended.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
