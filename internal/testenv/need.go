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
	"rabbitmq": {"rabbitmq-server"},
	"postgres": {"postgres"},
	"nginx":    {"nginx"},
	"chromium": {"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"},
}

// daemonDirs are searched after PATH, each a pattern as filepath.Match takes it: Debian keeps daemons out of an ordinary user's PATH,
// and those of PostgreSQL out of everybody's.
var daemonDirs = []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/lib/postgresql/*/bin"}

// Need returns the path of a tool's program, for the tools redis (redis-server), rabbitmq (rabbitmq-server), postgres, nginx and
// chromium. Where the program is not installed it skips the test, saying how to get it, or fails the test if the environment variable
// HEADRACE_REQUIRE, a list separated by commas, names the tool. An unknown name, in the call or in the variable, fails the test too. Like t.Skip and t.Fatal, Need must
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
