//go:build linux

package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// columns are the heads of the table, and how a figure is written.
var columns = [metrics]struct {
	head string
	unit string
	by   float64 // what the figure is divided by
}{
	saturatedRate: {"saturated: deliveries/s", "M", 1e6},
	saturatedCPU:  {"saturated: CPU a delivery", "µs", 1e3},
	pacedCPU:      {"paced: CPU a delivery", "µs", 1e3},
	pacedP50:      {"paced: p50", "ms", 1e6},
	pacedP99:      {"paced: p99", "ms", 1e6},
	idleMemory:    {"memory of an idle connection", "KiB", 1024},
	replayRate:    {"replay: messages/s", "M", 1e6},
}

// table returns results as a table in Markdown: medians, and in brackets the least and the greatest of the runs.
func table(results []*result) string {
	var b strings.Builder
	b.WriteString("| |")
	for _, c := range columns {
		b.WriteString(" " + c.head + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, r := range results {
		b.WriteString("| " + strings.TrimSpace(r.name+" "+r.version) + " |")
		for m, c := range columns {
			b.WriteString(" " + cell(r.runs[m], c.unit, c.by) + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
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

// ratios returns what headrace is to the others, as far as both were measured.
func ratios(results []*result) string {
	of := func(short string, m metric) float64 {
		for _, r := range results {
			if r.short == short && len(r.runs[m]) > 0 {
				return median(r.runs[m])
			}
		}
		return math.NaN()
	}
	best := func(m metric) float64 {
		greatest := math.NaN()
		for _, r := range results {
			if r.library && len(r.runs[m]) > 0 {
				// Whatever is compared with NaN is false.
				if v := median(r.runs[m]); !(v <= greatest) {
					greatest = v
				}
			}
		}
		return greatest
	}
	var b strings.Builder
	for _, line := range []struct {
		text  string
		ratio float64
	}{
		{"paced, CPU: headrace to the raw loop", of(direct, pacedCPU) / of(raw, pacedCPU)},
		{"saturated, CPU: headrace to the raw loop", of(direct, saturatedCPU) / of(raw, saturatedCPU)},
		{"saturated, deliveries: headrace to the best library", of(direct, saturatedRate) / best(saturatedRate)},
		{"saturated, deliveries: headrace's ordinary path to the best library", of(ordinary, saturatedRate) / best(saturatedRate)},
		{"replay: headrace to the best library", of(direct, replayRate) / best(replayRate)},
	} {
		if !math.IsNaN(line.ratio) {
			fmt.Fprintf(&b, "- %s: %s ×\n", line.text, digits(line.ratio))
		}
	}
	return b.String()
}

// surroundings says where and how much is measured.
func (b *bench) surroundings() string {
	s := b.scale
	var name unix.Utsname
	kernel := "unknown"
	if unix.Uname(&name) == nil {
		kernel = unix.ByteSliceToString(name.Release[:])
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s, Linux %s, %d CPUs%s%s.\n", runtime.Version(), kernel, runtime.NumCPU(), redisVersion(), revision())
	fmt.Fprintf(&out, "%d connections on one topic, messages of %d bytes; paced: %d a second; saturated: %d on their way at most; %g s a figure.\n",
		s.conns, s.size, s.rate, s.ahead, s.seconds)
	fmt.Fprintf(&out, "Memory: %d connections. Replay: %d clients, %d messages each. Runs: %d; the median, and in brackets the least and the greatest.\n",
		s.idle, s.readers, s.retained, s.runs)
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		fmt.Fprintf(&out, "Load of the machine before: %s.\n", strings.Fields(string(load))[0])
	}
	out.WriteString("\n")
	return out.String()
}

// revision returns the revision that was built, when that is known.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return ", revision " + s.Value[:min(12, len(s.Value))]
		}
	}
	return ""
}

func redisVersion() string {
	out, err := exec.Command("redis-server", "--version").Output()
	if err != nil {
		return ""
	}
	for word := range strings.FieldsSeq(string(out)) {
		if v, ok := strings.CutPrefix(word, "v="); ok {
			return ", Redis " + v
		}
	}
	return ""
}
