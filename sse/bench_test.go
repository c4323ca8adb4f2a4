package sse

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func BenchmarkAppendFrame(b *testing.B) {
	for _, bench := range []struct{ name, data string }{
		{"200B", strings.Repeat("x", 200)},
		{"20lines", strings.Repeat("0123456789\n", 20)},
		{"64KiB", strings.Repeat("x", 64<<10)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			data := []byte(bench.data)
			dst := make([]byte, 0, 2*len(data)+100)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := AppendFrame(dst, "1700000000000-0", "assigned", data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendEventJSON(b *testing.B) {
	event := Event{ID: "1-0", Type: "assigned", Data: map[string]string{"to": "someone"}}
	dst := make([]byte, 0, 200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendEvent(dst, event); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecoder(b *testing.B) {
	for _, bench := range []struct{ name, data string }{
		{"200B", strings.Repeat("x", 200)},
		{"20lines", strings.Repeat("0123456789\n", 20)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			frame, err := AppendFrame(nil, "1700000000000-0", "assigned", []byte(bench.data))
			if err != nil {
				b.Fatal(err)
			}
			d := NewDecoder(&cycle{block: bytes.Repeat(frame, 100)})
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Decode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// cycle returns block over and over.
type cycle struct {
	block []byte
	at    int
}

func (c *cycle) Read(p []byte) (int, error) {
	n := copy(p, c.block[c.at:])
	c.at = (c.at + n) % len(c.block)
	return n, nil
}

func BenchmarkWriter(b *testing.B) {
	w, err := Respond(discard{http.Header{}}, httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		b.Fatal(err)
	}
	frame, err := AppendFrame(nil, "1-0", "t", bytes.Repeat([]byte("x"), 200))
	if err != nil {
		b.Fatal(err)
	}
	batch := make([][]byte, 50)
	for i := range batch {
		batch[i] = frame
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := w.Write(frame); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("batch50", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := w.Write(batch...); err != nil {
				b.Fatal(err)
			}
		}
	})
}
