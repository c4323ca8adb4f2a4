package testenv

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	modulePath = "github.com/headrace/headrace"
	// leakPatience is how long goroutines have to end after the last test returned.
	leakPatience = 5 * time.Second
)

// Main is the body of a package's TestMain:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
// It runs the tests and ends the process. When they passed, it waits up to five seconds for the
// goroutines that run or were started by code of this module to end; those that are left are
// printed with their stacks, and the exit code is 1. Goroutines that show no code of this module,
// such as an idle connection of net/http, do not count.
func Main(m *testing.M) {
	os.Exit(run(m.Run, os.Stderr, leakPatience))
}

func run(tests func() int, w io.Writer, patience time.Duration) int {
	if code := tests(); code != 0 {
		// Tests that failed need not have cleaned up, and their message must not drown.
		return code
	}
	left := leaked(patience, func() []string { return ownGoroutines(stacks()) })
	if len(left) == 0 {
		return 0
	}
	fmt.Fprintf(w, "testenv: %d goroutines of %s are left after the tests:\n\n%s\n", len(left), modulePath, strings.Join(left, "\n\n"))
	return 1
}

// leaked returns what is still listed after that time, or nothing as soon as nothing is.
func leaked(patience time.Duration, list func() []string) []string {
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		left := list()
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		// Looking again is the only way: nothing tells that a goroutine has ended.
		time.Sleep(pause)
	}
}

// stacks returns the stacks of all goroutines in the format of a panic, the caller's first.
func stacks() string {
	for size := 64 << 10; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return string(buf[:n])
		}
	}
}

// ownGoroutines returns those of the stacks that name this module, without the first one, which
// is the caller's.
func ownGoroutines(all string) []string {
	var own []string
	for _, stack := range strings.Split(strings.TrimSpace(all), "\n\n")[1:] {
		for line := range strings.Lines(stack) {
			if isOwn(strings.TrimPrefix(line, "created by ")) {
				own = append(own, stack)
				break
			}
		}
	}
	return own
}

// isOwn reports whether a function's name, as printed in a stack, belongs to this module. The
// character after the module's path tells its packages and their tests from a module whose path
// only begins like it.
func isOwn(function string) bool {
	rest, ok := strings.CutPrefix(function, modulePath)
	return ok && rest != "" && strings.ContainsRune("/._", rune(rest[0]))
}
