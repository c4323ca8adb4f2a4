package main

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/headrace/headrace/integration/bench/internal/peer"
)

// client is one open stream.
type client struct {
	t     *testing.T
	lines *bufio.Scanner
}

// block returns the lines of the next event of a type ("" for one that states none) with data.
func (c client) block(kind string) []string {
	c.t.Helper()
	var lines []string
	for c.lines.Scan() {
		if line := c.lines.Text(); line != "" {
			lines = append(lines, line)
			continue
		}
		typed := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "event: ") })
		if kind == "" && typed < 0 && has(lines, "data:") || kind != "" && slices.Contains(lines, "event: "+kind) {
			return lines
		}
		lines = nil
	}
	c.t.Fatalf("the stream has ended: %v", c.lines.Err())
	return nil
}

func has(lines []string, prefix string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, prefix) })
}

func id(lines []string) string {
	for _, line := range lines {
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			return id
		}
	}
	return ""
}

// clients opens the options' feed and two streams of it.
func clients(t *testing.T, o peer.Options) (*peer.Server, [2]client) {
	t.Helper()
	o.Backend = "memory://"
	s, err := open(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler)
	t.Cleanup(server.Close)
	var list [2]client
	for i, number := range []string{"0", "1"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+strings.ReplaceAll(s.Path, peer.Number, number), nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%v: %v", response, err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		list[i] = client{t, bufio.NewScanner(response.Body)}
		list[i].block("checkpoint")
	}
	return s, list
}

// TestShapes looks at what arrives where with each shape.
func TestShapes(t *testing.T) {
	for _, c := range []struct {
		name    string
		options peer.Options
		// both are topics that both clients follow, and each is what only one of them does.
		both []string
		each [2]string
		// alike says that both are at the same cursor after a message to both.
		alike bool
	}{
		{name: "one", options: peer.Options{Width: 1}, both: []string{"load"}, alike: true},
		{name: "plain", options: peer.Options{Width: 1, Plain: true}, both: []string{"load"}, alike: true},
		{name: "detached", options: peer.Options{Width: 1, Detached: true}, both: []string{"load"}, alike: true},
		{name: "topics4", options: peer.Options{Width: 4}, both: []string{"load/0", "load/3"}, alike: true},
		{name: "own", options: peer.Options{Width: 4, Own: true}, both: []string{"load/0", "load/2"}, each: [2]string{"own/0", "own/1"}},
		{name: "one and own", options: peer.Options{Width: 2, Own: true}, both: []string{"load/0"}, each: [2]string{"own/0", "own/1"}},
		{name: "filter", options: peer.Options{Width: 1, Filter: true}, both: []string{"load"}, alike: true},
		{name: "map", options: peer.Options{Width: 1, Map: true}, both: []string{"load"}, alike: true},
		{name: "wrapped", options: peer.Options{Width: 1, Wrapped: true}, both: []string{"load"}, alike: true},
		{name: "wrapped plain", options: peer.Options{Width: 1, Wrapped: true, Plain: true}, both: []string{"load"}, alike: true},
		{name: "spread", options: peer.Options{Width: 1, Spread: 2}, each: [2]string{"load/0", "load/1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, list := clients(t, c.options)
			publish := func(topic, text string) {
				t.Helper()
				if _, err := s.Publish(topic, []byte(text)); err != nil {
					t.Fatal(err)
				}
			}
			for i, topic := range c.each {
				if topic == "" {
					continue
				}
				publish(topic, topic)
				// Nothing for the other one has come before.
				if got := list[i].block(""); !slices.Contains(got, "data: "+topic) {
					t.Errorf("client %d got %q", i, got)
				}
			}
			for _, topic := range c.both {
				publish(topic, topic)
				one, two := list[0].block(""), list[1].block("")
				if want := "data: " + topic; !slices.Contains(one, want) || !slices.Contains(two, want) {
					t.Errorf("%q and %q", one, two)
				}
				if id(one) == "" || id(two) == "" || (id(one) == id(two)) != c.alike {
					t.Errorf("cursors %q and %q", id(one), id(two))
				}
			}
		})
	}
}

// TestUserCodeRuns: Filter and Map, where there are any, leave empty messages out.
func TestUserCodeRuns(t *testing.T) {
	for _, o := range []peer.Options{
		{}, {Filter: true}, {Map: true}, {Filter: true, Plain: true}, {Map: true, Plain: true},
	} {
		o.Width = 1
		s, list := clients(t, o)
		for _, text := range []string{"", "kept"} {
			if _, err := s.Publish("load", []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if got := slices.Contains(list[0].block(""), "data: kept"); got != (o.Filter || o.Map) {
			t.Errorf("Filter %v, Map %v, Plain %v: the empty message is left out: %v", o.Filter, o.Map, o.Plain, got)
		}
	}
}
