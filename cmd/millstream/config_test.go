package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/knadh/koanf/maps"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	encoder "go.yaml.in/yaml/v3"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/millstream"
	"github.com/millstream/millstream/pkg/worker"
)

// full has every key there is, none with its default, but for two: key_file stands in the
// place of key, and nats goes with no durability but the default.
const full = `listen: 0.0.0.0:9000
hosts: [jobs.example, jobs]
data: /srv/data
durability: power-safe
key_file: the.key
max_store: 20GiB
tape_memory: 1MiB
heartbeat: 5s
drain: 1m30s
cors:
    origins: ["https://app.example"]
webhooks:
    secret: whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw
    secrets: [whsec_MTExMTExMTExMTExMTExMTExMTExMTEx]
    secret_file: hook.secrets
    allow: [10.1.2.3/8, "::1"]
limits:
    body: 2MiB
    events_per_job: 500
    bytes_per_job: 1GB
    progress_rate: 2.5
    streams: 77
log:
    level: warn
    format: json
kinds:
    report:
        http:
            url: https://reports.internal/run?a=b
            method: PUT
            headers: {Authorization: Bearer x, X.Dotted: "1"}
            idempotent: true
        description: Makes a report.
        timeout: 10m
        max_attempts: 5
        concurrency: 2
        queue: 9
        retention: 48h
        priority: high
        start_timeout: 1h
        deadline: 2h
        max_input: 1MiB
        backoff: {first: 3s, max: 1h}
        input: {type: object, properties: {a.b: {type: integer, maximum: 9}}}
        result: true.json
    wordcount:
        exec:
            command: [wc, -w, "a b"]
            stdout: result
            result_type: text/csv
            env: {LANG: C, PORT: "80"}
            dir: /tmp
            grace: 3s
            memory: 1GiB
    resize:
        pull: {}
        lease: 10s
routes:
    - {path: /legacy/*, upstream: "http://legacy.internal:8080", name: old, headers: [X-Tenant], methods: [GET], authorization: true, timeout: 1h}
`

