package headrace_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/headrace/headrace"

// rule says what the packages it matches may import, tests apart. Packages of this repository, in
// whichever of its modules, are written relative to its root, the root itself as ".", and "x/..."
// matches everything below x.
type rule struct {
	packages string
	// own lists the packages of this repository that may be imported.
	own []string
	// modules lists the other modules that may be imported; "*" allows any.
	modules []string
	// pure demands that nothing outside the standard library and this repository is reached,
	// through imports of imports either.
	pure bool
	// never lists modules that must not be reached, through imports of imports either.
	never []string
	// required demands that the package exists.
	required bool
}

const miniredis = "github.com/alicebob/miniredis/v2"

// rules are the arrows of DESIGN.md. The first rule that matches a package is the one that holds
// for it.
var rules = []rule{
	{packages: "."},
	{packages: "hub", own: []string{"internal/log", "internal/retry"}, pure: true, required: true},
	{packages: "sse", own: []string{"internal/netconn", "internal/query", "internal/writers"}, pure: true, required: true},
	{packages: "sse/feed", own: []string{"hub", "sse", "sse/feed/internal/...", "internal/query", "internal/writers"}, pure: true, required: true},
	{packages: "sse/feed/internal/cursor", own: []string{"hub"}, pure: true},
	{packages: "sse/feed/internal/session", own: []string{"hub", "sse", "sse/feed/internal/cursor"}, pure: true},
	{packages: "sse/feed/internal/direct", own: []string{"hub", "sse", "sse/feed/internal/session", "internal/netconn", "internal/writers"}, pure: true},
	{packages: "ginsse", own: []string{"hub", "sse", "sse/feed"},
		modules: []string{"github.com/gin-gonic/gin"}, required: true},

	{packages: "js", pure: true},

	{packages: "backends", own: []string{"hub"}, pure: true, required: true},
	{packages: "backends/memory", own: []string{"hub", "backends", "internal/log"}, pure: true, required: true},
	{packages: "backends/backendtest", own: []string{"hub", "backends", "internal/log"}, pure: true, required: true},
	{packages: "backends/redisstream/internal/dial", pure: true},
	{packages: "backends/redisstream", own: []string{"hub", "backends", "backends/redisstream/internal/dial", "internal/queue", "internal/retry"},
		modules: []string{"github.com/redis/go-redis/v9"}, never: []string{miniredis}},
	{packages: "backends/redisstream/embedded", own: []string{"hub", "backends", "backends/redisstream", "backends/redisstream/internal/dial"},
		modules: []string{"github.com/redis/go-redis/v9", miniredis}},
	{packages: "backends/watermill", own: []string{"hub", "backends", "internal/queue"},
		modules: []string{"github.com/ThreeDotsLabs/watermill"}},
	{packages: "backends/all", own: []string{"backends/..."}},

	{packages: "internal/cursortest", own: []string{"hub", "sse", "sse/feed"}, pure: true},
	{packages: "internal/...", own: []string{"internal/..."}, pure: true},

	{packages: "examples/...", own: []string{"..."}, modules: []string{"*"}},
	{packages: "integration/...", own: []string{"..."}, modules: []string{"*"}},
}

// testOnly are packages that only tests may import: they bring the testing package, and its
// flags, into a program.
var testOnly = []string{"backends/backendtest", "internal/cursortest", "internal/golden", "internal/testenv"}

func TestArrows(t *testing.T) {
	// Files can be bound to a system, and so can what they import.
	for _, system := range []string{"linux", "darwin", "windows"} {
		t.Run(system, func(t *testing.T) {
			var packages []listed
			seen := make(map[string]bool)
			for _, dir := range moduleFolders(t) {
				if slices.Contains(unlisted, dir) {
					continue
				}
				for _, p := range listPackages(t, dir, system) {
					if !seen[p.ImportPath] {
						seen[p.ImportPath] = true
						packages = append(packages, p)
					}
				}
			}
			for _, violation := range violations(rules, packages) {
				t.Error(violation)
			}
		})
	}
}

// unlisted are modules that this test does not look at: their packages may import anything, as all
// below integration, and listing them would download the libraries of every broker and every peer.
var unlisted = []string{"integration/bench", "integration/brokers"}

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Standard   bool
	Module     *struct{ Path string }
	Imports    []string
	Deps       []string
}

// listPackages lists the packages of the module in a folder, and all that they import.
func listPackages(t *testing.T, dir, system string) []listed {
	t.Helper()
	// The test cache sees files that this process opens, not those that go list reads: without
	// this walk a stale result would be served after an import was added.
	sources(t)
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,Module,Imports,Deps", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
}

