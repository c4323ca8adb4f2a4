package sse

import (
	"strings"
	"testing"

	"github.com/headrace/headrace/internal/golden"
)

// seeds are inputs that parsers get wrong.
var seeds = []string{
	"", " ", "a", "\r", "\n", "\r\n", "\n\r", "a\rb\r\nc\nd", "\x00", "a\x00b", "\u2028", "\uFEFF", "\uFEFFdata: a\n\n",
	" a", "  a", "a ", ":", ": a", "data", "data:", "data: a\n\n", "id: 1\n\n", "\xff", "\xe2\x82", "\xed\xa0\x80", "\xf0\x9f\x98", "\xc3(",
	"id: 1\r\nevent: t\rdata: a\ndata\n\nretry: 5\n", strings.Repeat("data: x\r", 50) + "\r",
}

func FuzzChunking(f *testing.F) {
	for i, seed := range seeds {
		f.Add(seed+seeds[(i+3)%len(seeds)], uint64(i))
	}
	for _, c := range golden.Read(f, "testdata") {
		f.Add(c.Input, uint64(1))
	}
	f.Fuzz(func(t *testing.T, input string, seed uint64) {
		want, err := render(strings.NewReader(input))
		if err != nil {
			t.Fatal(err)
		}
		for name, r := range chunkings(input, seed) {
			got, err := render(r)
			if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%q, %s: %v\ngot %q\nwant %q", input, name, err, got, want)
			}
		}
	})
}
