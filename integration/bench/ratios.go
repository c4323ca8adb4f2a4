//go:build linux

package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// figures finds medians of results.
type figures []*result

// of returns the median of a row, NaN when it was not measured.
func (f figures) of(server, shape string, m metric) float64 {
	for _, r := range f {
		if r.short == server && r.shape.short == shape && r.has(m) {
			return r.median(m)
		}
	}
	return math.NaN()
}

// alike returns the median of a server for a shape or, when it was not measured with that, for one
// topic: what it does there is no less than what it would have to do.
func (f figures) alike(server, shape string, m metric) float64 {
	if v := f.of(server, shape, m); !math.IsNaN(v) {
		return v
	}
	if shape == spread {
		return math.NaN()
	}
	return f.of(server, one, m)
}

// best returns the greatest median of libraries.
func (f figures) best(shape string, m metric) float64 {
	greatest := math.NaN()
	for _, r := range f {
		if r.library {
			// Whatever is compared with NaN is false.
			if v := f.alike(r.short, shape, m); !(v <= greatest) && !math.IsNaN(v) {
				greatest = v
			}
		}
	}
	return greatest
}

// comparisons are the columns of the ratios: what a row is compared with, in what.
var comparisons = []struct {
	head string
	of   func(f figures, r *result) (value, by float64)
}{
	{"paced CPU: one topic", toOne(pacedCPU)},
	{"paced CPU: raw loop", to(raw, pacedCPU)},
	{"saturated deliveries: best library", toBest(saturatedRate)},
	{"saturated CPU: one topic", toOne(saturatedCPU)},
	{"saturated CPU: raw loop", to(raw, saturatedCPU)},
	{"saturated CPU: c.Stream", to(stream, saturatedCPU)},
	{"wide deliveries: best library", toBest(wideRate)},
	{"wide CPU: raw loop", to(raw, wideCPU)},
	{"connecting CPU: one topic", toOne(connectCPU)},
	{"connecting CPU: c.Stream", to(stream, connectCPU)},
	{"resident: one topic", toOne(residentMemory)},
	{"settled: one topic", toOne(settledMemory)},
	{"replay: best library", toBest(replayRate)},
}

// toOne compares a row with that of the same server and one topic.
func toOne(m metric) func(figures, *result) (float64, float64) {
	return func(f figures, r *result) (float64, float64) {
		if r.shape.short == one {
			return math.NaN(), math.NaN()
		}
		return r.median(m), f.of(r.short, one, m)
	}
}

// to compares a row with that of another server and the same shape, or one topic.
func to(server string, m metric) func(figures, *result) (float64, float64) {
	return func(f figures, r *result) (float64, float64) {
		if r.short == server {
			return math.NaN(), math.NaN()
		}
		return r.median(m), f.alike(server, r.shape.short, m)
	}
}

// toBest compares a row that is no library's with the best library.
func toBest(m metric) func(figures, *result) (float64, float64) {
	return func(f figures, r *result) (float64, float64) {
		if r.library {
			return math.NaN(), math.NaN()
		}
		return r.median(m), f.best(r.shape.short, m)
	}
}

// ratios returns a table of what rows are to others, as far as both were measured.
func ratios(results []*result) string {
	cells := make([][]string, len(results))
	var shown []int
	for c, comparison := range comparisons {
		found := false
		for i, r := range results {
			text := "–"
			if value, by := comparison.of(results, r); !math.IsNaN(value / by) {
				text, found = digits(value/by)+" ×", true
			}
			cells[i] = append(cells[i], text)
		}
		if found {
			shown = append(shown, c)
		}
	}
	if len(shown) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("| ratio of |")
	for _, c := range shown {
		fmt.Fprintf(&b, " %s |", comparisons[c].head)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(shown)) + "\n")
	for i, r := range results {
		b.WriteString("| " + r.title() + " |")
		for _, c := range shown {
			b.WriteString(" " + cells[i][c] + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// behind says which rows did not keep pace: their messages came together, as they do when they are
// saturated, and the CPU time that one takes alone is not known.
func behind(results []*result, rate int) string {
	var b strings.Builder
	pause := time.Second / time.Duration(rate)
	for _, r := range results {
		if p99 := time.Duration(r.median(pacedP99)); r.has(pacedP99) && p99 > pause {
			fmt.Fprintf(&b, "- %s: some messages came together, for the next one is published after %v and p99 is %v: its paced CPU may be too low\n",
				r.title(), pause, p99.Round(time.Millisecond))
		}
	}
	return b.String()
}
