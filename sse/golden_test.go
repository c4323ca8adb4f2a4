package sse

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

var update = flag.Bool("update", false, "write the expected lines of testdata anew")

// A goldenCase is one case of testdata; README.md there describes the format.
type goldenCase struct {
	file, name string
	idea       []string
	in         []string // quoted, as they stand in the file
	input      string
	want       []string
}

func goldenCases(t testing.TB) []goldenCase {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	var cases []goldenCase
	seen := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			kind, rest, _ := strings.Cut(line, " ")
			if kind == "==" {
				if seen[rest] {
					t.Fatalf("%s:%d: the name %q is taken", file, i+1, rest)
				}
				seen[rest] = true
				cases = append(cases, goldenCase{file: file, name: rest})
				continue
			}
			if line == "" {
				continue
			}
			if len(cases) == 0 || cases[len(cases)-1].file != file {
				t.Fatalf("%s:%d: a line before the first case", file, i+1)
			}
			c := &cases[len(cases)-1]
			switch kind {
			case "":
				c.idea = append(c.idea, line)
			case "in":
				in, err := strconv.Unquote(rest)
				if err != nil {
					t.Fatalf("%s:%d: %v", file, i+1, err)
				}
				c.in = append(c.in, line)
				c.input += in
			case "event", "end":
				c.want = append(c.want, line)
			default:
				t.Fatalf("%s:%d: unknown kind of line %q", file, i+1, kind)
			}
		}
	}
	for _, c := range cases {
		if len(c.idea) == 0 || len(c.in) == 0 {
			t.Fatalf("%s: case %q lacks its idea or its input", c.file, c.name)
		}
	}
	return cases
}

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
			lines = append(lines, fmt.Sprintf("end id=%q retry=%s", d.LastEventID(), retry))
			if err == io.EOF {
				err = nil
			}
			return lines, err
		}
		lines = append(lines, renderEvent(e.ID, e.Type, e.Text()))
	}
}

func renderEvent(id, typ, data string) string {
	return fmt.Sprintf("event id=%q type=%q data=%q", id, typ, data)
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
	cases := goldenCases(t)
	if *update {
		updateGolden(t, cases)
	}
	for _, c := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(c.file), ".txt")+"/"+c.name, func(t *testing.T) {
			for name, r := range chunkings(c.input, uint64(len(c.input))) {
				got, err := render(r)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if g, w := strings.Join(got, "\n"), strings.Join(c.want, "\n"); g != w {
					t.Errorf("%s: input %q\ngot\n%s\nwant\n%s\nbecause:\n%s", name, c.input, g, w, strings.Join(c.idea, "\n"))
				}
			}
		})
	}
}

func updateGolden(t *testing.T, cases []goldenCase) {
	files := map[string]*bytes.Buffer{}
	for i := range cases {
		c := &cases[i]
		got, err := render(strings.NewReader(c.input))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		c.want = got
		buf := files[c.file]
		if buf == nil {
			buf = new(bytes.Buffer)
			files[c.file] = buf
		} else {
			buf.WriteByte('\n')
		}
		fmt.Fprintf(buf, "== %s\n%s\n%s\n%s\n", c.name,
			strings.Join(c.idea, "\n"), strings.Join(c.in, "\n"), strings.Join(c.want, "\n"))
	}
	for file, buf := range files {
		if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