// loadFrom loads a configuration from a file with this text, if there is any,
// from variables and from flags.
func loadFrom(t *testing.T, text string, environ []string, args ...string) (settings, error) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "true.json"), []byte(`{"type":"string"}`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "the.key"), []byte("secret\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hook.secrets"), []byte("whsec_MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIy\nwhsec_MzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMz\n"), 0o600))
	if text != "" {
		path := filepath.Join(dir, "millstream.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		environ = append(environ, "MILLSTREAM_CONFIG="+path)
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	settingsFlags(flags)
	require.NoError(t, flags.Parse(args))
	return load(flags, environ)
}

func TestConfig_defaults(t *testing.T) {
	s, err := loadFrom(t, "", nil)
	require.NoError(t, err)
	log := zap.NewNop()
	want := millstream.Defaults
	want.Log = log
	got, err := s.config(log)
	require.NoError(t, err)
	require.Equal(t, want, got)
	kinds, err := s.kinds()
	require.NoError(t, err)
	require.Empty(t, kinds)
}

func TestConfig_full(t *testing.T) {
	s, err := loadFrom(t, full, nil)
	require.NoError(t, err)
	log := zap.NewNop()
	got, err := s.config(log)
	require.NoError(t, err)
	require.Equal(t, millstream.Config{
		Listen: "0.0.0.0:9000", Hosts: []string{"jobs.example", "jobs"}, Data: "/srv/data", PowerSafe: true, AdminKey: "secret", MaxStore: 20 << 30,
		TapeMemory: 1 << 20, Heartbeat: 5 * time.Second, Drain: 90 * time.Second, Origins: []string{"https://app.example"}, Log: log,
		Limits: millstream.Limits{Body: 2 << 20, EventsPerJob: 500, BytesPerJob: 1e9, ProgressRate: 2.5, Streams: 77},
		Webhooks: millstream.Webhooks{
			Secrets: []string{"whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw", "whsec_MTExMTExMTExMTExMTExMTExMTExMTEx", "whsec_MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIy", "whsec_MzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMz"},
			Allow:   []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		},
	}, got)

	kinds, err := s.kinds()
	require.NoError(t, err)
	require.Len(t, kinds, 4)
	kinds[1].Grace, kinds[2].Grace = 0, 0 // the library's own
	require.Equal(t, []job.Kind{
		{
			Name: "report", Worker: "http", Description: "Makes a report.", Timeout: 10 * time.Minute, MaxAttempts: 5, Concurrency: 2, QueueLimit: 9,
			Retention: 48 * time.Hour, Priority: job.High, StartTimeout: time.Hour, Deadline: 2 * time.Hour, Backoff: job.Backoff{First: 3 * time.Second, Max: time.Hour}, MaxInput: 1 << 20,
			Input:  []byte(`{"properties":{"a.b":{"maximum":9,"type":"integer"}},"type":"object"}`),
			Result: []byte(`{"type":"string"}`),
		},
		{
			Name: "resize", Worker: "pull", Timeout: job.DefaultTimeout, MaxAttempts: job.DefaultMaxAttempts, Concurrency: job.DefaultConcurrency,
			QueueLimit: job.DefaultQueueLimit, Retention: job.DefaultRetention, Backoff: job.DefaultBackoff, Lease: 10 * time.Second,
		},
		{
			Name: "wordcount", Worker: "exec", Timeout: job.DefaultTimeout, MaxAttempts: job.DefaultMaxAttempts, Concurrency: job.DefaultConcurrency,
			QueueLimit: job.DefaultQueueLimit, Retention: job.DefaultRetention, Backoff: job.DefaultBackoff,
		},
	}, []job.Kind{kinds[0].Kind, kinds[1].Kind, kinds[2].Kind})

	report, words := s.Kinds["report"], s.Kinds["wordcount"]
	require.Equal(t, worker.HTTP{
		URL: "https://reports.internal/run?a=b", Method: "PUT", Headers: map[string]string{"Authorization": "Bearer x", "X.Dotted": "1"}, Idempotent: true,
	}, report.HTTP.worker())
	require.Equal(t, worker.Exec{
		Command: []string{"wc", "-w", "a b"}, Stdout: worker.StdoutResult, ResultType: "text/csv",
		Env: map[string]string{"LANG": "C", "PORT": "80"}, Dir: "/tmp", Grace: 3 * time.Second, Memory: 1 << 30,
	}, words.Exec.worker())
}

// TestConfig_fullIsFull keeps the file above complete: a key that it lacks, or
// has with its default, is one that no test would miss.
func TestConfig_fullIsFull(t *testing.T) {
	s, err := loadFrom(t, full, nil)
	require.NoError(t, err)
	plain := defaults()
	http, exec := httpDefaults(), execDefaults()
	report, words := kindDefaults(), kindDefaults()
	report.HTTP, words.Exec = &http, &exec
	resize := kindDefaults()
	resize.Pull, resize.Lease = new(pullSettings), duration(job.DefaultLease)
	plain.Kinds = map[string]kindSettings{"report": report, "wordcount": words, "resize": resize}

	got, _ := maps.Flatten(treeOf(s), nil, "/")
	unset, _ := maps.Flatten(treeOf(plain), nil, "/")
	delete(unset, "key")
	delete(unset, "routes") // testdata/script/routes.txtar has them
	for key := range unset {
		of, plainly := strings.CutPrefix(key, "kinds/wordcount/")
		if !plainly {
			of, plainly = strings.CutPrefix(key, "kinds/resize/")
		}
		if key != "nats" && !plainly || strings.HasPrefix(of, "exec/") || of == "lease" {
			value, isLeaf := got[key]
			require.False(t, isLeaf && reflect.DeepEqual(value, unset[key]), key)
		}
	}
}

func TestConfig_roundTrip(t *testing.T) {
	for name, text := range map[string]string{"full": full, "defaults": "listen: :80", "command as a line": `kinds: {a: {exec: {command: "sh -c 'x y'"}}}`} {
		t.Run(name, func(t *testing.T) {
			s, err := loadFrom(t, text, nil)
			require.NoError(t, err)
			printed, err := encoder.Marshal(s)
			require.NoError(t, err)
			again, err := loadFrom(t, string(printed), nil)
			require.NoError(t, err)
			require.Equal(t, treeOf(s), treeOf(again))
			twice, err := encoder.Marshal(again)
			require.NoError(t, err)
			require.Equal(t, string(printed), string(twice))
		})
	}
}

func TestConfig_precedence(t *testing.T) {
	file := "heartbeat: 1s\ndrain: 1s\nmax_store: 1MiB\nhosts: [f1, f2, f3]\nlimits: {streams: 1, body: 1}\n"
	environ := []string{
		"MILLSTREAM_DRAIN=2s", "MILLSTREAM_MAX_STORE=2MiB", "MILLSTREAM_HOSTS=e1, e2", "MILLSTREAM_LIMITS_STREAMS=2", "MILLSTREAM_DATA=",
		"MILLSTREAM_SERVER=http://x", "MILLSTREAM_PORT=tcp://10.0.0.1:80", "OTHER_LISTEN=x",
	}
	s, err := loadFrom(t, file, environ, "--max-store=3MiB", "--hosts", "f", "--limits-streams=3")
	require.NoError(t, err)
	want := defaults()
	want.file = s.file
	want.Heartbeat = duration(time.Second)        // file
	want.Limits.Body = 1                          // file, beside another's
	want.Drain = duration(2 * time.Second)        // variable over file
	want.MaxStore, want.Limits.Streams = 3<<20, 3 // flag over all
	want.Hosts = []string{"f"}                    // a list replaces a longer one
	require.Equal(t, want, s)
}

func TestConfig_everyScalarHasItsThreeNames(t *testing.T) {
	tree, _ := maps.Flatten(treeOf(defaults()), nil, ".")
	delete(tree, "kinds")
	delete(tree, "routes")
	values := map[string]string{}
	for key := range tree {
		values[key] = map[string]string{
			"listen": ":1", "log.level": "debug", "log.format": "json", "cors.origins": "http://a", "nats": "a:4222", "durability": powerSafe, "webhooks.allow": "10.0.0.0/8",
			"webhooks.secret": "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw", "webhooks.secrets": "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw,whsec_MTExMTExMTExMTExMTExMTExMTExMTEx",
		}[key]
		if values[key] == "" {
			values[key] = "7"
		}
		if key == "heartbeat" || key == "drain" {
			values[key] = "7s"
		}
	}
	for _, sc := range scalars {
		require.Contains(t, tree, sc.key)
		byVariable, err := loadFrom(t, "", []string{sc.variable() + "=" + values[sc.key]})
		require.NoError(t, err, sc.key)
		byFlag, err := loadFrom(t, "", nil, "--"+sc.flag(), values[sc.key])
		require.NoError(t, err, sc.key)
		require.Equal(t, byFlag, byVariable, sc.key)
		require.NotEqual(t, defaults(), byFlag, sc.key)
		delete(tree, sc.key)
	}
	require.Empty(t, tree, "keys without a flag")
}

func TestConfig_kindFlags(t *testing.T) {
	s, err := loadFrom(t, "kinds: {a: {exec: {command: [x]}, timeout: 1s}, keep: {exec: {command: [y]}}}", nil,
		"--kind", `a=http://up/x?y=1,2`, "--kind", `words=sh -c 'wc -w'`)
	require.NoError(t, err)
	require.Len(t, s.Kinds, 3)
	require.Nil(t, s.Kinds["a"].Exec)
	require.Equal(t, "http://up/x?y=1,2", s.Kinds["a"].HTTP.URL)
	require.Equal(t, duration(job.DefaultTimeout), s.Kinds["a"].Timeout, "the file's kind is replaced as a whole")
	require.Equal(t, command{"sh", "-c", "wc -w"}, s.Kinds["words"].Exec.Command)
	require.Equal(t, command{"y"}, s.Kinds["keep"].Exec.Command)
}

func TestConfig_kindFlagOverEmptyKinds(t *testing.T) {
	s, err := loadFrom(t, "kinds:\n", nil, "--kind", "a=true")
	require.NoError(t, err)
	require.Equal(t, command{"true"}, s.Kinds["a"].Exec.Command)
}

func TestConfig_refuses(t *testing.T) {
	for text, want := range map[string]string{
		"lisen: x":             "lisen: there is no such key",
		"Listen: x":            "Listen: there is no such key",
		"limits: {streamz: 1}": "limits.streamz: there is no such key",
		"kinds: {a: {exec: {cmd: [x], command: [x]}}}": "kinds.a.exec.cmd: there is no such key",
		"kinds: {a: {http: {url: http://x, urll: y}}}": "kinds.a.http.urll: there is no such key",
		"kinds: {a: {exec: {command: x}, backof: {}}}": "kinds.a.backof: there is no such key",
		"listen: [":         "yaml",
		"listen: 8080":      "listen: 8080 is not a text: put it in quotes",
		"listen: localhost": "listen: \"localhost\" is not an address",
		"data: ''":          "data: names no directory",
		"heartbeat: 15":     `heartbeat: "15" is not a duration`,
		"heartbeat: soon":   `heartbeat: "soon" is not a duration`,
		"heartbeat: 0s":     "heartbeat: must be more than 0",
		"drain: -1s":        "drain: must be more than 0",
		"max_store: much":   `max_store: "much" is not a size`,
		"durability: none":  `durability: "none" is none of kill-safe, power-safe`,
		"{durability: power-safe, nats: 'nats://a'}":                          "durability: power-safe is for the embedded store",
		"{durability: power-safe, data: memory}":                              "durability: power-safe, and data in memory",
		"max_store: 0":                                                        "max_store: must be more than 0",
		"tape_memory: true":                                                   "tape_memory: true is not what belongs here",
		"limits: {body: -1}":                                                  "limits.body: must be more than 0",
		"limits: {events_per_job: 1.5}":                                       `limits.events_per_job: "1.5" is not a whole number`,
		"limits: {progress_rate: .inf}":                                       "limits.progress_rate",
		"limits: {progress_rate: 0}":                                          "limits.progress_rate: must be more than 0",
		"limits: 5":                                                           "limits: expected a map",
		"hosts: {a: b}":                                                       "hosts",
		"cors: {origins: [app.example]}":                                      `cors.origins: "app.example" is not an origin`,
		"cors: {origins: ['https://a/']}":                                     "is not an origin",
		"log: {level: loud}":                                                  `log.level: "loud" is none of`,
		"log: {level: fatal}":                                                 `log.level: "fatal" is none of`, // a failure would not be told
		"log: {format: xml}":                                                  `log.format: "xml" is none of`,
		"kinds: {a.b: {exec: {command: x}}}":                                  "kinds.a.b: cannot name a kind",
		"kinds: {a: }":                                                        "kinds.a: needs one of exec, http and pull",
		"kinds: {a: {}}":                                                      "kinds.a: needs one of exec, http and pull",
		"kinds: {a: {exec: {command: x}, http: {url: http://x}}}":             "kinds.a: needs one of",
		"kinds: {a: {pull: {}, http: {url: http://x}}}":                       "kinds.a: needs one of",
		"kinds: {a: {pull: {}, lease: 900ms}}":                                "kinds.a.lease: must be at least 1s",
		"kinds: {a: {pull: {url: http://x}}}":                                 "kinds.a.pull.url: there is no such key",
		"kinds: {a: {exec: {command: x}, lease: 30s}}":                        "kinds.a.lease: is for kinds with pull",
		"kinds: {a: {exec: {}}}":                                              "kinds.a.exec.command: names no program",
		"kinds: {a: {exec: {command: [sleep, 5]}}}":                           "kinds.a.exec.command.1: 5 is not a text",
		"kinds: {a: {exec: {command: 'a | b'}}}":                              "kinds.a.exec.command: '|' is for a shell",
		"kinds: {a: {exec: {command: x, env: {PORT: 80}}}}":                   "kinds.a.exec.env.PORT: 80 is not a text",
		"kinds: {a: {exec: {command: x, stdout: all}}}":                       `kinds.a.exec.stdout: "all" is none of lines, result, events`,
		"kinds: {a: {exec: {command: x, memory: -1}}}":                        "kinds.a.exec.memory: must not be less than 0",
		"kinds: {a: {exec: {command: x, grace: 0s}}}":                         "kinds.a.exec.grace: must be more than 0",
		"kinds: {a: {http: {url: reports/run}}}":                              "kinds.a.http.url",
		"kinds: {a: {http: {url: http://x, method: get}}}":                    `kinds.a.http.method: "get" is not a method`,
		"kinds: {a: {http: {url: http://x, headers: {'a b': c}}}}":            `kinds.a.http.headers: "a b" cannot be a header`,
		"kinds: {a: {http: {url: http://x, idempotent: sure}}}":               "kinds.a.http.idempotent: sure is neither true nor false",
		"kinds: {a: {exec: {command: x}, timeout: 0s}}":                       "kinds.a.timeout: must be more than 0",
		"kinds: {a: {exec: {command: x}, max_attempts: 0}}":                   "kinds.a.max_attempts: must be more than 0",
		"kinds: {a: {exec: {command: x}, concurrency: -1}}":                   "kinds.a.concurrency",
		"kinds: {a: {exec: {command: x}, queue: 0}}":                          "kinds.a.queue",
		"kinds: {a: {exec: {command: x}, retention: 1}}":                      "kinds.a.retention",
		"kinds: {a: {exec: {command: x}, priority: urgent}}":                  `kinds.a.priority: "urgent" is none of low, normal, high`,
		"kinds: {a: {exec: {command: x}, start_timeout: -1s}}":                "kinds.a.start_timeout: must not be less than 0",
		"kinds: {a: {exec: {command: x}, deadline: -1s}}":                     "kinds.a.deadline: must not be less than 0",
		"kinds: {a: {exec: {command: x}, max_input: -1}}":                     "kinds.a.max_input: ",
		"kinds: {a: {exec: {command: x}, input: true.json, max_input: 2MiB}}": "kinds.a.max_input: JSON is checked as a whole: with input it is at most limits.body, 1MiB",
		"kinds: {a: {exec: {command: x}, backoff: {first: 2m}}}":              "kinds.a.backoff.max: 1m is less than first, 2m",
		"kinds: {a: {exec: {command: x}, input: {type: nonsense}}}":           "kinds.a.input: ",
		"kinds: {a: {exec: {command: x}, input: missing.json}}":               "kinds.a.input: stat",
		"kinds: {a: {exec: {command: x}, input: /dev/zero}}":                  "kinds.a.input: /dev/zero is no file",
		"kinds: {a: {exec: {command: x}, result: 5}}":                         "kinds.a.result: is neither a JSON Schema",
	} {
		t.Run(text, func(t *testing.T) {
			_, err := loadFrom(t, text, nil)
			require.ErrorContains(t, err, want)
			require.Equal(t, exitUsage, exitCode(err))
		})
	}
}

func TestConfig_schemaReadsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.json")
	require.NoError(t, os.WriteFile(path, []byte(`{"type":"object"}`), 0o600))
	_, err := loadFrom(t, "kinds: {a: {exec: {command: x}, input: {$ref: 'file://"+path+"'}}}", nil)
	require.ErrorContains(t, err, "kinds.a.input: ")
}

