package sse

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/headrace/headrace/internal/golden"
)

var update = flag.Bool("update", false, "write the expected lines of testdata anew")

// render decodes r to the end and says what came out in the words of testdata.
func render(r io.Reader) ([]string, error) {
	var lines []string
	d := NewDecoder(r)
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

// randomReader returns between none and 9 bytes a read.
type randomReader struct {
	r   io.Reader
	rnd *rand.Rand
}

func (r *randomReader) Read(p []byte) (int, error) {
	return r.r.Read(p[:min(len(p), r.rnd.IntN(10))])
}

// chunkings are the ways a stream can arrive. Each must make no difference.
func chunkings(input string, seed uint64) map[string]io.Reader {
	return map[string]io.Reader{
		"whole":       strings.NewReader(input),
		"byte":        iotest.OneByteReader(strings.NewReader(input)),
		"random":      &randomReader{strings.NewReader(input), rand.New(rand.NewPCG(seed, 1))},
		"data at EOF": iotest.DataErrReader(strings.NewReader(input)),
	}
}

func TestGolden(t *testing.T) {
	cases := golden.Read(t, "testdata")
	if *update {
		updateGolden(t, cases)
	}
	for _, c := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(c.File), ".txt")+"/"+c.Name, func(t *testing.T) {
			for name, r := range chunkings(c.Input, uint64(len(c.Input))) {
				got, err := render(r)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if g, w := strings.Join(got, "\n"), strings.Join(c.Want, "\n"); g != w {
					t.Errorf("%s: input %q\ngot\n%s\nwant\n%s\nbecause:\n%s", name, c.Input, g, w, strings.Join(c.Idea, "\n"))
				}
			}
		})
	}
}

func updateGolden(t *testing.T, cases []golden.Case) {
	files := map[string]*bytes.Buffer{}
	for i := range cases {
		c := &cases[i]
		got, err := render(strings.NewReader(c.Input))
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		c.Want = got
		buf := files[c.File]
		if buf == nil {
			buf = new(bytes.Buffer)
			files[c.File] = buf
		} else {
			buf.WriteByte('\n')
		}
		fmt.Fprintf(buf, "== %s\n%s\n%s\n%s\n", c.Name,
			strings.Join(c.Idea, "\n"), strings.Join(c.In, "\n"), strings.Join(c.Want, "\n"))
	}
	for file, buf := range files {
		if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
