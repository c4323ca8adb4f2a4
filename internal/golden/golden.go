// Package golden reads the golden cases of package sse, for the tests of that package and for tests
// that ask other decoders about the same cases. Only tests import it.
package golden

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Case is one case of sse/testdata; README.md there describes the format.
type Case struct {
	File, Name string
	Idea       []string
	In         []string // quoted, as they stand in the file
	Input      string
	Want       []string
}

// Read returns the cases in the files of a folder.
func Read(t testing.TB, dir string) []Case {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	var cases []Case
	seen := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // the folder is the test's own
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
				cases = append(cases, Case{File: file, Name: rest})
				continue
			}
			if line == "" {
				continue
			}
			if len(cases) == 0 || cases[len(cases)-1].File != file {
				t.Fatalf("%s:%d: a line before the first case", file, i+1)
			}
			c := &cases[len(cases)-1]
			switch kind {
			case "":
				c.Idea = append(c.Idea, line)
			case "in":
				in, err := strconv.Unquote(rest)
				if err != nil {
					t.Fatalf("%s:%d: %v", file, i+1, err)
				}
				c.In = append(c.In, line)
				c.Input += in
			case "event", "end":
				c.Want = append(c.Want, line)
			default:
				t.Fatalf("%s:%d: unknown kind of line %q", file, i+1, kind)
			}
		}
	}
	for _, c := range cases {
		if len(c.Idea) == 0 || len(c.In) == 0 {
			t.Fatalf("%s: case %q lacks its idea or its input", c.File, c.Name)
		}
	}
	return cases
}

// Event returns the line of a case that says that an event came out.
func Event(id, typ, data string) string {
	return fmt.Sprintf("event id=%q type=%q data=%q", id, typ, data)
}

// End returns the line of a case that says what was left at the end; retry is a duration, or
// "none".
func End(lastID, retry string) string {
	return fmt.Sprintf("end id=%q retry=%s", lastID, retry)
}
