package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// fakeTB records how Need ended a test. Like the real ones, Skipf and Fatalf end the goroutine.
type fakeTB struct {
	testing.TB
	outcome string
	message string
}

func (f *fakeTB) Helper() {}

func (f *fakeTB) Skipf(format string, args ...any) { f.end("skip", format, args) }

func (f *fakeTB) Fatalf(format string, args ...any) { f.end("fail", format, args) }

func (f *fakeTB) end(outcome, format string, args []any) {
	f.outcome, f.message = outcome, fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// need calls Need as a test of its own would, and returns the path and how the test ended.
func need(tool string) (path string, tb *fakeTB) {
	tb = &fakeTB{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		path = Need(tb, tool)
	}()
	<-done
	return path, tb
}

func TestLacks(t *testing.T) {
	for _, test := range []struct{ require, outcome string }{{"", "skip"}, {"redis", "skip"}, {"redis,node", "fail"}, {"nodejs", "fail"}} {
		t.Setenv(requireVariable, test.require)
		tb := &fakeTB{}
		done := make(chan struct{})
		go func() {
			defer close(done)
			Lacks(tb, "node", "the package x is not installed")
		}()
		<-done
		known := test.require != "nodejs"
		if told := strings.Contains(tb.message, "x is not installed"); tb.outcome != test.outcome || told != known {
			t.Errorf("required %q: outcome %q (%s), want %q", test.require, tb.outcome, tb.message, test.outcome)
		}
	}
}

// program puts an executable into dir.
func program(t *testing.T, dir, name string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestNeed(t *testing.T) {
	tests := []struct {
		name     string
		tool     string
		require  string
		path     []string // programs in PATH
		sbin     []string // programs in a folder for daemons
		want     string   // end of the path
		outcome  string
		messages []string
	}{
		{name: "in PATH", tool: "redis", path: []string{"redis-server"}, want: "redis-server"},
		{name: "in PATH and required", tool: "redis", require: "redis", path: []string{"redis-server"}, want: "redis-server"},
		{name: "among the daemons", tool: "nginx", sbin: []string{"nginx"}, want: "nginx"},
		{name: "among the daemons of the newest version", tool: "postgres", sbin: []string{"14/bin/postgres", "15/bin/postgres"}, want: "15/bin/postgres"},
		{name: "under another name", tool: "chromium", path: []string{"google-chrome"}, want: "google-chrome"},
		{name: "preferred name first", tool: "chromium", path: []string{"google-chrome", "chromium"}, want: "chromium"},
		{name: "missing", tool: "nginx", outcome: "skip", messages: []string{"nginx is not installed", "make deps"}},
		{name: "missing, another required", tool: "nginx", require: "redis,chromium", outcome: "skip"},
		{name: "missing and required", tool: "nginx", require: "redis,nginx", outcome: "fail",
			messages: []string{"nginx is not installed", "make deps", "HEADRACE_REQUIRE"}},
		{name: "required with spaces", tool: "nginx", require: "redis, nginx", outcome: "fail",
			messages: []string{"nginx is not installed"}},
		{name: "unknown tool", tool: "squid", outcome: "fail", messages: []string{`"squid"`}},
		{name: "unknown tool required", tool: "redis", require: "redis,chromum", path: []string{"redis-server"}, outcome: "fail",
			messages: []string{`"chromum"`, "HEADRACE_REQUIRE"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path, sbin := t.TempDir(), t.TempDir()
			for _, name := range test.path {
				program(t, path, name)
			}
			for _, name := range test.sbin {
				program(t, sbin, name)
			}
			t.Setenv("PATH", path)
			t.Setenv(requireVariable, test.require)
			dirs := daemonDirs
			daemonDirs = []string{sbin, filepath.Join(sbin, "*", "bin")}
			t.Cleanup(func() { daemonDirs = dirs })

			got, tb := need(test.tool)
			if tb.outcome != test.outcome {
				t.Errorf("outcome %q (%s), want %q", tb.outcome, tb.message, test.outcome)
			}
			end := strings.TrimSuffix(filepath.ToSlash(got), ".exe")
			if got != "" && !strings.HasSuffix(end, "/"+test.want) || got == "" && test.want != "" {
				t.Errorf("path %q, want %q", got, test.want)
			}
			for _, part := range test.messages {
				if !strings.Contains(tb.message, part) {
					t.Errorf("message %q lacks %q", tb.message, part)
				}
			}
		})
	}
}

// TestDepsKnowsEveryProgram keeps the script behind make deps in step with the programs looked
// for here.
func TestDepsKnowsEveryProgram(t *testing.T) {
	script, err := os.ReadFile(filepath.Join("..", "..", ".ci", "deps"))
	if err != nil {
		t.Fatal(err)
	}
	for tool, programs := range tools {
		if check := "have " + strings.Join(programs, " ") + " "; !strings.Contains(string(script), check) {
			t.Errorf(".ci/deps does not look for %s as %q", tool, check)
		}
	}
}
