package main

import (
	"io"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// meter shows on a terminal how many bytes of how many are done. Elsewhere it shows nothing.
type meter struct {
	bars *mpb.Progress // nil: there is no terminal
	bar  *mpb.Bar
}

func newMeter(status io.Writer) *meter {
	m := &meter{}
	if isTerminal(status) {
		m.bars = mpb.New(mpb.WithOutput(status))
		m.bar = m.bars.AddBar(0, mpb.BarWidth(barWidth), mpb.AppendDecorators(
			decor.CountersKibiByte("% .1f / % .1f"), decor.Name(", "), decor.AverageETA(decor.ET_STYLE_GO)))
	}
	return m
}

// set moves the bar.
func (m *meter) set(done, total int64) {
	if m.bar != nil {
		m.bar.SetTotal(total, false)
		m.bar.SetCurrent(done)
	}
}

// over returns where lines for w go while the bar is there: above it, if both are on a
// terminal.
func (m *meter) over(w io.Writer) io.Writer {
	if m.bars != nil && isTerminal(w) {
		return m.bars
	}
	return w
}

// close takes the bar away.
func (m *meter) close() {
	if m.bar != nil {
		m.bar.Abort(true)
		m.bars.Wait()
	}
}
