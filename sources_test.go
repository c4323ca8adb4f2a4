package headrace_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// source is one file of the repository, its path with slashes from the root.
type source struct {
	path    string
	content []byte
}

// sources reads the repository's text files. Folders that git ignores or owns are left out.
func sources(t *testing.T) []source {
	t.Helper()
	var files []source
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", ".bin", "node_modules"}, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if bytes.IndexByte(content, 0) < 0 {
			files = append(files, source{filepath.ToSlash(name), content})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// marks are those of unfinished work; written so that they are not found here.
var marks = []string{"TO" + "DO", "FIX" + "ME", "XX" + "X"}

var unfinished = regexp.MustCompile(`\b(` + strings.Join(marks, "|") + `)\b`)

func TestNothingIsMarkedUnfinished(t *testing.T) {
	for _, file := range sources(t) {
		// The expression alone takes seconds under the race detector.
		if !slices.ContainsFunc(marks, func(mark string) bool { return bytes.Contains(file.content, []byte(mark)) }) {
			continue
		}
		for i, line := range bytes.Split(file.content, []byte("\n")) {
			if mark := unfinished.Find(line); mark != nil {
				t.Errorf("%s:%d: %s", file.path, i+1, mark)
			}
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	packages := make(map[string][]source)
	for _, file := range sources(t) {
		if dir := path.Dir(file.path); isLibrary(dir) && strings.HasSuffix(file.path, ".go") && !strings.HasSuffix(file.path, "_test.go") {
			packages[dir] = append(packages[dir], file)
		}
	}
	for _, files := range packages {
		for _, complaint := range undocumented(t, files) {
			t.Error(complaint)
		}
	}
}

// isLibrary reports whether a folder holds a package that users import.
func isLibrary(dir string) bool {
	for element := range strings.SplitSeq(dir, "/") {
		if slices.Contains([]string{"internal", "examples", "integration", "testdata"}, element) {
			return false
		}
	}
	return true
}

// undocumented returns a sentence for each exported name in a package's files, and for the
// package, that has no comment.
func undocumented(t *testing.T, files []source) []string {
	t.Helper()
	d := docs{fset: token.NewFileSet()}
	packageDoc := false
	for _, file := range files {
		parsed, err := parser.ParseFile(d.fset, file.path, file.content, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		packageDoc = packageDoc || written(parsed.Doc)
		for _, decl := range parsed.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				d.function(decl)
			case *ast.GenDecl:
				d.group(decl)
			}
		}
	}
	if !packageDoc {
		d.found = append(d.found, path.Dir(files[0].path)+": the package has no comment")
	}
	return d.found
}

// docs collects what is exported without a comment.
type docs struct {
	fset  *token.FileSet
	found []string
}

func (d *docs) report(pos token.Pos, format string, args ...any) {
	d.found = append(d.found, fmt.Sprintf("%s: ", d.fset.Position(pos))+fmt.Sprintf(format, args...))
}

// function wants a comment on a function, and on a method whose type is exported, that begins
// with its name.
func (d *docs) function(f *ast.FuncDecl) {
	name := f.Name.Name
	if !f.Name.IsExported() {
		return
	}
	if f.Recv != nil {
		receiver := receiverName(f.Recv.List[0].Type)
		if !ast.IsExported(receiver) {
			return
		}
		name = receiver + "." + name
	}
	d.named(f.Pos(), name, f.Name.Name, f.Doc)
}

// group wants a comment on each exported type, and for constants and variables one on the name,
// its line or its group.
func (d *docs) group(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if !spec.Name.IsExported() {
				continue
			}
			doc := spec.Doc
			if doc == nil && !g.Lparen.IsValid() {
				doc = g.Doc
			}
			d.named(spec.Pos(), spec.Name.Name, spec.Name.Name, doc)
			switch kind := spec.Type.(type) {
			case *ast.StructType:
				d.fields(spec.Name.Name, kind.Fields)
			case *ast.InterfaceType:
				d.fields(spec.Name.Name, kind.Methods)
			}
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				if name.IsExported() && !written(g.Doc) && !written(spec.Doc) && !written(spec.Comment) {
					d.report(name.Pos(), "%s has no comment", name.Name)
				}
			}
		}
	}
}

