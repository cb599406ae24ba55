package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/millstream/millstream/pkg/forward"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/millstream"
)

// routeSettings are an existing API, or a part of it, that is served under its own paths.
type routeSettings struct {
	Path          string   `yaml:"path"`
	Upstream      string   `yaml:"upstream"`
	Name          string   `yaml:"name"` // of the kind; empty: made of the path
	Description   string   `yaml:"description"`
	Methods       []string `yaml:"methods"`
	Headers       []string `yaml:"headers"`       // empty: all that are end to end
	Authorization bool     `yaml:"authorization"` // Authorization and Cookie go upstream
	Idempotent    bool     `yaml:"idempotent"`
	Timeout       duration `yaml:"timeout"`
	MaxAttempts   int      `yaml:"max_attempts"`
	Concurrency   int      `yaml:"concurrency"`
	Queue         int      `yaml:"queue"`
	Retention     duration `yaml:"retention"`
	MaxInput      size     `yaml:"max_input"` // 0: limits.body
}

// routeDefaults returns what holds for the keys of a route that nobody has set.
func routeDefaults() routeSettings {
	k := kindDefaults()
	return routeSettings{
		Methods: forward.DefaultMethods,
		Timeout: k.Timeout, MaxAttempts: k.MaxAttempts, Concurrency: k.Concurrency, Queue: k.Queue, Retention: k.Retention,
	}
}

// kind returns the name of the kind of the route's jobs.
func (r *routeSettings) kind() string {
	if r.Name != "" {
		return r.Name
	}
	name := strings.Map(func(c rune) rune {
		if c == '/' || c == '.' || c == '~' {
			return '-'
		}
		return c
	}, strings.Trim(strings.TrimSuffix(r.Path, "*"), "/"))
	return name
}

// checkRoutes adds what is wrong with the routes.
func (s *settings) checkRoutes(f *faults) {
	paths := map[string]bool{}
	names := map[string]string{}
	for i := range s.Routes {
		r, key := &s.Routes[i], "routes."+strconv.Itoa(i)
		r.check(f, key)
		if paths[r.Path] {
			f.add(key+".path", "there is another route of %s", r.Path)
		}
		paths[r.Path] = true
		if _, taken := s.Kinds[r.kind()]; taken {
			f.add(key+".name", "there is a kind %s too", r.kind())
		}
		if other := names[r.kind()]; other != "" && other != r.Path {
			f.add(key+".name", "%s is that of %s too", r.kind(), other)
		}
		names[r.kind()] = r.Path
	}
}

func (r *routeSettings) check(f *faults, key string) {
	if err := millstream.CheckRoute(r.Path); err != nil {
		f.add(key+".path", "%w", err)
		return // of which the rest may follow
	}
	if !job.ValidKind(r.kind()) {
		f.add(key+".name", "%q cannot name a kind: %s", r.kind(), kindNames)
	}
	if _, err := forward.ParseUpstream(r.Upstream); err != nil {
		f.add(key+".upstream", "%w", err)
	}
	if len(r.Methods) == 0 {
		f.add(key+".methods", "names none: nothing would pass")
	}
	for _, m := range r.Methods {
		if err := forward.CheckMethod(m); err != nil {
			f.add(key+".methods", "%w", err)
		}
	}
	t := forward.Target{Credential: r.Authorization}
	for _, h := range r.Headers {
		if err := t.CheckHeader(h); err != nil {
			f.add(key+".headers", "%w", err)
		}
	}
	positive(f, key+".timeout", r.Timeout)
	positive(f, key+".max_attempts", r.MaxAttempts)
	positive(f, key+".concurrency", r.Concurrency)
	positive(f, key+".queue", r.Queue)
	positive(f, key+".retention", r.Retention)
	notNegative(f, key+".max_input", r.MaxInput)
}

// routes returns the configured routes as kinds.
func (s *settings) routes() (all []millstream.Kind, err error) {
	for i := range s.Routes {
		r := &s.Routes[i]
		target := millstream.Target{Path: r.Path, Methods: r.Methods, Headers: r.Headers, Credential: r.Authorization, Idempotent: r.Idempotent}
		if target.Upstream, err = forward.ParseUpstream(r.Upstream); err != nil {
			return nil, fmt.Errorf("routes.%d: %w", i, err)
		}
		k := millstream.Route(r.kind(), target)
		if r.Description != "" {
			k.Description = r.Description
		}
		k.Timeout, k.Retention = time.Duration(r.Timeout), time.Duration(r.Retention)
		k.MaxAttempts, k.Concurrency, k.QueueLimit, k.MaxInput = r.MaxAttempts, r.Concurrency, r.Queue, int64(r.MaxInput)
		all = append(all, k)
	}
	return all, nil
}

// loadRoutes adds the routes of the command line to those of the file; one of the same path
// takes the other's place as a whole.
func loadRoutes(k *koanf.Koanf, flags *pflag.FlagSet) error {
	if flags.Lookup(routeFlag) == nil {
		return nil // a command that serves none
	}
	given, err := flags.GetStringArray(routeFlag)
	if err != nil || len(given) == 0 {
		return err
	}
	list, ok := k.Get("routes").([]any)
	if !ok && k.Get("routes") != nil {
		return nil // which is told where it is read
	}
	seen := map[string]bool{}
	for _, text := range given {
		path, upstream, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("--route %s: write it as /path/*=http://host", text)
		}
		if seen[path] {
			return fmt.Errorf("--route %s: the path %s was given before", text, path)
		}
		seen[path] = true
		list = slices.DeleteFunc(slices.Clone(list), func(other any) bool {
			set, _ := other.(map[string]any)
			return set["path"] == path
		})
		list = append(list, map[string]any{"path": path, "upstream": upstream})
	}
	return k.Set("routes", list)
}
