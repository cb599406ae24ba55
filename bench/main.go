// Command bench measures a Millstream from outside, beside the least that a
// server can do, in one run on one machine. What it prints is Markdown.
//
//	bench ──starts──▶ millstream (mill), the bare handlers (floor), the log alone (log)
//	      ──starts──▶ those who submit (load), those who read (reader), who gets and sends webhooks (hook)
//
// Each of them is a process of its own (proc), and only the server's own time
// counts. Speed differs between machines, and on one machine between days; ratios
// inside one run differ less. So what has a counterpart is measured in turn with
// it, several times, and the figure is the median of their ratios.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/millstream/millstream/bench/internal/floor"
	"github.com/millstream/millstream/bench/internal/hook"
	"github.com/millstream/millstream/bench/internal/load"
	eventlog "github.com/millstream/millstream/bench/internal/log"
	"github.com/millstream/millstream/bench/internal/mill"
	"github.com/millstream/millstream/bench/internal/proc"
	"github.com/millstream/millstream/bench/internal/reader"
)

// The roles that this program plays.
const (
	millRole     = "mill"
	floorRole    = "floor"
	logRole      = "log"
	loadRole     = "load"
	readerRole   = "reader"
	receiverRole = "receiver"
	senderRole   = "sender"
)

func roles() map[string]any {
	return map[string]any{
		millRole: new(mill.Server), floorRole: new(floor.Server), logRole: new(eventlog.Log),
		loadRole: new(load.Load), readerRole: new(reader.Reader), receiverRole: new(hook.Receiver), senderRole: new(hook.Sender),
	}
}

// measurement is one of those that -only names.
type measurement struct {
	name string
	run  func(*bench) error
}

var measurements = []measurement{
	{"submit", submit},
	{"events", events},
	{"latency", latency},
	{"fanout", fanOut},
	{"idle", idle},
	{"resume", resume},
	{"list", list},
	{"start", start},
	{"isolation", isolation},
	{"expiry", expiry},
	{"polling", polling},
	{"webhooks", webhooks},
}

func main() {
	log.SetFlags(log.Ltime)
	played, err := proc.Main(roles())
	if !played {
		err = run()
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run() error {
	short := flag.Bool("short", false, "see that it works: small and quick, the figures mean nothing")
	only := flag.String("only", "", "the measurements to make, with commas between them; all if empty")
	dir := flag.String("dir", os.TempDir(), "where the stores lie: on the disk that is meant")
	finished := flag.Int("finished", 0, "how many jobs a start finds that are over; 200,000 if 0")
	flag.StringVar(&proc.Profiles, "profiles", "", "a directory for CPU profiles of all processes")
	flag.Parse()
	b := &bench{size: full, dir: *dir}
	if *short {
		b.size = small
	}
	if *finished > 0 {
		b.size.finished = *finished
	}
	return errors.Join(b.measure(*only), b.report.write(os.Stdout))
}

// measure makes the measurements of a list, or all.
func (b *bench) measure(list string) error {
	names := strings.Split(list, ",")
	for _, m := range measurements {
		if list != "" && !slices.Contains(names, m.name) {
			continue
		}
		begin := time.Now()
		if err := errors.Join(m.run(b), b.clean()); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		log.Printf("%s: %s", m.name, time.Since(begin).Round(time.Millisecond))
	}
	return nil
}
