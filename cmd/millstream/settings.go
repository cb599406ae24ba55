package main

import (
	"path/filepath"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/millstream"
)

// settings is the configuration as its file has it. Every key is here: what is
// not fails.
type settings struct {
	Listen     string                  `yaml:"listen"`
	Hosts      []string                `yaml:"hosts"`
	Data       string                  `yaml:"data"`
	NATS       string                  `yaml:"nats"`
	Durability string                  `yaml:"durability"`
	Key        string                  `yaml:"key"`
	KeyFile    string                  `yaml:"key_file"`
	MaxStore   size                    `yaml:"max_store"`
	TapeMemory size                    `yaml:"tape_memory"`
	Heartbeat  duration                `yaml:"heartbeat"`
	Drain      duration                `yaml:"drain"`
	CORS       corsSettings            `yaml:"cors"`
	Webhooks   webhookSettings         `yaml:"webhooks"`
	Limits     limitSettings           `yaml:"limits"`
	Log        logSettings             `yaml:"log"`
	Kinds      map[string]kindSettings `yaml:"kinds"`
	Routes     []routeSettings         `yaml:"routes"`

	file string // it was read from; empty: none
}

// What an answer promises, by durability. A kill of any process is survived by both; a
// loss of power takes up to the last second of what is kill-safe, which costs nothing.
const (
	killSafe  = "kill-safe"
	powerSafe = "power-safe"
)

type corsSettings struct {
	Origins []string `yaml:"origins"`
}

type webhookSettings struct {
	Secret     string   `yaml:"secret"`
	Secrets    []string `yaml:"secrets"`     // several, the newest first; all of them sign
	SecretFile string   `yaml:"secret_file"` // one a line
	Allow      []string `yaml:"allow"`
}

type limitSettings struct {
	Body         size    `yaml:"body"`
	EventsPerJob int     `yaml:"events_per_job"`
	BytesPerJob  size    `yaml:"bytes_per_job"`
	ProgressRate float64 `yaml:"progress_rate"`
	Streams      int     `yaml:"streams"`
}

type logSettings struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

type kindSettings struct {
	Exec         *execSettings   `yaml:"exec,omitempty"`
	HTTP         *httpSettings   `yaml:"http,omitempty"`
	Pull         *pullSettings   `yaml:"pull,omitempty"`
	Lease        duration        `yaml:"lease,omitempty"` // of pull
	Description  string          `yaml:"description"`
	Timeout      duration        `yaml:"timeout"`
	MaxAttempts  int             `yaml:"max_attempts"`
	Concurrency  int             `yaml:"concurrency"`
	Queue        int             `yaml:"queue"`
	Retention    duration        `yaml:"retention"`
	Priority     string          `yaml:"priority"`
	StartTimeout duration        `yaml:"start_timeout"` // 0: none
	Deadline     duration        `yaml:"deadline"`      // 0: none
	Backoff      backoffSettings `yaml:"backoff"`
	MaxInput     size            `yaml:"max_input"` // 0: limits.body
	Input        any             `yaml:"input"`     // JSON Schema, or the name of a file with one
	Result       any             `yaml:"result"`
}

type backoffSettings struct {
	First duration `yaml:"first"`
	Max   duration `yaml:"max"`
}

type execSettings struct {
	Command    command           `yaml:"command"`
	Stdout     string            `yaml:"stdout"`
	ResultType string            `yaml:"result_type"`
	Env        map[string]string `yaml:"env"`
	Dir        string            `yaml:"dir"`
	Grace      duration          `yaml:"grace"`
	Memory     size              `yaml:"memory"`
}

// command is an argv, which may be written as one line too.
type command []string

type httpSettings struct {
	URL        string            `yaml:"url"`
	Method     string            `yaml:"method"`
	Headers    map[string]string `yaml:"headers"`
	Idempotent bool              `yaml:"idempotent"`
}

// pullSettings are none: who takes the work brings all else.
type pullSettings struct{}

// defaults returns what holds for keys that nobody has set.
func defaults() settings {
	d := millstream.Defaults
	return settings{
		Listen:     d.Listen,
		Data:       d.Data,
		Durability: killSafe,
		MaxStore:   size(d.MaxStore),
		TapeMemory: size(d.TapeMemory),
		Heartbeat:  duration(d.Heartbeat),
		Drain:      duration(d.Drain),
		Limits: limitSettings{
			Body:         size(d.Limits.Body),
			EventsPerJob: d.Limits.EventsPerJob,
			BytesPerJob:  size(d.Limits.BytesPerJob),
			ProgressRate: d.Limits.ProgressRate,
			Streams:      d.Limits.Streams,
		},
		Log: logSettings{Level: "info", Format: "auto"},
	}
}

// kindDefaults returns the same for the keys of one kind.
func kindDefaults() kindSettings {
	d := job.Kind{}.WithDefaults()
	return kindSettings{
		Timeout:     duration(d.Timeout),
		MaxAttempts: d.MaxAttempts,
		Concurrency: d.Concurrency,
		Queue:       d.QueueLimit,
		Retention:   duration(d.Retention),
		Priority:    d.Priority.String(),
		Backoff:     backoffSettings{First: duration(d.Backoff.First), Max: duration(d.Backoff.Max)},
	}
}

// path returns the place of a file that the configuration names: beside the
// configuration itself, wherever the server was started.
func (s *settings) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(s.file), name)
}

// scalar is a key that has a flag and a variable.
type scalar struct{ key, arg, usage string }

// scalars are in the order in which --help has them. The rest, kinds and routes, is for
// the file, --kind and --route.
var scalars = []scalar{
	{"listen", "host:port", "address of the HTTP API"},
	{"hosts", "names", "Host headers served beside the address itself, comma-separated"},
	{"data", "dir", "where the embedded store keeps the jobs; 'memory' keeps nothing"},
	{"nats", "urls", "NATS server to use in place of the embedded one"},
	{"durability", "what", "kill-safe, or power-safe: on the disk before it is told or shown"},
	{"key", "key", "what callers send to do anything; see key_file for a better place"},
	{"key_file", "file", "file with that key"},
	{"max_store", "size", "what the embedded store may take of the disk"},
	{"tape_memory", "size", "recent events kept in memory, of all jobs"},
	{"heartbeat", "duration", "silence on a stream after which a heartbeat is sent"},
	{"drain", "duration", "how long a stop waits for streams and work to end"},
	{"cors.origins", "urls", "origins of web pages that may call the API, comma-separated"},
	{"webhooks.secret", "secret", "what webhooks are signed with; see webhooks.secret_file for a better place"},
	{"webhooks.secrets", "secrets", "several, while they are rotated: all of them sign, comma-separated, the newest first"},
	{"webhooks.secret_file", "file", "file with them, a line each"},
	{"webhooks.allow", "networks", "what webhooks may be sent to that is not public, such as 10.0.0.0/8, comma-separated"},
	{"limits.body", "size", "largest request"},
	{"limits.events_per_job", "n", "events of a job; from half of it on they are joined"},
	{"limits.bytes_per_job", "size", "events of a job; more output is cut"},
	{"limits.progress_rate", "n", "progress events a second of a job"},
	{"limits.streams", "n", "open streams"},
	{"log.level", "level", "debug, info, warn or error"},
	{"log.format", "format", "console, json, or auto: console on a terminal"},
}
