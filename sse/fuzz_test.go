package sse

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/unicode"
)

// seeds are inputs that parsers get wrong.
var seeds = []string{
	"", " ", "a", "\r", "\n", "\r\n", "\n\r", "a\rb\r\nc\nd", "\x00", "a\x00b", "\u2028", "\uFEFF", "\uFEFFdata: a\n\n",
	" a", "  a", "a ", ":", ": a", "data", "data:", "data: a\n\n", "id: 1\n\n", "\xff", "\xe2\x82", "\xed\xa0\x80", "\xf0\x9f\x98", "\xc3(",
	"id: 1\r\nevent: t\rdata: a\ndata\n\nretry: 5\n", strings.Repeat("data: x\r", 50) + "\r",
}

func FuzzRoundTrip(f *testing.F) {
	for i, seed := range seeds {
		f.Add(seed, "t", seed, int64(0))
		f.Add("1-0", seed, seeds[(i+7)%len(seeds)], int64(i)*500)
	}
	f.Fuzz(func(t *testing.T, id, typ, data string, micros int64) {
		retry := time.Duration(micros) * time.Microsecond
		in := Event{ID: id, Type: typ, Data: data, Retry: retry}
		frame, err := AppendEvent(nil, in)
		refused := strings.ContainsAny(id+typ, "\r\n\x00") || retry < 0
		if (err != nil) != refused {
			t.Fatalf("%+v: error %v, want one: %v", in, err, refused)
		}
		if err != nil {
			if len(frame) != 0 {
				t.Fatalf("%+v: refused, and %q emitted", in, frame)
			}
			return
		}
		if bytes.ContainsRune(frame, '\r') {
			t.Fatalf("%+v: CR in %q", in, frame)
		}
		// Twice, to see that nothing carries over.
		d := NewDecoder(bytes.NewReader(append(frame, frame...)))
		for range 2 {
			out, err := d.Decode()
			if err != nil {
				t.Fatalf("%+v: %v", in, err)
			}
			want := Event{
				ID:   utf8Oracle(t, id),
				Type: utf8Oracle(t, typ),
				Data: utf8Oracle(t, strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(data)),
				// A fraction of a millisecond counts as a whole one.
				Retry: (retry + time.Millisecond - 1).Truncate(time.Millisecond),
			}
			if out != want {
				t.Fatalf("in %+v\nout %+v\nwant %+v", in, out, want)
			}
		}
		if _, err := d.Decode(); err != io.EOF {
			t.Fatalf("%+v: one event too many: %v", in, err)
		}
	})
}

// utf8Oracle decodes s with the decoder of golang.org/x/text.
func utf8Oracle(t *testing.T, s string) string {
	t.Helper()
	out, err := unicode.UTF8.NewDecoder().String(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func FuzzUTF8(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := string(appendUTF8(nil, b)), utf8Oracle(t, string(b)); got != want {
			t.Errorf("%q: got %q, want %q", b, got, want)
		}
	})
}

// TestUTF8 tries every sequence of up to three bytes at the borders of the
// ranges, with a fourth behind it.
func TestUTF8(t *testing.T) {
	borders := []byte{'a', 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF}
	for _, a := range borders {
		for _, b := range borders {
			for _, c := range borders {
				for _, d := range []byte{'a', 0x80, 0xBF, 0xE0} {
					for n := 1; n <= 4; n++ {
						in := []byte{a, b, c, d}[:n]
						if got, want := string(appendUTF8(nil, in)), utf8Oracle(t, string(in)); got != want {
							t.Fatalf("% x: got %q, want %q", in, got, want)
						}
					}
				}
			}
		}
	}
}

func FuzzChunking(f *testing.F) {
	for i, seed := range seeds {
		f.Add(seed+seeds[(i+3)%len(seeds)], uint64(i))
	}
	for _, c := range goldenCases(f) {
		f.Add(c.input, uint64(1))
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

// FuzzDecode compares the decoder with one that is slow, plain and follows the
// standard's text step by step.
func FuzzDecode(f *testing.F) {
	for _, seed := range seeds {
		f.Add(seed)
	}
	for _, c := range goldenCases(f) {
		f.Add(c.input)
	}
	f.Fuzz(func(t *testing.T, input string) {
		got, err := render(strings.NewReader(input))
		if err != nil {
			t.Fatal(err)
		}
		if want := renderPlain(t, input); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%q\ngot %q\nwant %q", input, got, want)
		}
		d := NewDecoder(strings.NewReader(input))
		d.MaxEventSize = 16
		for {
			e, err := d.Decode()
			if err != nil {
				break
			}
			if len(e.Text()) > 16 || len(e.ID) > 3*16 || len(e.Type) > 3*16 {
				t.Fatalf("%q: an event beyond the limit: %+v", input, e)
			}
		}
	})
}

func renderPlain(t *testing.T, input string) []string {
	text := strings.TrimPrefix(utf8Oracle(t, input), "\uFEFF")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	lines := strings.Split(text, "\n")
	lines = lines[:len(lines)-1] // what has no line end is no line
	var out []string
	var data, typ, id, lastID string
	retry := "none"
	for _, line := range lines {
		if line == "" {
			lastID = id
			if data != "" {
				out = append(out, renderEvent(lastID, typ, strings.TrimSuffix(data, "\n")))
			}
			data, typ = "", ""
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			typ = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		case "retry":
			if d, ok := parseRetry([]byte(value)); ok {
				retry = d.String()
			}
		}
	}
	return append(out, "end id="+strconv.Quote(lastID)+" retry="+retry)
}
