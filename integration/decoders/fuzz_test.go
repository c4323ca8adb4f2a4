package decoders

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/unicode"

	"github.com/headrace/headrace/internal/golden"
	"github.com/headrace/headrace/sse"
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
		in := sse.Event{ID: id, Type: typ, Data: data, Retry: retry}
		frame, err := sse.AppendEvent(nil, in)
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
		d := sse.NewDecoder(bytes.NewReader(append(frame, frame...)))
		for range 2 {
			out, err := d.Decode()
			if err != nil {
				t.Fatalf("%+v: %v", in, err)
			}
			want := sse.Event{
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
		// A line end would end the line; FuzzDecode has those. Like a space, it is no part of a sequence.
		line := strings.NewReplacer("\r", " ", "\n", " ").Replace(string(b))
		decodesAs(t, []string{line})
	})
}

// decodesAs checks that the decoder makes the same of each line as golang.org/x/text does.
func decodesAs(t *testing.T, lines []string) {
	t.Helper()
	var stream strings.Builder
	for _, line := range lines {
		stream.WriteString("data: " + line + "\n\n")
	}
	d := sse.NewDecoder(strings.NewReader(stream.String()))
	for _, line := range lines {
		e, err := d.Decode()
		if err != nil {
			t.Fatalf("% x: %v", line, err)
		}
		if got, want := e.Text(), utf8Oracle(t, line); got != want {
			t.Fatalf("% x: got %q, want %q", line, got, want)
		}
	}
}

// TestUTF8 tries every sequence of up to three bytes at the borders of the
// ranges, with a fourth behind it.
func TestUTF8(t *testing.T) {
	borders := []byte{'a', 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF}
	for _, a := range borders {
		var lines []string
		for _, b := range borders {
			for _, c := range borders {
				for _, d := range []byte{'a', 0x80, 0xBF, 0xE0} {
					for n := 1; n <= 4; n++ {
						lines = append(lines, string([]byte{a, b, c, d}[:n]))
					}
				}
			}
		}
		decodesAs(t, lines)
	}
}

// render decodes r to the end and says what came out in the words of the golden cases.
func render(r io.Reader) ([]string, error) {
	var lines []string
	d := sse.NewDecoder(r)
	for {
		e, err := d.Decode()
		if err != nil {
			retry := "none"
			if after, ok := d.Retry(); ok {
				retry = after.String()
			}
			lines = append(lines, golden.End(d.LastEventID(), retry))
			if err == io.EOF {
				err = nil
			}
			return lines, err
		}
		lines = append(lines, golden.Event(e.ID, e.Type, e.Text()))
	}
}

// FuzzDecode compares the decoder with one that is slow, plain and follows the
// standard's text step by step.
func FuzzDecode(f *testing.F) {
	for _, seed := range seeds {
		f.Add(seed)
	}
	for _, c := range golden.Read(f, testdata) {
		f.Add(c.Input)
	}
	f.Fuzz(func(t *testing.T, input string) {
		got, err := render(strings.NewReader(input))
		if err != nil {
			t.Fatal(err)
		}
		if want := renderPlain(t, input); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%q\ngot %q\nwant %q", input, got, want)
		}
		d := sse.NewDecoder(strings.NewReader(input))
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
				out = append(out, golden.Event(lastID, typ, strings.TrimSuffix(data, "\n")))
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
			// It takes digits and nothing else, no sign either.
			ms, err := strconv.ParseUint(value, 10, 64)
			switch {
			case errors.Is(err, strconv.ErrRange) || err == nil && ms > uint64(math.MaxInt64/time.Millisecond):
				retry = time.Duration(math.MaxInt64).String()
			case err == nil:
				retry = (time.Duration(ms) * time.Millisecond).String()
			}
		}
	}
	return append(out, golden.End(lastID, retry))
}
