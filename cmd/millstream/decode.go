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

	"github.com/millstream/millstream/pkg/job"
)

// decode fills s, which holds the defaults, with what was configured. Every key
// must be known and every value fit: nothing is guessed.
func decode(tree map[string]any, s *settings) (f faults) {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result:     s,
		TagName:    "yaml",
		DecodeHook: mapstructure.DecodeHookFuncType(convert),
		MatchName:  func(key, field string) bool { return key == field },
	})
	if err == nil {
		err = d.Decode(tree)
	}
	if err != nil {
		f = explain(err)
	}
	keys := unknown(tree, reflect.TypeOf(*s), "")
	slices.Sort(keys)
	for _, key := range keys {
		f.add(key, "there is no such key")
	}
	return f
}

// unknown returns the keys in tree, below at, that a value of type t does not have. (The
// decoder knows them too, but tells them only if it could read all the rest.)
func unknown(tree map[string]any, t reflect.Type, at string) (keys []string) {
	for key, v := range tree {
		of, ok := member(t, key)
		if !ok {
			keys = append(keys, at+key)
		} else {
			keys = append(keys, unknownIn(v, of, at+key+".")...)
		}
	}
	return keys
}

// unknownIn does so for what is below a key, or in each place of a list.
func unknownIn(v any, t reflect.Type, at string) (keys []string) {
	switch v := v.(type) {
	case map[string]any:
		return unknown(v, t, at)
	case []any:
		for i, element := range v {
			if t.Kind() == reflect.Slice {
				keys = append(keys, unknownIn(element, t.Elem(), at+strconv.Itoa(i)+".")...)
			}
		}
	}
	return keys
}

// member returns the type of what a value of type t has under a key. What takes any
// keys, as a JSON Schema does, has this one; and so does what takes none at all, of
// which the decoder says so.
func member(t reflect.Type, key string) (of reflect.Type, ok bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Map:
		return t.Elem(), true
	case reflect.Struct:
		for f := range t.Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name == key && f.IsExported() {
				return f.Type, true
			}
		}
		return nil, false
	}
	return t, true
}

// converters make a value out of what a file, a variable or a flag says.
var converters = map[reflect.Type]func(any) (any, error){
	reflect.TypeFor[duration]():      fromText(parseDuration),
	reflect.TypeFor[size]():          fromText(parseSize),
	reflect.TypeFor[int]():           fromText(parseInt),
	reflect.TypeFor[float64]():       fromText(parseFloat),
	reflect.TypeFor[command]():       fromText(splitWords),
	reflect.TypeFor[[]string]():      fromText(parseList),
	reflect.TypeFor[kindSettings]():  overKind,
	reflect.TypeFor[execSettings]():  over(execDefaults),
	reflect.TypeFor[httpSettings]():  over(httpDefaults),
	reflect.TypeFor[routeSettings](): over(routeDefaults),
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

// overKind does so for a kind, which has a lease only if it is pulled.
func overKind(v any) (any, error) {
	set, ok := v.(map[string]any)
	if _, pulled := set["pull"]; !ok || !pulled {
		return over(kindDefaults)(v)
	}
	return over(func() kindSettings {
		d := kindDefaults()
		d.Lease = duration(job.DefaultLease)
		return d
	})(v)
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

// explain returns the errors in err: the key and what is wrong.
func explain(err error) (f faults) {
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		for _, err := range many.Unwrap() {
			f = append(f, explain(err)...)
		}
		slices.SortStableFunc(f, func(a, b fault) int { return cmp.Compare(a.key, b.key) })
		return f
	}
	var at *mapstructure.DecodeError
	if errors.As(err, &at) {
		return faults{{dotted(at.Name()), inWords(at.Unwrap())}}
	}
	return faults{{"", err}}
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
