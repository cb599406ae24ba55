package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// series is one figure as it came out of each round.
type series []float64

func (s *series) add(v float64) { *s = append(*s, v) }

// median returns the middle of the rounds.
func (s series) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	if len(sorted) == 0 {
		return math.NaN()
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// as returns the median, and the smallest and the largest behind it.
func (s series) as(unit func(float64) string) string {
	if len(s) < 2 {
		return unit(s.median())
	}
	return fmt.Sprintf("%s (%s–%s)", unit(s.median()), unit(slices.Min(s)), unit(slices.Max(s)))
}

// over returns the ratio of each round to the same round of another series.
func (s series) over(other series) (ratios series) {
	for i := range s {
		ratios.add(s[i] / other[i])
	}
	return ratios
}

// against returns the ratio of each figure to one of another time.
func (s series) against(other float64) (ratios series) {
	for _, v := range s {
		ratios.add(v / other)
	}
	return ratios
}

// count formats a number with three digits that matter, and commas.
func count(v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Sprint(v)
	}
	step := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-2)
	if step < 1 {
		return strconv.FormatFloat(v, 'f', int(-math.Log10(step)), 64)
	}
	return commas(strconv.FormatFloat(math.Round(v/step)*step, 'f', 0, 64))
}

func commas(digits string) string {
	var groups []string
	for len(digits) > 3 {
		groups = append(groups, digits[len(digits)-3:])
		digits = digits[:len(digits)-3]
	}
	groups = append(groups, digits)
	slices.Reverse(groups)
	return strings.Join(groups, ",")
}

// seconds formats a duration that is given in seconds.
func seconds(v float64) string {
	switch {
	case v < 1e-3:
		return count(v*1e6) + " µs"
	case v < 1:
		return count(v*1e3) + " ms"
	}
	return count(v) + " s"
}

// bytesOf formats a size.
func bytesOf(v float64) string {
	if v < 10<<20 {
		return count(v/(1<<10)) + " KiB"
	}
	return count(v/(1<<20)) + " MiB"
}

// times formats a ratio.
func times(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) + "×" }

// percentile returns the p-th percentile of sorted durations, in seconds.
func percentile(sorted []time.Duration, p int) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[len(sorted)*p/100].Seconds()
}
