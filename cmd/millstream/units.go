package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// duration is a time.Duration as people write it: 15s, 10m, 1h30m.
type duration time.Duration

func (d duration) String() string {
	s := time.Duration(d).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}

// MarshalText writes the form that parseDuration reads.
func (d duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func parseDuration(s string) (duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: write it as 15s, 10m or 1h30m", s)
	}
	return duration(d), nil
}

// size is a number of bytes as people write it: 65536, 64KiB, 1GB.
type size int64

// units are tried from the front: a size is written in the largest that divides
// it, and only in powers of 1024.
var units = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
}

func (s size) String() string {
	for _, u := range units[:4] {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText writes the form that parseSize reads.
func (s size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func parseSize(s string) (size, error) {
	number, unit := strings.TrimSpace(s), int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/unit || n < math.MinInt64/unit {
		return 0, fmt.Errorf("%q is not a size: write it as 65536, 64KiB or 10GiB", s)
	}
	return size(n * unit), nil
}
