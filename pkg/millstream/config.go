package millstream

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// Config says how a Millstream runs. The zero value is a good one: it listens on
// loopback and keeps its jobs below ./data. See Defaults for the rest.
type Config struct {
	Listen     string        // address of the HTTP API
	Data       string        // directory of the embedded store, or Memory
	NATS       string        // nats://… of a server to use in place of the embedded one
	Hosts      []string      // Host headers served beside the address itself and localhost
	Origins    []string      // origins of web pages that may call the API
	Heartbeat  time.Duration // silence on a stream after which it is broken
	Drain      time.Duration // how long a stop waits for streams and work to end
	MaxStore   int64         // bytes the embedded store may use
	PowerSafe  bool          // what is told, or shown, outlives a loss of power; embedded store only
	TapeMemory int64         // bytes of recent events kept in memory, of all jobs
	Limits     Limits
	Webhooks   Webhooks
	AdminKey   string // whoever has it may do everything; without one, see NewKey
	Log        *zap.Logger
	Ready      func(url string) // called once the API can be reached; may be nil

	// NewKey is told the admin key that is made at the first start on an address
	// that other machines reach, if there is no AdminKey. Only a hash of it is kept.
	// By default it is printed on standard error.
	NewKey func(key string)
}

// Memory, as Config.Data, keeps nothing: the jobs end with the process.
const Memory = "memory"

// Webhooks say how events are sent to URLs that jobs are submitted with.
type Webhooks struct {
	Secrets []string       // that sign, all of them, the newest first; see standardwebhooks.NewSecret. Without one a job has no webhook
	Allow   []netip.Prefix // addresses that may be connected to though they are not public ones, and by http:// too
}

// Limits bound what one job may take.
type Limits struct {
	Body         int64   // bytes of a request
	EventsPerJob int     // from half of it on, events are joined
	BytesPerJob  int64   // of events; more output is cut
	ProgressRate float64 // job.progress a second
	Streams      int     // open streams of the process
}

// Defaults are the values of a Config's zeros, each with its reason.
var Defaults = Config{
	Listen:     "127.0.0.1:8080", // nobody else reaches a server that knows no callers yet
	Data:       "./data",
	Heartbeat:  15 * time.Second, // shorter than the patience of any proxy: 30 s at the least
	Drain:      30 * time.Second, // what a supervisor usually grants before it kills
	MaxStore:   10 << 30,         // stated, because JetStream's own is 75 % of the disk as it was at start
	TapeMemory: 256 << 20,        // a hundred thousand small jobs; the others are read from the store
	Limits: Limits{
		Body:         1 << 20,  // fits a NATS message with its default limit
		EventsPerJob: 10_000,   // what a page can still show
		BytesPerJob:  64 << 20, // a job is not a file transfer
		ProgressRate: 10,       // faster than an eye
		Streams:      10_000,   // below the usual limit of open files, with room for all else
	},
}

// withDefaults returns c with a default in place of each zero.
func (c Config) withDefaults() Config {
	d := Defaults
	set(&c.Listen, d.Listen)
	set(&c.Data, d.Data)
	set(&c.Heartbeat, d.Heartbeat)
	set(&c.Drain, d.Drain)
	set(&c.MaxStore, d.MaxStore)
	set(&c.TapeMemory, d.TapeMemory)
	set(&c.Limits.Body, d.Limits.Body)
	set(&c.Limits.EventsPerJob, d.Limits.EventsPerJob)
	set(&c.Limits.BytesPerJob, d.Limits.BytesPerJob)
	set(&c.Limits.ProgressRate, d.Limits.ProgressRate)
	set(&c.Limits.Streams, d.Limits.Streams)
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.NewKey == nil {
		c.NewKey = printKey
	}
	return c
}

func set[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// dir returns the directory of the embedded store; "": memory.
func (c Config) dir() string {
	if c.Data == Memory {
		return ""
	}
	return c.Data
}

// validate finds what could not run.
func (c Config) validate(kinds []Kind) error {
	var errs []error
	seen, paths := map[string]bool{}, map[string]bool{}
	for _, k := range kinds {
		switch {
		case !job.ValidKind(k.Name):
			errs = append(errs, fmt.Errorf("kind %q: a name is 1 to 64 letters, digits, '-' and '_'", k.Name))
		case seen[k.Name]:
			errs = append(errs, fmt.Errorf("kind %s: there are two of it", k.Name))
		case k.Run == nil && k.Lease == 0:
			errs = append(errs, fmt.Errorf("kind %s: nothing runs it", k.Name))
		}
		seen[k.Name] = true
		if k.target == nil {
			continue
		}
		if err := checkTarget(k.target); err != nil {
			errs = append(errs, fmt.Errorf("kind %s: %w", k.Name, err))
		}
		if paths[k.target.Path] {
			errs = append(errs, fmt.Errorf("kind %s: there are two routes of %s", k.Name, k.target.Path))
		}
		paths[k.target.Path] = true
	}
	return errors.Join(errs...)
}
