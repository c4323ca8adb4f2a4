//go:build linux

package main

import (
	"slices"
	"testing"
)

// labels returns the labels of the rows that are measured.
func labels(t *testing.T, servers []contender, wanted string, skip []string) []string {
	t.Helper()
	list, err := rows(servers, wanted, skip)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range list {
		names = append(names, r.label())
	}
	return names
}

func TestRows(t *testing.T) {
	few := only(raw, direct, "r3labs")
	for _, c := range []struct {
		wanted string
		skip   []string
		want   []string
	}{
		{"one", nil, []string{"raw-one", "headrace-one", "r3labs-one"}},
		// Shape by shape, whatever the order on the command line, and only what a server can serve.
		{"topics1000,filter", nil, []string{"headrace-filter", "raw-topics1000", "headrace-topics1000", "r3labs-topics1000"}},
		// What is asked for is not skipped.
		{"one,filter", []string{"headrace-filter"}, []string{"raw-one", "headrace-one", "r3labs-one", "headrace-filter"}},
	} {
		if got := labels(t, few, c.wanted, c.skip); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.wanted, got)
		}
	}
	all := labels(t, few, "", nil)
	if want := len(few) + len(shapes) + 1; len(all) != want {
		t.Errorf("%d rows of all: %q", len(all), all)
	}
	if got := labels(t, few, "", []string{"headrace-own"}); len(got) != len(all)-1 || slices.Contains(got, "headrace-own") {
		t.Errorf("one skipped: %q", got)
	}
	if _, err := rows(few, "one,round", nil); err == nil {
		t.Error("a shape that does not exist can be chosen")
	}
	if _, err := rows(only("watermill"), "filter", nil); err == nil {
		t.Error("no row at all is no error")
	}
}

// TestNamesOfRows: what the plan names exists.
func TestNamesOfRows(t *testing.T) {
	all := labels(t, contenders, "", nil)
	for _, label := range slices.Concat(quick().skip, reduced().skip) {
		if !slices.Contains(all, label) {
			t.Errorf("%s is skipped and is no row", label)
		}
	}
	for i, label := range all {
		if slices.Contains(all[:i], label) {
			t.Errorf("%s is there twice: its profiles would be too", label)
		}
	}
	for _, c := range contenders {
		for _, name := range c.shapes {
			if !slices.ContainsFunc(shapes, func(s shape) bool { return s.short == name }) {
				t.Errorf("%s has a shape %q", c.short, name)
			}
		}
	}
	if len(quick().contenders) != 3 || len(reduced().contenders) != 4 {
		t.Error("a server of the short forms is missing")
	}
}

func TestArguments(t *testing.T) {
	spreading := made(t, direct, spread, nil)
	if got := spreading.arguments(500); !slices.Equal(got, []string{"-spread", "250"}) {
		t.Errorf("%q", got)
	}
	if got := spreading.connections(1000); got != 2000 {
		t.Errorf("%d connections on 1000 topics", got)
	}
	own := made(t, "headrace-detached", "own", nil)
	if got := own.arguments(500); !slices.Equal(got, []string{"-detached", "-topics", "4", "-own"}) {
		t.Errorf("%q", got)
	}
	if got := own.connections(1000); got != 1000 {
		t.Errorf("%d connections", got)
	}
}