func TestConfig_refusesFlags(t *testing.T) {
	for arg, want := range map[string]string{
		"--kind=wc":           "write it as name=command",
		"--kind=a b=wc":       "write it as name=command",
		"--kind=a=":           "kinds.a.exec.command: names no program",
		"--kind=a=x > y":      "'>' is for a shell",
		"--kind=a=http://":    "kinds.a.http.url",
		"--limits-streams=":   `limits.streams: "" is not a whole number`,
		"--config=absent":     "absent: ",
		"--heartbeat=forever": "heartbeat: ",
	} {
		_, err := loadFrom(t, "", nil, arg)
		require.ErrorContains(t, err, want, arg)
	}
	_, err := loadFrom(t, "", nil, "--kind=a=x", "--kind=a=y")
	require.ErrorContains(t, err, "was given before")
}

func TestConfig_tellsAllMistakes(t *testing.T) {
	_, err := loadFrom(t, "heartbeat: x\ndrain: y\n", nil)
	require.ErrorContains(t, err, "heartbeat")
	require.ErrorContains(t, err, "drain")
	_, err = loadFrom(t, "heartbeat: x\ndrain: 0s\nlisten: here\ndat: x\nkinds: {a: {exec: {command: x}, timeout: soon}, b: {exec: {command: x}, queue: 0}, c: {exce: {command: x}}}\n", nil)
	require.EqualError(t, err, `the configuration is wrong:
  heartbeat: "x" is not a duration: write it as 15s, 10m or 1h30m
  kinds.a.timeout: "soon" is not a duration: write it as 15s, 10m or 1h30m
  dat: there is no such key
  kinds.c.exce: there is no such key
  listen: "here" is not an address: write it as 127.0.0.1:8080 or :8080
  drain: must be more than 0
  kinds.b.queue: must be more than 0`, "those of values that could not be read, and of others that cannot be, but no two of one cause")
	_, err = loadFrom(t, "data: ''\nlisten: ''\nkinds: {a: {}}\n", nil)
	for _, key := range []string{"data", "listen", "kinds.a"} {
		require.ErrorContains(t, err, key)
	}
}

func TestLogger(t *testing.T) {
	for format, want := range map[string]string{"json": `"msg":"hello"`, "console": "INFO\thello", "auto": `"msg":"hello"`} {
		var b bytes.Buffer
		s := settings{Log: logSettings{Level: "info", Format: format}}
		log, err := s.logger(&b)
		require.NoError(t, err)
		log.Debug("quiet")
		log.Info("hello")
		require.Contains(t, b.String(), want)
		require.NotContains(t, b.String(), "quiet")
	}
}

// What is printed for people to paste has no secrets in it.
func TestConfig_secretsAreNotShown(t *testing.T) {
	s, err := loadFrom(t, "key: s3cret-key-of-some-length\nnats: 'nats://me:s3cret@a:4222,nats://b:4222,me:s3cret@c:4222'\n", nil)
	require.NoError(t, err)
	text, err := encoder.Marshal(s.redacted())
	require.NoError(t, err)
	require.NotContains(t, string(text), "s3cret")
	require.Contains(t, string(text), "@a:4222,nats://b:4222,nats://REDACTED@c:4222")
	require.Contains(t, s.NATS, "s3cret", "it still works")
}