// fields wants a comment on each exported field or interface method. One comment may speak for
// fields on consecutive lines, as in the standard library.
func (d *docs) fields(owner string, list *ast.FieldList) {
	coveredLine := -1
	for _, field := range list.List {
		covered := written(field.Doc) || written(field.Comment) || d.fset.Position(field.Pos()).Line == coveredLine+1
		if covered {
			coveredLine = d.fset.Position(field.End()).Line
		}
		for _, name := range field.Names {
			if name.IsExported() && !covered {
				d.report(name.Pos(), "%s.%s has no comment", owner, name.Name)
			}
		}
	}
}

// named wants a comment that begins with the name, after an article at most.
func (d *docs) named(pos token.Pos, label, name string, doc *ast.CommentGroup) {
	if !written(doc) {
		d.report(pos, "%s has no comment", label)
		return
	}
	text := doc.Text()
	for _, article := range []string{"A ", "An ", "The "} {
		text = strings.TrimPrefix(text, article)
	}
	inName := func(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }
	if first := text[:len(text)-len(strings.TrimLeftFunc(text, inName))]; first != name {
		d.report(pos, "the comment on %s begins with %q", label, first)
	}
}

// written reports whether a comment says anything: directives and commentary without words do not
// count.
func written(doc *ast.CommentGroup) bool {
	return strings.TrimSpace(doc.Text()) != ""
}

func receiverName(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.StarExpr:
		return receiverName(expr.X)
	case *ast.IndexExpr:
		return receiverName(expr.X)
	case *ast.IndexListExpr:
		return receiverName(expr.X)
	case *ast.Ident:
		return expr.Name
	}
	return ""
}

// TestDocumentationIsChecked plants names without a comment, one of each kind.
func TestDocumentationIsChecked(t *testing.T) {
	tests := []struct {
		name, code string
		want       string // "" when nothing is wrong
	}{
		{"all there", "// F does.\nfunc F() {}\n// T is.\ntype T[V any] struct {\n\t// A is.\n\tA int\n\tB int\n}\n// M does.\nfunc (*T[V]) M() {}", ""},
		{"not exported", "func f() {}\ntype t struct{ A int }\nfunc (t) M() {}\nvar v int", ""},
		{"function", "func F() {}", "F has no comment"},
		{"function with a directive only", "//go:noinline\nfunc F() {}", "F has no comment"},
		{"function, comment about something else", "// Does a thing.\nfunc F() {}", `the comment on F begins with "Does"`},
		{"method", "// T is.\ntype T int\nfunc (*T) M() {}", "T.M has no comment"},
		{"method of a generic type", "// T is.\ntype T[A, B any] struct{}\nfunc (T[A, B]) M() {}", "T.M has no comment"},
		{"type", "type T int", "T has no comment"},
		{"type in a group with a comment", "// Types.\ntype (\n\tT int\n)", "T has no comment"},
		{"an article before the name", "// A T is.\ntype T int", ""},
		{"field", "// T is.\ntype T struct {\n\tA int\n}", "T.A has no comment"},
		{"field, comment on its line", "// T is.\ntype T struct {\n\tA int // is\n}", ""},
		{"field after an empty line", "// T is.\ntype T struct {\n\t// A is.\n\tA int\n\n\tB int\n}", "T.B has no comment"},
		{"interface method", "// I is.\ntype I interface {\n\tM()\n}", "I.M has no comment"},
		{"constant", "const C = 1", "C has no comment"},
		{"constants under a comment", "// The kinds.\nconst (\n\tC = 1\n\tD = 2\n)", ""},
		{"variable, comment on its line", "var V int // is", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			found := undocumented(t, []source{{"p/p.go", []byte("// Package p is.\npackage p\n\n" + test.code + "\n")}})
			if got := strings.Join(found, "\n"); test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
	if found := undocumented(t, []source{{"p/p.go", []byte("package p\n")}}); len(found) != 1 {
		t.Errorf("a package without a comment: found %q", found)
	}
}