// violations returns a sentence for each import that no rule allows, each package without a rule
// and each required one that is absent.
func violations(rules []rule, packages []listed) []string {
	var found []string
	report := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	known := make(map[string]listed)
	for _, p := range packages {
		known[p.ImportPath] = p
	}
	for _, p := range packages {
		name, own := relative(p.ImportPath)
		if !own {
			continue
		}
		i := slices.IndexFunc(rules, func(r rule) bool { return matches(r.packages, name) })
		if i < 0 {
			report("%s has no rule: add one to the table, and its arrow to DESIGN.md", name)
			continue
		}
		r := rules[i]
		for _, imported := range p.Imports {
			if target, own := relative(imported); own {
				if !slices.ContainsFunc(r.own, func(pattern string) bool { return matches(pattern, target) }) {
					report("%s must not import %s", name, target)
				}
				if slices.Contains(testOnly, target) {
					report("%s imports %s, which only tests may", name, target)
				}
				if matches("examples/...", target) && !matches("examples/...", name) {
					report("%s imports %s, which only examples may", name, target)
				}
			} else if m := module(known[imported]); m != "" && !slices.Contains(r.modules, m) && !slices.Contains(r.modules, "*") {
				report("%s must not import module %s", name, m)
			}
		}
		for _, dep := range p.Deps {
			if _, own := relative(dep); own {
				continue
			}
			if m := module(known[dep]); m != "" && (r.pure || slices.Contains(r.never, m)) {
				report("%s must not reach module %s (package %s)", name, m, dep)
			}
		}
	}
	for _, r := range rules {
		if _, ok := known[path.Join(modulePath, r.packages)]; r.required && !ok {
			report("%s does not exist", r.packages)
		}
	}
	return found
}

// module returns the path of the module that a package comes from, "" for the standard library.
func module(p listed) string {
	switch {
	case p.Standard:
		return ""
	case p.Module == nil:
		return "of unknown name"
	}
	return p.Module.Path
}

// relative returns a package's path from the root of this repository, and whether it belongs to
// it at all.
func relative(importPath string) (string, bool) {
	if importPath == modulePath {
		return ".", true
	}
	return strings.CutPrefix(importPath, modulePath+"/")
}

// matches reports whether a package of this repository is the one that a pattern names or, for
// "x/...", lies below it.
func matches(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	top, all := strings.CutSuffix(pattern, "/...")
	return name == top || all && strings.HasPrefix(name, top+"/")
}

// TestArrowsAreChecked plants one fault after the other into a tree without any.
func TestArrowsAreChecked(t *testing.T) {
	const gin = "github.com/gin-gonic/gin"
	foreign := func(module string) listed { return listed{ImportPath: module, Module: &struct{ Path string }{module}} }
	tree := func() map[string]*listed {
		m := make(map[string]*listed)
		add := func(name string, imports ...string) {
			m[name] = &listed{ImportPath: path.Join(modulePath, name), Imports: imports, Deps: imports}
		}
		add("hub", "context", modulePath+"/internal/log")
		add("internal/log")
		add("internal/testenv", "testing")
		add("sse")
		add("sse/feed", modulePath+"/hub", modulePath+"/sse")
		add("ginsse", modulePath+"/sse/feed", gin)
		add("backends", modulePath+"/hub")
		add("backends/memory", modulePath+"/backends", modulePath+"/hub")
		add("backends/backendtest", modulePath+"/hub")
		add("backends/redisstream", modulePath+"/hub")
		add("examples/tickets", modulePath+"/ginsse", gin)
		return m
	}
	tests := []struct {
		name  string
		plant func(map[string]*listed)
		want  string // "" when nothing is wrong
	}{
		{"no fault", func(map[string]*listed) {}, ""},
		{"an arrow outwards", func(m map[string]*listed) { m["hub"].Imports = []string{modulePath + "/sse"} }, "hub must not import sse"},
		{"an arrow to the side", func(m map[string]*listed) { m["sse"].Imports = []string{modulePath + "/hub"} }, "sse must not import hub"},
		{"an internal package the rule does not list", func(m map[string]*listed) {
			m["hub"].Imports = []string{modulePath + "/internal/testenv"}
		}, "hub must not import internal/testenv"},
		{"a foreign module", func(m map[string]*listed) { m["ginsse"].Imports = []string{miniredis} }, "ginsse must not import module " + miniredis},
		{"a foreign module behind an import", func(m map[string]*listed) { m["backends"].Deps = []string{gin} },
			"backends must not reach module " + gin},
		{"a module that is barred, behind an import", func(m map[string]*listed) { m["backends/redisstream"].Deps = []string{miniredis} },
			"backends/redisstream must not reach module " + miniredis},
		{"a suite outside tests", func(m map[string]*listed) {
			m["sse/feed"].Imports = []string{modulePath + "/internal/testenv"}
		}, "sse/feed imports internal/testenv"},
		{"an example in the library", func(m map[string]*listed) {
			m["ginsse"].Imports = []string{modulePath + "/examples/tickets"}
		}, "ginsse imports examples/tickets"},
		{"a required package is gone", func(m map[string]*listed) { delete(m, "sse") }, "sse does not exist"},
		{"a folder that all below it share a rule with", func(m map[string]*listed) {
			m["integration"] = &listed{ImportPath: modulePath + "/integration", Imports: []string{gin}}
		}, ""},
		{"a folder that only begins like one with a rule", func(m map[string]*listed) {
			m["integration2"] = &listed{ImportPath: modulePath + "/integration2"}
		}, "integration2 has no rule"},
		{"a package without a rule", func(m map[string]*listed) {
			m["util"] = &listed{ImportPath: modulePath + "/util"}
		}, "util has no rule"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := tree()
			test.plant(m)
			packages := []listed{foreign(gin), foreign(miniredis), {ImportPath: "context", Standard: true}, {ImportPath: "testing", Standard: true}}
			for _, p := range m {
				packages = append(packages, *p)
			}
			found := strings.Join(violations(rules, packages), "\n")
			if test.want == "" && found != "" || !strings.Contains(found, test.want) {
				t.Errorf("found %q, want %q", found, test.want)
			}
		})
	}
}
