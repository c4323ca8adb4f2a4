//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// columns are the heads of the tables, and how a figure is written.
var columns = [metrics]struct {
	head string
	unit string
	by   float64 // what the figure is divided by
}{
	pacedCPU:       {"paced: CPU a delivery", "µs", 1e3},
	pacedP50:       {"paced: p50", "ms", 1e6},
	pacedP99:       {"paced: p99", "ms", 1e6},
	saturatedRate:  {"saturated: deliveries/s", "M", 1e6},
	saturatedCPU:   {"saturated: CPU a delivery", "µs", 1e3},
	wideRate:       {"saturated wide: deliveries/s", "M", 1e6},
	wideCPU:        {"saturated wide: CPU a delivery", "µs", 1e3},
	connectCPU:     {"connecting: CPU a connection", "µs", 1e3},
	connectTime:    {"connecting: last first byte", "s", 1e9},
	residentMemory: {"memory, resident", "KiB", 1024},
	settledMemory:  {"memory, settled", "KiB", 1024},
	replayRate:     {"replay: messages/s", "M", 1e6},
}

// table returns results as a table in Markdown: medians, and in brackets the least and the greatest
// of the runs. Columns without a figure are left out.
func table(results []*result) string {
	var shown []metric
	for m := range metrics {
		if slices.ContainsFunc(results, func(r *result) bool { return r.has(m) }) {
			shown = append(shown, m)
		}
	}
	var b strings.Builder
	b.WriteString("| |")
	for _, m := range shown {
		b.WriteString(" " + columns[m].head + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(shown)) + "\n")
	for _, r := range results {
		b.WriteString("| " + strings.TrimSpace(r.title()+" "+r.version) + " |")
		for _, m := range shown {
			b.WriteString(" " + cell(r.runs[m], columns[m].unit, columns[m].by) + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// ofShape returns the results of one topic, or those of all other shapes.
func ofShape(results []*result, single bool) []*result {
	var list []*result
	for _, r := range results {
		if (r.shape.short == one) == single {
			list = append(list, r)
		}
	}
	return list
}

func cell(runs []float64, unit string, by float64) string {
	switch len(runs) {
	case 0:
		return "–"
	case 1:
		return digits(runs[0]/by) + " " + unit
	}
	return fmt.Sprintf("%s %s (%s–%s)", digits(median(runs)/by), unit, digits(slices.Min(runs)/by), digits(slices.Max(runs)/by))
}

// digits writes a number with two digits that count, more only in front of the point.
func digits(f float64) string {
	if abs := math.Abs(f); abs >= 10 || abs == 0 {
		return fmt.Sprintf("%.0f", f)
	}
	after := 1 - int(math.Floor(math.Log10(math.Abs(f))))
	return fmt.Sprintf("%.*f", min(after, 4), f)
}

// median returns the median of at least one value.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
