//go:build linux

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// shape is what there is on streams besides the messages of one topic.
type shape struct {
	short string // its name on the command line
	name  string
	args  []string // of the server

	own    bool // a topic of each connection's own gets a message when the connection has begun
	spread bool // there are topics for every two connections
}

// pair is how many connections a topic has where topics are spread.
const pair = 2

// The names of shapes that comparisons know.
const (
	one    = "one"
	spread = "topics1000"
)

var shapes = []shape{
	{short: one, name: "one topic"},
	{short: "topics4", name: "4 topics", args: []string{"-topics", "4"}},
	{short: "own", name: "4 topics, one of them its own", args: []string{"-topics", "4", "-own"}, own: true},
	{short: "filter", name: "Filter", args: []string{"-filter"}},
	{short: "map", name: "Map", args: []string{"-map"}},
	{short: "wrapped", name: "wrapped writer", args: []string{"-wrapped"}},
	{short: "wrappedhttp", name: "wrapped writer, net/http", args: []string{"-plain", "-wrapped"}},
	{short: spread, name: "a topic for 2 connections", spread: true},
}

// row is one row of the tables: a server and the shape of its streams.
type row struct {
	contender
	shape shape
}

// label is the name of the row on the command line and of its folder of profiles.
func (r row) label() string { return r.short + "-" + r.shape.short }

// title is the name of the row for people.
func (r row) title() string {
	if r.shape.short == one {
		return r.name
	}
	return r.name + ", " + r.shape.name
}

// possible reports whether the server can serve the shape.
func (r row) possible() bool {
	return r.shape.short == one || slices.Contains(r.shapes, r.shape.short)
}

// arguments returns the arguments of a server for so many connections.
func (r row) arguments(connections int) []string {
	args := slices.Concat(r.args, r.shape.args)
	if r.shape.spread {
		args = append(args, "-spread", strconv.Itoa(connections/pair))
	}
	return args
}

// connections returns how many connections there are on so many topics, or on one.
func (r row) connections(count int) int {
	if r.shape.spread {
		return count * pair
	}
	return count
}

// rows returns the rows of contenders, shape by shape: of those that are wanted or, when none is
// named, of all but the skipped labels.
func rows(list []contender, wanted string, skip []string) ([]row, error) {
	names, err := split(wanted, "shape", func(name string) bool {
		return slices.ContainsFunc(shapes, func(s shape) bool { return s.short == name })
	})
	if err != nil {
		return nil, err
	}
	var all []row
	for _, s := range shapes {
		if names != nil && !slices.Contains(names, s.short) {
			continue
		}
		for _, c := range list {
			r := row{c, s}
			if !r.possible() || names == nil && slices.Contains(skip, r.label()) {
				continue
			}
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("bench: no server has the shapes %q", wanted)
	}
	return all, nil
}

// split takes a list of names apart, nil when it is empty, and refuses those that are unknown.
func split(list, what string, known func(string) bool) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !known(name) {
			return nil, fmt.Errorf("bench: there is no %s %q", what, name)
		}
	}
	return names, nil
}

// names returns the names of all shapes.
func names() string {
	list := make([]string, len(shapes))
	for i, s := range shapes {
		list[i] = s.short
	}
	return strings.Join(list, ",")
}
