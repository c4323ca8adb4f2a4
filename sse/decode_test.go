package sse

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestDecoderReturnsWithoutReadingOn(t *testing.T) {
	for _, frame := range []string{"data: a\n\n", "data: a\r\r", "data: a\r\n\r"} {
		more := func() (int, error) { t.Errorf("%q: read beyond the event", frame); return 0, io.EOF }
		d := NewDecoder(io.MultiReader(strings.NewReader(frame), readFunc(more)))
		if e, err := d.Decode(); err != nil || e.Text() != "a" {
			t.Errorf("%q: %v, %v", frame, e, err)
		}
	}
}

type readFunc func() (int, error)

func (f readFunc) Read([]byte) (int, error) { return f() }

func TestDecoderStateMovesAtTheBlankLine(t *testing.T) {
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, "id: 1\nretry: 5\ndata: a\n\nid: 2\nretry: 6\nretry: 0\ndata: b\n")
		_ = w.Close()
	}()
	d := NewDecoder(r)
	if _, ok := d.Retry(); ok || d.LastEventID() != "" {
		t.Error("a new decoder has a state")
	}
	e, err := d.Decode()
	if err != nil || e.ID != "1" || e.Retry != 5*time.Millisecond || d.LastEventID() != "1" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := d.Decode(); err != io.EOF {
		t.Errorf("error %v", err)
	}
	if d.LastEventID() != "1" {
		t.Error("the id of a block cut short was committed")
	}
	if retry, ok := d.Retry(); !ok || retry != 0 {
		t.Errorf("retry %v, %v: it waits for no blank line", retry, ok)
	}
}

func TestDecoderRetryIsPerEvent(t *testing.T) {
	d := NewDecoder(strings.NewReader("retry: 5\ndata: a\n\ndata: b\n\n"))
	for i, want := range []time.Duration{5 * time.Millisecond, 0} {
		if e, err := d.Decode(); err != nil || e.Retry != want {
			t.Errorf("event %d: retry %v, %v", i, e.Retry, err)
		}
	}
}

func TestDecoderErrorsStay(t *testing.T) {
	broken := errors.New("broken")
	d := NewDecoder(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n\ndata: c\n"), iotest.ErrReader(broken)))
	for range 2 {
		if _, err := d.Decode(); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if e, err := d.Decode(); err != broken || e != (Event{}) {
			t.Errorf("%+v, %v", e, err)
		}
	}
	d = NewDecoder(readFunc(func() (int, error) { return 0, nil }))
	if _, err := d.Decode(); err != io.ErrNoProgress {
		t.Errorf("a reader without end gave %v", err)
	}
}

func TestDecoderMaxEventSize(t *testing.T) {
	tests := []struct {
		name, in string
		max      int
		events   int
		err      error
	}{
		{"data that fits", "data: 456789\n\n", 12, 1, nil},
		{"a line too long", "data: 4567890\n\n", 12, 0, ErrTooLong},
		{"a line without end", "data: " + strings.Repeat("x", 100), 50, 0, ErrTooLong},
		{"a comment too long", ":" + strings.Repeat("x", 100), 50, 0, ErrTooLong},
		{"lines that fit together", "data: 45\ndata: 45\ndata: 45\ndata: 4\ndata: 4\n\n", 12, 1, nil},
		{"lines too long together", "data: 45\ndata: 45\ndata: 45\ndata: 45\ndata: 45\n\n", 12, 0, ErrTooLong},
		{"replacement counts", "data: \xff\xff\xff\xff\xff\n\n", 12, 0, ErrTooLong},
		{"empty data lines count", strings.Repeat("data\n", 20), 12, 0, ErrTooLong},
		{"comments add up to nothing", strings.Repeat(":\n", 100) + "data: a\n\n", 12, 1, nil},
		{"ids add up to nothing", strings.Repeat("id: 1\n", 100) + "data: a\n\n", 12, 1, nil},
		{"events before it are returned", "data: a\n\ndata: 4567890\n\ndata: b\n\n", 12, 1, ErrTooLong},
		{"default", "data: " + strings.Repeat("x", DefaultMaxEventSize-6) + "\n\n", 0, 1, nil},
		{"more than default", "data: " + strings.Repeat("x", DefaultMaxEventSize-5) + "\n\n", 0, 0, ErrTooLong},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := NewDecoder(strings.NewReader(test.in))
			d.MaxEventSize = test.max
			events := 0
			for {
				_, err := d.Decode()
				if err != nil {
					if test.err == nil {
						test.err = io.EOF
					}
					if err != test.err || events != test.events {
						t.Errorf("%d events, %v; want %d, %v", events, err, test.events, test.err)
					}
					if _, again := d.Decode(); again != err {
						t.Errorf("after %v came %v", err, again)
					}
					return
				}
				events++
			}
		})
	}
}

// A line without end must not be read to the end before it is refused.
func TestDecoderMemoryIsBounded(t *testing.T) {
	const limit = 1 << 20
	read := 0
	d := NewDecoder(readerFunc(func(p []byte) (int, error) {
		for i := range p {
			p[i] = 'x'
		}
		read += len(p)
		return len(p), nil
	}))
	d.MaxEventSize = limit
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := d.Decode()
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	if read > 3*limit || after.TotalAlloc-before.TotalAlloc > 8*limit {
		t.Errorf("read %d bytes and allocated %d for a limit of %d", read, after.TotalAlloc-before.TotalAlloc, limit)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestDecoderLetsLargeBuffersGo(t *testing.T) {
	d := NewDecoder(io.MultiReader(
		strings.NewReader("data: "+strings.Repeat("x", 1<<20)+"\n\n"),
		strings.NewReader("data: a\n\n"), strings.NewReader("data: b\n\n")))
	for range 3 {
		if _, err := d.Decode(); err != nil {
			t.Fatal(err)
		}
	}
	if cap(d.buf) > keepBytes || cap(d.data) > keepBytes {
		t.Errorf("kept %d and %d bytes", cap(d.buf), cap(d.data))
	}
}

// Lines that lie across two reads must not make the buffer grow.
func TestDecoderBufferStaysSmall(t *testing.T) {
	r := strings.NewReader(strings.Repeat("data: 0123456789\n\n", 10_000))
	d := NewDecoder(r)
	for {
		if _, err := d.Decode(); err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			break
		}
		if cap(d.buf) > 8<<10 {
			t.Fatalf("a buffer of %d bytes", cap(d.buf))
		}
	}
}

func TestRead(t *testing.T) {
	var got []string
	for e, err := range Read(strings.NewReader("data: a\n\ndata: b\n\ndata: c")) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Text())
	}
	if strings.Join(got, " ") != "a b" {
		t.Errorf("got %q", got)
	}
	for e, err := range Read(strings.NewReader("data: a\n\ndata: b\n\n")) {
		if err != nil || e.Text() != "a" {
			t.Error("the loop went on")
		}
		break
	}
	broken := errors.New("broken")
	errs := 0
	for e, err := range Read(iotest.ErrReader(broken)) {
		if err != broken || e != (Event{}) {
			t.Errorf("%+v, %v", e, err)
		}
		errs++
	}
	if errs != 1 {
		t.Errorf("%d errors", errs)
	}
}
