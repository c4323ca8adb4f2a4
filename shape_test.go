package headrace_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

const (
	// mostLines is how long a file of the library may be.
	mostLines = 400
	// mostFiles is how many files the methods of a type may stand in. Who reads a type should not
	// have to look for it.
	mostFiles = 2
)

// exception allows the methods of a type to stand in more files.
type exception struct {
	files  int
	reason string
}

// spread are the exceptions, by the folder and the name of the type. One that is not needed any
// more is a fault too.
var spread = map[string]exception{
	"backends/redisstream.Backend": {4, "Publish, Follow and Read are a file each, beside what they share"},
}

func TestShape(t *testing.T) {
	for _, fault := range misshapen(t, sources(t), spread) {
		t.Error(fault)
	}
}

// misshapen returns a sentence for each file of the library that is too long, each type whose
// methods stand in too many files, and each exception that nothing needs.
func misshapen(t *testing.T, files []source, exceptions map[string]exception) []string {
	t.Helper()
	var found []string
	rooms := make(map[string]map[string]bool) // of each type, the files that hold its methods
	for _, file := range files {
		if !isShaped(file.path) {
			continue
		}
		if n := bytes.Count(file.content, []byte("\n")); n > mostLines {
			found = append(found, fmt.Sprintf("%s has %d lines, %d are allowed", file.path, n, mostLines))
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file.path, file.content, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv == nil {
				continue
			}
			owner := path.Dir(file.path) + "." + receiverName(f.Recv.List[0].Type)
			if rooms[owner] == nil {
				rooms[owner] = make(map[string]bool)
			}
			rooms[owner][room(file.path, parsed)] = true
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(rooms)) {
		n, most := len(rooms[owner]), max(mostFiles, exceptions[owner].files)
		if n > most {
			found = append(found, fmt.Sprintf("the methods of %s stand in %d files, %d are allowed: %s",
				owner, n, most, strings.Join(slices.Sorted(maps.Keys(rooms[owner])), ", ")))
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(exceptions)) {
		switch e := exceptions[owner]; {
		case e.reason == "":
			found = append(found, fmt.Sprintf("the exception for %s has no reason", owner))
		case e.files <= mostFiles || len(rooms[owner]) < e.files:
			found = append(found, fmt.Sprintf("the exception for %s allows %d files, which it does not need", owner, e.files))
		}
	}
	return found
}

// isShaped reports whether a file is source of the library.
func isShaped(name string) bool {
	if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
		return false
	}
	for element := range strings.SplitSeq(path.Dir(name), "/") {
		if slices.Contains([]string{"examples", "integration", "testdata"}, element) {
			return false
		}
	}
	return true
}

// systems are the words that bind a file to a system, as the end of its name or in a build
// constraint.
var systems = []string{
	"aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "netbsd", "openbsd", "plan9", "solaris",
	"unix", "wasip1", "windows",
	"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x", "wasm",
}

// room returns the name that a file counts under: those that are bound to a system count as the one
// whose name theirs begins with, because a reader needs one of them only.
func room(name string, parsed *ast.File) string {
	room := strings.TrimSuffix(path.Base(name), ".go")
	bound := false
	for {
		stem, end, ok := cutLast(room, "_")
		if !ok || !slices.Contains(systems, end) {
			break
		}
		room, bound = stem, true
	}
	if stem, _, ok := cutLast(room, "_"); ok && !bound && constrained(parsed) {
		return stem // the rest: socket_other.go, for example
	}
	return room
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// constrained reports whether a file has a build constraint about systems.
func constrained(parsed *ast.File) bool {
	for _, group := range parsed.Comments {
		if group.Pos() >= parsed.Package {
			break
		}
		for _, comment := range group.List {
			if expr, err := constraint.Parse(comment.Text); err == nil && ofSystem(expr) {
				return true
			}
		}
	}
	return false
}

func ofSystem(expr constraint.Expr) bool {
	switch expr := expr.(type) {
	case *constraint.TagExpr:
		return slices.Contains(systems, expr.Tag)
	case *constraint.NotExpr:
		return ofSystem(expr.X)
	case *constraint.AndExpr:
		return ofSystem(expr.X) || ofSystem(expr.Y)
	case *constraint.OrExpr:
		return ofSystem(expr.X) || ofSystem(expr.Y)
	}
	return false
}

// TestShapeIsChecked plants one fault after the other into a tree without any.
func TestShapeIsChecked(t *testing.T) {
	long := func(lines int) string { return "package p\n" + strings.Repeat("\n", lines-1) }
	// method is a file with a method of T.
	method := func(name string) string { return "package p\n\nfunc (*T) " + name + "() {}\n" }
	tests := []struct {
		name       string
		files      map[string]string
		exceptions map[string]exception
		want       string // "" when nothing is wrong
	}{
		{"as long as allowed", map[string]string{"p/a.go": long(400)}, nil, ""},
		{"too long", map[string]string{"p/a.go": long(401)}, nil, "p/a.go has 401 lines"},
		{"too long, in internal", map[string]string{"p/internal/a.go": long(401)}, nil, "p/internal/a.go has 401 lines"},
		{"a long test", map[string]string{"p/a_test.go": long(401)}, nil, ""},
		{"a long example", map[string]string{"examples/p/a.go": long(401)}, nil, ""},
		{"two files", map[string]string{"p/a.go": method("A") + "\nfunc (*T) C() {}\n", "p/b.go": method("B")}, nil, ""},
		{"three files", map[string]string{"p/a.go": method("A"), "p/b.go": method("B"), "p/c.go": method("C")}, nil,
			"the methods of p.T stand in 3 files, 2 are allowed: a, b, c"},
		{"three files, one a test", map[string]string{"p/a.go": method("A"), "p/b.go": method("B"), "p/c_test.go": method("C")}, nil, ""},
		{"three files of a generic type", map[string]string{
			"p/a.go": "package p\n\nfunc (T[V]) A() {}\n", "p/b.go": "package p\n\nfunc (*T[V]) B() {}\n", "p/c.go": method("C"),
		}, nil, "the methods of p.T stand in 3 files"},
		{"types of the same name in two packages", map[string]string{
			"p/a.go": method("A"), "p/b.go": method("B"), "q/c.go": method("C"),
		}, nil, ""},
		{"kin by their names", map[string]string{
			"p/a.go": method("A"), "p/b.go": method("B"), "p/b_linux.go": method("C"), "p/b_windows_arm64.go": method("C"),
		}, nil, ""},
		{"kin by a constraint", map[string]string{
			"p/a.go": method("A"), "p/b_linux.go": method("B"), "p/b_other.go": "//go:build !linux\n\n" + method("B"),
		}, nil, ""},
		{"a constraint that is not about systems", map[string]string{
			"p/a.go": method("A"), "p/b_linux.go": method("B"), "p/b_other.go": "//go:build race\n\n" + method("B"),
		}, nil, "stand in 3 files, 2 are allowed: a, b, b_other"},
		{"no kin", map[string]string{"p/a.go": method("A"), "p/b_linux.go": method("B"), "p/c_darwin.go": method("B")}, nil,
			"stand in 3 files, 2 are allowed: a, b, c"},
		{"an exception", map[string]string{"p/a.go": method("A"), "p/b.go": method("B"), "p/c.go": method("C")},
			map[string]exception{"p.T": {3, "because"}}, ""},
		{"more than an exception", map[string]string{
			"p/a.go": method("A"), "p/b.go": method("B"), "p/c.go": method("C"), "p/d.go": method("D"),
		}, map[string]exception{"p.T": {3, "because"}}, "stand in 4 files, 3 are allowed"},
		{"an exception that is too wide", map[string]string{"p/a.go": method("A"), "p/b.go": method("B"), "p/c.go": method("C")},
			map[string]exception{"p.T": {4, "because"}}, "the exception for p.T allows 4 files"},
		{"an exception for nothing", nil, map[string]exception{"p.T": {3, "because"}}, "the exception for p.T allows 3 files"},
		{"an exception without a reason", map[string]string{"p/a.go": method("A"), "p/b.go": method("B"), "p/c.go": method("C")},
			map[string]exception{"p.T": {files: 3}}, "the exception for p.T has no reason"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var files []source
			for name, content := range test.files {
				files = append(files, source{name, []byte(content)})
			}
			found := strings.Join(misshapen(t, files, test.exceptions), "\n")
			if test.want == "" && found != "" || !strings.Contains(found, test.want) {
				t.Errorf("found %q, want %q", found, test.want)
			}
		})
	}
}
