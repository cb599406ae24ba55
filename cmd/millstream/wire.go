package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/millstream"
	"github.com/millstream/millstream/pkg/worker"
)

// execDefaults and httpDefaults return what a worker does where nobody has said
// otherwise.
func execDefaults() execSettings {
	return execSettings{Stdout: string(worker.StdoutLines), Grace: duration(10 * time.Second)}
}

func httpDefaults() httpSettings { return httpSettings{Method: "POST"} }

// config returns the settings as the library takes them.
func (s *settings) config(log *zap.Logger) (millstream.Config, error) {
	key, err := s.key()
	if err != nil {
		return millstream.Config{}, err
	}
	hooks, err := s.webhooks()
	if err != nil {
		return millstream.Config{}, err
	}
	return millstream.Config{
		Webhooks:   hooks,
		AdminKey:   key,
		Listen:     s.Listen,
		Data:       s.Data,
		NATS:       s.NATS,
		Hosts:      s.Hosts,
		Origins:    s.CORS.Origins,
		Heartbeat:  time.Duration(s.Heartbeat),
		Drain:      time.Duration(s.Drain),
		MaxStore:   int64(s.MaxStore),
		PowerSafe:  s.Durability == powerSafe,
		TapeMemory: int64(s.TapeMemory),
		Limits: millstream.Limits{
			Body:         int64(s.Limits.Body),
			EventsPerJob: s.Limits.EventsPerJob,
			BytesPerJob:  int64(s.Limits.BytesPerJob),
			ProgressRate: s.Limits.ProgressRate,
			Streams:      s.Limits.Streams,
		},
		Log: log,
	}, nil
}

// key returns the key that callers have to know; "" if none is set.
func (s *settings) key() (string, error) {
	if s.KeyFile == "" {
		return s.Key, nil
	}
	text, err := readFile(s.path(s.KeyFile))
	if err != nil {
		return "", fmt.Errorf("key_file: %w", err)
	}
	key := strings.TrimSpace(string(text))
	if key == "" {
		return "", fmt.Errorf("key_file: %s is empty", s.KeyFile)
	}
	if !isKey(key) {
		return "", fmt.Errorf("key_file: what is in %s cannot be sent in a header", s.KeyFile)
	}
	return key, nil
}

// kinds returns the configured kinds by name.
func (s *settings) kinds() ([]millstream.Kind, error) {
	var all []millstream.Kind
	for _, name := range slices.Sorted(maps.Keys(s.Kinds)) {
		k := s.Kinds[name]
		made := k.worker(name)
		if err := s.rules(&made.Kind, &k); err != nil {
			return nil, fmt.Errorf("kinds.%s: %w", name, err)
		}
		all = append(all, made)
	}
	routes, err := s.routes()
	return append(all, routes...), err
}

func (k *kindSettings) worker(name string) millstream.Kind {
	switch {
	case k.HTTP != nil:
		return millstream.HTTP(name, k.HTTP.worker())
	case k.Pull != nil:
		return millstream.Pull(name, time.Duration(k.Lease))
	}
	return millstream.Exec(name, k.Exec.worker())
}

func (h *httpSettings) worker() worker.HTTP {
	return worker.HTTP{URL: h.URL, Method: h.Method, Headers: h.Headers, Idempotent: h.Idempotent}
}

func (e *execSettings) worker() worker.Exec {
	return worker.Exec{
		Command: e.Command, Stdout: worker.Stdout(e.Stdout), ResultType: e.ResultType,
		Env: e.Env, Dir: e.Dir, Grace: time.Duration(e.Grace), Memory: int64(e.Memory),
	}
}

// rules sets on k what holds for kinds of any worker.
func (s *settings) rules(k *job.Kind, from *kindSettings) (err error) {
	k.Description = from.Description
	k.Timeout = time.Duration(from.Timeout)
	k.MaxAttempts = from.MaxAttempts
	k.Concurrency = from.Concurrency
	k.QueueLimit = from.Queue
	k.Retention = time.Duration(from.Retention)
	k.Priority = priorities[from.Priority]
	k.StartTimeout = time.Duration(from.StartTimeout)
	k.Deadline = time.Duration(from.Deadline)
	k.Backoff = job.Backoff{First: time.Duration(from.Backoff.First), Max: time.Duration(from.Backoff.Max)}
	k.MaxInput = int64(from.MaxInput)
	if k.Input, err = s.schema(from.Input); err != nil {
		return fmt.Errorf("input: %w", err)
	}
	if k.Result, err = s.schema(from.Result); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	return nil
}
