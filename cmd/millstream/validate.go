package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
	"golang.org/x/net/http/httpguts"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/millstream"
)

// fault is what is wrong with a key.
type fault struct {
	key string // empty: with all of the configuration
	err error
}

// faults collects what is wrong.
type faults []fault

func (f *faults) add(key, format string, args ...any) {
	*f = append(*f, fault{key, fmt.Errorf(format, args...)})
}

// addNew adds those of others that are about keys of which nothing is known yet: what
// could not be read is not what was meant.
func (f *faults) addNew(others faults) {
	known := *f
	for _, o := range others {
		if !slices.ContainsFunc(known, o.overlaps) {
			*f = append(*f, o)
		}
	}
}

// overlaps reports whether one of the keys is that of the other, or of something in it.
func (a fault) overlaps(b fault) bool {
	return within(a.key, b.key) || within(b.key, a.key)
}

func within(key, outer string) bool {
	return outer == "" || key == outer || strings.HasPrefix(key, outer+".")
}

// join returns them as one error, a line each; nil if there are none.
func (f faults) join() error {
	var errs []error
	for _, x := range f {
		if x.key != "" {
			x.err = fmt.Errorf("%s: %w", x.key, x.err)
		}
		errs = append(errs, x.err)
	}
	return errors.Join(errs...)
}

// positive is for what would silently become its default, or stop everything.
func positive[T cmp.Ordered](f *faults, key string, v T) {
	var zero T
	if v <= zero {
		f.add(key, "must be more than 0")
	}
}

func notNegative[T duration | size](f *faults, key string, d T) {
	if d < 0 {
		f.add(key, "must not be less than 0; 0 is none")
	}
}

func oneOf(f *faults, key, v string, allowed ...string) {
	if !slices.Contains(allowed, v) {
		f.add(key, "%q is none of %s", v, strings.Join(allowed, ", "))
	}
}

// validate returns everything that is wrong with s.
func (s *settings) validate() (f faults) {
	checkListen(&f, s.Listen)
	checkHosts(&f, s.Hosts)
	checkNATS(&f, s.NATS)
	checkKey(&f, s.Key, s.KeyFile)
	if s.Data == "" {
		f.add("data", "names no directory; 'memory' keeps nothing")
	}
	oneOf(&f, "durability", s.Durability, killSafe, powerSafe)
	if s.Durability == powerSafe && s.NATS != "" {
		f.add("durability", "power-safe is for the embedded store: set sync_interval: always on the servers of nats")
	}
	if s.Durability == powerSafe && s.Data == millstream.Memory {
		f.add("durability", "power-safe, and data in memory")
	}
	positive(&f, "max_store", s.MaxStore)
	positive(&f, "tape_memory", s.TapeMemory)
	positive(&f, "heartbeat", s.Heartbeat)
	positive(&f, "drain", s.Drain)
	for _, o := range s.CORS.Origins {
		checkOrigin(&f, o)
	}
	s.Webhooks.check(&f)
	s.Limits.check(&f)
	if level, err := zapcore.ParseLevel(s.Log.Level); err != nil || level > zapcore.ErrorLevel {
		f.add("log.level", "%q is none of debug, info, warn, error", s.Log.Level)
	}
	oneOf(&f, "log.format", s.Log.Format, "auto", "console", "json")
	for _, name := range slices.Sorted(maps.Keys(s.Kinds)) {
		k := s.Kinds[name]
		k.check(&f, name)
		if k.Input != nil && k.MaxInput > s.Limits.Body {
			f.add("kinds."+name+".max_input", "JSON is checked as a whole: with input it is at most limits.body, %s", s.Limits.Body)
		}
		s.checkSchema(&f, "kinds."+name+".input", k.Input)
		s.checkSchema(&f, "kinds."+name+".result", k.Result)
	}
	s.checkRoutes(&f)
	return f
}

func (s *settings) checkSchema(f *faults, key string, v any) {
	if _, err := s.schema(v); err != nil {
		f.add(key, "%w", err)
	}
}

func (l *limitSettings) check(f *faults) {
	positive(f, "limits.body", l.Body)
	positive(f, "limits.events_per_job", l.EventsPerJob)
	positive(f, "limits.bytes_per_job", l.BytesPerJob)
	positive(f, "limits.progress_rate", l.ProgressRate)
	positive(f, "limits.streams", l.Streams)
}

func (k *kindSettings) check(f *faults, name string) {
	key := "kinds." + name
	if !job.ValidKind(name) {
		f.add(key, "cannot name a kind: %s", kindNames)
	}
	if count(k.Exec != nil, k.HTTP != nil, k.Pull != nil) != 1 {
		f.add(key, "needs one of exec, http and pull")
		return // a kind that says nothing has no defaults either
	}
	switch {
	case k.Pull == nil && k.Lease != 0:
		f.add(key+".lease", "is for kinds with pull")
	case k.Pull != nil && k.Lease < minLease:
		f.add(key+".lease", "must be at least %s", time.Duration(minLease))
	}
	positive(f, key+".timeout", k.Timeout)
	positive(f, key+".max_attempts", k.MaxAttempts)
	positive(f, key+".concurrency", k.Concurrency)
	positive(f, key+".queue", k.Queue)
	positive(f, key+".retention", k.Retention)
	positive(f, key+".backoff.first", k.Backoff.First)
	oneOf(f, key+".priority", k.Priority, "low", "normal", "high")
	notNegative(f, key+".start_timeout", k.StartTimeout)
	notNegative(f, key+".deadline", k.Deadline)
	notNegative(f, key+".max_input", k.MaxInput)
	if k.Backoff.Max < k.Backoff.First {
		f.add(key+".backoff.max", "%s is less than first, %s", k.Backoff.Max, k.Backoff.First)
	}
	if k.Exec != nil {
		k.Exec.check(f, key+".exec")
	}
	if k.HTTP != nil {
		k.HTTP.check(f, key+".http")
	}
}

// minLease is the shortest lease: a worker sends three heartbeats in it, and the net is
// late by a good part of a second at times.
const minLease = duration(time.Second)

func count(conditions ...bool) (n int) {
	for _, holds := range conditions {
		if holds {
			n++
		}
	}
	return n
}

func (e *execSettings) check(f *faults, key string) {
	if len(e.Command) == 0 || e.Command[0] == "" {
		f.add(key+".command", "names no program")
	}
	oneOf(f, key+".stdout", e.Stdout, "lines", "result", "events")
	positive(f, key+".grace", e.Grace)
	switch {
	case e.Memory < 0:
		f.add(key+".memory", "must not be less than 0; 0 is no limit")
	case e.Memory > 0 && runtime.GOOS != "linux":
		f.add(key+".memory", "can be limited on Linux only")
	}
}

func (h *httpSettings) check(f *faults, key string) {
	u, err := url.Parse(h.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		f.add(key+".url", "%q is not an http:// or https:// URL", h.URL)
	}
	if !httpguts.ValidHeaderFieldName(h.Method) || h.Method != strings.ToUpper(h.Method) {
		f.add(key+".method", "%q is not a method, such as %s", h.Method, http.MethodPost)
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(h.Headers[name]) {
			f.add(key+".headers", "%q cannot be a header", name)
		}
	}
}
