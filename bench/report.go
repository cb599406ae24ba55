package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// report is what was found.
type report struct {
	ratios table
	tables []*table
}

// table is a table of figures, with what is to be said about them.
type table struct {
	title, note string
	rows        [][]string // the first is the head
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// ratio adds a line to the first table, of what has an aim or a counterpart.
func (r *report) ratio(what string, rounds series, aim string) {
	if len(r.ratios.rows) == 0 {
		r.ratios.row("Millstream against its counterpart in the same run", "ratio", "aim")
	}
	r.ratios.row(what, rounds.as(times), aim)
}

// table adds a table.
func (r *report) table(title, note string, head ...string) *table {
	t := &table{title: title, note: note, rows: [][]string{head}}
	r.tables = append(r.tables, t)
	return t
}

// write writes the report as Markdown.
func (r *report) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s. Median of the rounds; smallest and largest in brackets.\n\n", machine(), time.Now().Format(time.DateOnly))
	r.ratios.write(&b)
	for _, t := range r.tables {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", t.title, t.note)
		t.write(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *table) write(b *strings.Builder) {
	for i, cells := range t.rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(cells)) + "|\n")
		}
	}
}

// machine describes the machine in a few words.
func machine() string {
	system := runtime.GOOS
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		version, _, _ := strings.Cut(strings.TrimSpace(string(release)), "-")
		system += " " + version
	}
	memory := "?"
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		memory = bytesOf(float64(info.Totalram) * float64(info.Unit))
	}
	return fmt.Sprintf("%d cores, %s, %s, %s", runtime.NumCPU(), memory, system, runtime.Version())
}
