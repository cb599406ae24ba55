package main

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		for ago, want := range map[time.Duration]string{
			-time.Second: "0s", 0: "0s", time.Minute - 1: "59s", time.Minute: "1m00s", time.Hour - 1: "59m59s", time.Hour: "1h00m",
			day - 1: "23h59m", day: "1d00h", 40*day + 5*time.Hour: "40d05h",
		} {
			if got := age(time.Now().Add(-ago)); got != want {
				t.Errorf("%s ago is %s, not %s", ago, got, want)
			}
		}
	})
}

// How long ago is from now on, when the flag is read; a time is what it says.
func TestMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at time.Time
		for text, want := range map[string]time.Time{
			"90m": time.Now().Add(-90 * time.Minute), "0s": time.Now(), "2026-11-22T11:00:00.5+01:00": time.Date(2026, 11, 22, 10, 0, 0, 5e8, time.UTC),
		} {
			if err := (moment{&at}).Set(text); err != nil || !at.Equal(want) {
				t.Errorf("%s is %s, %v", text, at, err)
			}
		}
		for _, text := range []string{"", "yesterday", "-1h", "1d", "2026-11-22"} {
			if err := (moment{&at}).Set(text); err == nil {
				t.Errorf("%q is %s", text, at)
			}
		}
	})
}
