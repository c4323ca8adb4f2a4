//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"
)

// made returns a result of a server and a shape with figures.
func made(t *testing.T, server, form string, figures map[metric][]float64) *result {
	t.Helper()
	c := slices.IndexFunc(contenders, func(c contender) bool { return c.short == server })
	s := slices.IndexFunc(shapes, func(s shape) bool { return s.short == form })
	if c < 0 || s < 0 {
		t.Fatalf("there is no %s-%s", server, form)
	}
	r := &result{row: row{contenders[c], shapes[s]}}
	for m, runs := range figures {
		r.runs[m] = runs
	}
	return r
}

func TestTable(t *testing.T) {
	library := made(t, "go-sse", one, map[metric][]float64{saturatedRate: {500_000}})
	library.version = "1.2.3"
	got := table([]*result{
		made(t, raw, one, map[metric][]float64{pacedCPU: {4000}, saturatedRate: {380_000}, connectTime: {1.25e9}}),
		made(t, direct, one, map[metric][]float64{pacedCPU: {4400}, saturatedRate: {2.1e6, 1.9e6, 2e6}, residentMemory: {18 << 10}}),
		library,
	})
	want := `| | paced: CPU a delivery | saturated: deliveries/s | connecting: last first byte | memory, resident |
|---|---|---|---|---|
| raw loop | 4.0 µs | 0.38 M | 1.2 s | – |
| headrace | 4.4 µs | 2.0 M (1.9–2.1) | – | 18 KiB |
| tmaxmax/go-sse 1.2.3 | – | 0.50 M | – | – |
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestRatios(t *testing.T) {
	results := []*result{
		made(t, raw, one, map[metric][]float64{pacedCPU: {4000}, saturatedCPU: {3000}}),
		made(t, direct, one, map[metric][]float64{
			pacedCPU: {4400}, saturatedRate: {2e6}, saturatedCPU: {300}, settledMemory: {16e3}, connectCPU: {100e3},
		}),
		made(t, stream, one, map[metric][]float64{saturatedRate: {200_000}, connectCPU: {90e3}}),
		made(t, "go-sse", one, map[metric][]float64{saturatedRate: {500_000}}),
		made(t, direct, "filter", map[metric][]float64{
			pacedCPU: {8800, 9900, 7700}, saturatedRate: {1e6}, saturatedCPU: {600}, settledMemory: {32e3}, connectCPU: {180e3},
		}),
		made(t, direct, "topics4", map[metric][]float64{pacedCPU: {6600}, saturatedRate: {1e6}}),
		made(t, "go-sse", "topics4", map[metric][]float64{saturatedRate: {100_000}}),
		made(t, direct, spread, map[metric][]float64{saturatedRate: {60_000}, saturatedCPU: {12_000}}),
		made(t, stream, spread, map[metric][]float64{saturatedRate: {80_000}, saturatedCPU: {10_000}}),
	}
	got := ratios(results)
	for _, want := range []string{
		"| ratio of | paced CPU: one topic | paced CPU: raw loop | saturated deliveries: best library |" +
			" saturated CPU: one topic | saturated CPU: raw loop | saturated CPU: c.Stream |" +
			" connecting CPU: one topic | connecting CPU: c.Stream | settled: one topic |\n",
		"| headrace | – | 1.1 × | 4.0 × | – | 0.10 × | – | – | 1.1 × | – |\n",
		// What is not measured with a shape is taken from one topic: raw loop and libraries.
		"| headrace, Filter | 2.0 × | 2.2 × | 2.0 × | 2.0 × | 0.20 × | – | 1.8 × | 2.0 × | 2.0 × |\n",
		// c.Stream has not been measured with 4 topics; its row of one topic is better than
		// go-sse's.
		"| headrace, 4 topics | 1.5 × | 1.6 × | 5.0 × | – | – | – | – | – | – |\n",
		// Where topics are spread, only what is spread too is alike.
		"| headrace, a topic for 2 connections | – | – | 0.75 × | 40 × | – | 1.2 × | – | – | – |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no\n%s in\n%s", want, got)
		}
	}
	if got := ratios(results[:1]); got != "" {
		t.Errorf("of one row:\n%s", got)
	}
}

func TestBehind(t *testing.T) {
	results := []*result{
		made(t, raw, one, map[metric][]float64{pacedP99: {19e6}}),
		made(t, direct, one, nil),
		made(t, direct, "map", map[metric][]float64{pacedP99: {21e6, 10e6, 30e6}}),
	}
	got := behind(results, 50)
	if !strings.HasPrefix(got, "- headrace, Map: ") || !strings.Contains(got, "p99 is 21ms") || strings.Count(got, "\n") != 1 {
		t.Errorf("got\n%s", got)
	}
	if got := behind(results, 10); got != "" {
		t.Errorf("at a slower pace:\n%s", got)
	}
}
