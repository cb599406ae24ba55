package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/maps"
)

// decode fills s, which holds the defaults, with what was configured. Every key
// must be known and every value fit: nothing is guessed.
func decode(tree map[string]any, s *settings) error {
	var meta mapstructure.Metadata
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result:     s,
		TagName:    "yaml",
		Metadata:   &meta,
		DecodeHook: mapstructure.DecodeHookFuncType(convert),
		MatchName:  func(key, field string) bool { return key == field },
	})
	if err != nil {
		return err
	}
	var wrong []error
	if err := d.Decode(tree); err != nil {
		wrong = explain(err)
	}
	slices.Sort(meta.Unused)
	for _, key := range meta.Unused {
		wrong = append(wrong, fmt.Errorf("unknown key %s", dotted(key)))
	}
	return errors.Join(wrong...)
}

// converters make a value out of what a file, a variable or a flag says.
var converters = map[reflect.Type]func(any) (any, error){
	reflect.TypeFor[duration]():     fromText(parseDuration),
	reflect.TypeFor[size]():         fromText(parseSize),
	reflect.TypeFor[int]():          fromText(parseInt),
	reflect.TypeFor[float64]():      fromText(parseFloat),
	reflect.TypeFor[command]():      fromText(splitWords),
	reflect.TypeFor[[]string]():     fromText(parseList),
	reflect.TypeFor[kindSettings](): over(kindDefaults),
	reflect.TypeFor[execSettings](): over(execDefaults),
	reflect.TypeFor[httpSettings](): over(httpDefaults),
}

func convert(_, to reflect.Type, v any) (any, error) {
	if c := converters[to]; c != nil {
		return c(v)
	}
	return v, nil
}

// fromText reads a text, or a number as the text it was; other values are left
// as they are.
func fromText[T any](parse func(string) (T, error)) func(any) (any, error) {
	return func(v any) (any, error) {
		switch v.(type) {
		case string, int, int64, uint64, float64:
			return parse(fmt.Sprint(v))
		}
		return v, nil
	}
}

// over puts what was configured over the defaults of its kind.
func over[T any](defaults func() T) func(any) (any, error) {
	return func(v any) (any, error) {
		set, ok := v.(map[string]any)
		if !ok {
			return v, nil
		}
		merged := treeOf(defaults())
		maps.Merge(set, merged)
		return merged, nil
	}
}

func parseInt(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return n, nil
}

func parseFloat(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return f, nil
}

func parseList(s string) ([]string, error) {
	var list []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list, nil
}

// explain returns the errors in err, a line each: the key and what is wrong.
func explain(err error) []error {
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		var all []error
		for _, err := range many.Unwrap() {
			all = append(all, explain(err)...)
		}
		slices.SortFunc(all, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
		return all
	}
	var at *mapstructure.DecodeError
	if errors.As(err, &at) {
		return []error{fmt.Errorf("%s: %w", dotted(at.Name()), inWords(at.Unwrap()))}
	}
	return []error{err}
}

// inWords says of a value of the wrong sort which one it should be.
func inWords(err error) error {
	var wrong *mapstructure.UnconvertibleTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	switch wrong.Expected.Kind() {
	case reflect.String:
		return fmt.Errorf("%v is not a text: put it in quotes", wrong.Value)
	case reflect.Bool:
		return fmt.Errorf("%v is neither true nor false", wrong.Value)
	default:
		return fmt.Errorf("%v is not what belongs here", wrong.Value)
	}
}

// dotted returns the name of a key as people write it.
func dotted(name string) string {
	return strings.NewReplacer("[", ".", "]", "").Replace(name)
}
