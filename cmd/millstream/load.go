package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/knadh/koanf/maps"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
	encoder "go.yaml.in/yaml/v3"

	"github.com/millstream/millstream/pkg/job"
)

const (
	configFlag     = "config"
	configVariable = "MILLSTREAM_CONFIG"
	configFile     = "millstream.yaml" // read if it is in the working directory
	kindFlag       = "kind"
	routeFlag      = "route"
)

func (s scalar) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.key) }

func (s scalar) variable() string {
	return "MILLSTREAM_" + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// settingsFlags defines the flags that stand for keys of the configuration. Each
// is a text here: load reads it as it reads the key from any other place.
func settingsFlags(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringArray(kindFlag, nil, "adds the kind `name=command`, or name=URL; may be repeated")
	flags.StringArray(routeFlag, nil, "serves the API at a `path=URL`, such as '/legacy/*=http://legacy:8080'; may be repeated")
	flags.Var(newText(configFile, "file"), configFlag, "configuration file, which may be absent under this name")
	texts, _ := maps.Flatten(treeOf(defaults()), nil, ".")
	for _, s := range scalars {
		flags.Var(newText(texts[s.key], s.arg), s.flag(), s.usage)
	}
}

// text is the value of a flag that load will read; typ is what --help calls it.
type text struct{ value, typ string }

func newText(value any, typ string) *text {
	t := &text{typ: typ}
	if list, ok := value.([]any); value != nil && (!ok || len(list) > 0) {
		t.value = fmt.Sprint(value)
	}
	return t
}

func (t *text) Set(s string) error { t.value = s; return nil }
func (t *text) String() string     { return t.value }
func (t *text) Type() string       { return t.typ }

// load reads the configuration: a flag goes before a variable, that before the
// file, and that before the default. Its error names each key that is wrong.
func load(flags *pflag.FlagSet, environ []string) (settings, error) {
	s := defaults()
	tree, err := read(flags, environ, &s)
	if err == nil {
		f := decode(tree, &s)
		f.addNew(s.validate())
		err = f.join()
	}
	if err != nil {
		lines := strings.ReplaceAll(err.Error(), "\n", "\n  ")
		return s, &exitError{exitUsage, fmt.Errorf("the configuration is wrong:\n  %s", lines)}
	}
	return s, nil
}

// read puts what the sources say over each other, and the file's name into s.
func read(flags *pflag.FlagSet, environ []string, s *settings) (map[string]any, error) {
	k := koanf.New(".")
	s.file = configPath(flags, environ)
	if s.file != "" {
		if err := k.Load(file.Provider(s.file), yaml.Parser()); err != nil {
			return nil, fmt.Errorf("%s: %w", s.file, err)
		}
	}
	if err := k.Load(variables(environ), nil); err != nil {
		return nil, err
	}
	if err := k.Load(changed(flags, k), nil); err != nil {
		return nil, err
	}
	if err := loadKinds(k, flags); err != nil {
		return nil, err
	}
	if err := loadRoutes(k, flags); err != nil {
		return nil, err
	}
	return k.Raw(), nil
}

// configPath returns the file to read, empty for none.
func configPath(flags *pflag.FlagSet, environ []string) string {
	if f := flags.Lookup(configFlag); f.Changed {
		return f.Value.String()
	}
	for _, v := range environ {
		if path, ok := strings.CutPrefix(v, configVariable+"="); ok && path != "" {
			return path
		}
	}
	if _, err := os.Stat(configFile); err == nil {
		return configFile
	}
	return ""
}

// variables reads the keys' variables. Others with our prefix are let be: an
// orchestrator makes some of its own after a service's name.
func variables(environ []string) *env.Env {
	keys := map[string]string{}
	for _, s := range scalars {
		keys[s.variable()] = s.key
	}
	return env.Provider(".", env.Opt{
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			if value == "" { // as an unset one is passed on by compose files
				return "", nil
			}
			return keys[name], value
		},
	})
}

// changed reads the flags that were given.
func changed(flags *pflag.FlagSet, k *koanf.Koanf) *posflag.Posflag {
	keys := map[string]string{}
	for _, s := range scalars {
		keys[s.flag()] = s.key
	}
	return posflag.ProviderWithFlag(flags, ".", k, func(f *pflag.Flag) (string, any) {
		if !f.Changed {
			return "", nil
		}
		return keys[f.Name], f.Value.String()
	})
}

// loadKinds adds the kinds of the command line to those of the file; one of the
// same name takes the other's place as a whole.
func loadKinds(k *koanf.Koanf, flags *pflag.FlagSet) error {
	if flags.Lookup(kindFlag) == nil {
		return nil // a command that runs none
	}
	given, err := flags.GetStringArray(kindFlag)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, text := range given {
		name, kind, err := parseKind(text)
		if err != nil {
			return fmt.Errorf("--kind %s: %w", text, err)
		}
		if seen[name] {
			return fmt.Errorf("--kind %s: the kind %s was given before", text, name)
		}
		seen[name] = true
		k.Delete("kinds." + name)
		if err := k.Set("kinds."+name, kind); err != nil {
			return err
		}
	}
	return nil
}

// parseKind reads name=command or name=URL as what the file would say.
func parseKind(text string) (name string, kind map[string]any, err error) {
	name, work, ok := strings.Cut(text, "=")
	if !ok || !job.ValidKind(name) {
		return "", nil, fmt.Errorf("write it as name=command or name=http://…; %s", kindNames)
	}
	if strings.HasPrefix(work, "http://") || strings.HasPrefix(work, "https://") {
		return name, map[string]any{"http": map[string]any{"url": work}}, nil
	}
	return name, map[string]any{"exec": map[string]any{"command": work}}, nil
}

const kindNames = "a name has 1 to 64 letters, digits, '-' and '_'"

// treeOf returns settings as a parser of their file would.
func treeOf(v any) map[string]any {
	text, err := encoder.Marshal(v)
	if err != nil {
		panic(err) // texts, numbers, and what a parser made before
	}
	tree, err := yaml.Parser().Unmarshal(text)
	if err != nil {
		panic(err)
	}
	return tree
}
