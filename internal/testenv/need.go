package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// requireVariable names the tools, separated by commas, that must be there: a test that lacks one
// of them fails.
const requireVariable = "HEADRACE_REQUIRE"

// tools maps each tool to the names its program goes by, the preferred one first.
var tools = map[string][]string{
	"redis":    {"redis-server"},
	"rabbitmq": {"rabbitmq-server"},
	"postgres": {"postgres"},
	"nginx":    {"nginx"},
	"haproxy":  {"haproxy"},
	"caddy":    {"caddy"},
	"apache":   {"apache2"},
	"chromium": {"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"},
	"node":     {"node", "nodejs"},
	"ip":       {"ip"},
}

// daemonDirs are searched after PATH, each a pattern as filepath.Match takes it: Debian keeps
// daemons out of an ordinary user's PATH, and those of PostgreSQL out of everybody's.
var daemonDirs = []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/lib/postgresql/*/bin"}

// Need returns the path of a tool's program, for the tools redis (redis-server), rabbitmq
// (rabbitmq-server), postgres, nginx, haproxy, caddy, apache (apache2), chromium, node and ip.
// Where the program is not installed it skips the test, saying how to get it, or fails the test if
// the environment variable HEADRACE_REQUIRE, a list separated by commas, names the tool. An unknown
// name, in the call or in the variable, fails the test too. Like t.Skip and t.Fatal, Need must be
// called from the goroutine of the test.
func Need(t testing.TB, tool string) string {
	t.Helper()
	check(t, tool)
	path := find(tools[tool])
	if path == "" {
		Lacks(t, tool, fmt.Sprintf("%s is not installed (looked for %s)", tool, strings.Join(tools[tool], ", ")))
	}
	return path
}

// Lacks ends a test that lacks something which make deps installs for a tool, as Need does where
// the program itself is missing. It says what: "the package x is not installed". It never
// returns.
func Lacks(t testing.TB, tool, what string) {
	t.Helper()
	const advice = "testenv: %s: run make deps"
	if slices.Contains(check(t, tool), tool) {
		t.Fatalf(advice+"; %s demands it", what, requireVariable)
	}
	t.Skipf(advice, what)
}

// check returns the tools that must be there, all of which are known, and so is the one named.
func check(t testing.TB, tool string) []string {
	t.Helper()
	split := func(r rune) bool { return r == ',' || r == ' ' }
	required := strings.FieldsFunc(os.Getenv(requireVariable), split)
	for _, name := range append(required, tool) {
		if tools[name] == nil {
			t.Fatalf("testenv: unknown tool %q in the call or in %s", name, requireVariable)
		}
	}
	return required
}

func find(programs []string) string {
	for _, program := range programs {
		if path, err := exec.LookPath(program); err == nil {
			return path
		}
		for _, dir := range daemonDirs {
			// Of several versions the last one, which is the newest.
			found, _ := filepath.Glob(filepath.Join(dir, program))
			for _, file := range slices.Backward(found) {
				if path, err := exec.LookPath(file); err == nil {
					return path
				}
			}
		}
	}
	return ""
}
