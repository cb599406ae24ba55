package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]size{
		"0": 0, "65536": 65536, "64KiB": 65536, "64 KiB": 65536, " 1MiB ": 1 << 20, "10GiB": 10 << 30, "2TiB": 2 << 40,
		"1kB": 1000, "1KB": 1000, "3MB": 3e6, "4GB": 4e9, "5TB": 5e12, "7B": 7, "-1": -1,
	} {
		got, err := parseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "MiB", "1.5GiB", "64mb", "1e6", "9999999999GiB", "10 000", "0x10"} {
		_, err := parseSize(text)
		require.ErrorContains(t, err, "is not a size", text)
	}
}

func TestSize_roundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := size(rapid.Int64().Draw(t, "bytes") << rapid.IntRange(0, 41).Draw(t, "shift"))
		got, err := parseSize(s.String())
		require.NoError(t, err)
		require.Equal(t, s, got)
	})
}

func TestSize_isShort(t *testing.T) {
	for s, want := range map[size]string{0: "0", 1: "1", 1000: "1000", 1 << 10: "1KiB", 10 << 30: "10GiB", 1<<20 + 1<<10: "1025KiB"} {
		require.Equal(t, want, s.String())
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 15 * time.Second: "15s", time.Minute: "1m", 10 * time.Minute: "10m", time.Hour: "1h", 24 * time.Hour: "24h",
		90 * time.Minute: "1h30m", time.Hour + time.Second: "1h0m1s", 1500 * time.Millisecond: "1.5s", time.Minute + time.Second: "1m1s",
	} {
		require.Equal(t, want, duration(d).String())
	}
	for _, text := range []string{"", "15", "1d", "soon", "1 m"} {
		_, err := parseDuration(text)
		require.ErrorContains(t, err, "is not a duration", text)
	}
}

func TestDuration_roundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := duration(rapid.Int64().Draw(t, "ns"))
		got, err := parseDuration(d.String())
		require.NoError(t, err)
		require.Equal(t, d, got)
	})
}
