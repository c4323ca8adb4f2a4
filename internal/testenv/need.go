package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// requireVariable names the tools, separated by commas, that must be there: a test that lacks one of them fails.
const requireVariable = "HEADRACE_REQUIRE"

// tools maps each tool to the names its program goes by, the preferred one first.
var tools = map[string][]string{
	"redis":    {"redis-server"},
	"nginx":    {"nginx"},
	"chromium": {"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"},
}

// daemonDirs are searched after PATH: Debian keeps daemons out of an ordinary user's PATH.
var daemonDirs = []string{"/usr/local/sbin", "/usr/sbin", "/sbin"}

// Need returns the path of a tool's program, for the tools redis (redis-server), nginx and chromium. Where the program is not
// installed it skips the test, saying how to get it, or fails the test if the environment variable HEADRACE_REQUIRE, a list separated
// by commas, names the tool. An unknown name, in the call or in the variable, fails the test too. Like t.Skip and t.Fatal, Need must
// be called from the goroutine of the test.
func Need(t testing.TB, tool string) string {
	t.Helper()
	required := required()
	for _, name := range append(required, tool) {
		if tools[name] == nil {
			t.Fatalf("testenv: unknown tool %q in the call or in %s", name, requireVariable)
		}
	}
	if path := find(tools[tool]); path != "" {
		return path
	}
	const advice = "testenv: %s is not installed (looked for %s): run make deps"
	programs := strings.Join(tools[tool], ", ")
	if slices.Contains(required, tool) {
		t.Fatalf(advice+"; %s demands it", tool, programs, requireVariable)
	}
	t.Skipf(advice, tool, programs)
	return ""
}

func required() []string {
	split := func(r rune) bool { return r == ',' || r == ' ' }
	return strings.FieldsFunc(os.Getenv(requireVariable), split)
}

func find(programs []string) string {
	for _, program := range programs {
		if path, err := exec.LookPath(program); err == nil {
			return path
		}
		for _, dir := range daemonDirs {
			if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
				return path
			}
		}
	}
	return ""
}
