package testenv

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestMain checks this package with its own check, but passes the outcome of the tests on by
// itself: a broken check must not hide it.
func TestMain(m *testing.M) {
	if serveInstead() {
		return
	}
	if code := m.Run(); code != 0 {
		os.Exit(code)
	}
	os.Exit(run(func() int { return 0 }, os.Stderr, leakPatience))
}

func TestRunKeepsTheCodeOfFailedTests(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	go func() { <-stop }()
	var out strings.Builder
	if code := run(func() int { return 3 }, &out, 0); code != 3 || out.Len() > 0 {
		t.Errorf("code %d, output %q; want 3 and no output", code, out.String())
	}
}

func TestRunPrintsWhatIsLeft(t *testing.T) {
	stop := make(chan struct{})
	started := make(chan struct{})
	var out strings.Builder
	code := run(func() int {
		go leakForTest(started, stop)
		<-started
		return 0
	}, &out, 0)
	close(stop)
	if code != 1 || !strings.Contains(out.String(), "leakForTest") {
		t.Errorf("code %d, output %q; want 1 and the stack of leakForTest", code, out.String())
	}
}

func leakForTest(started chan<- struct{}, stop <-chan struct{}) {
	close(started)
	<-stop
}

func TestLeakedWaits(t *testing.T) {
	const ends = 3 * time.Second
	for _, test := range []struct {
		patience, most time.Duration
		left           int
	}{{time.Second, 1200 * time.Millisecond, 1}, {time.Minute, ends + 200*time.Millisecond, 0}} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			left := leaked(test.patience, func() []string {
				if time.Since(start) < ends {
					return []string{"goroutine 7 [running]"}
				}
				return nil
			})
			if took := time.Since(start); len(left) != test.left || took < min(test.patience, ends) || took > test.most {
				t.Errorf("with patience %v: %d left after %v, want %d", test.patience, len(left), took, test.left)
			}
		})
	}
}

func TestOwnGoroutines(t *testing.T) {
	const caller = "goroutine 1 [running]:\ngithub.com/headrace/headrace/internal/testenv.stacks()\n\t/src/main.go:1 +0x1\n"
	tests := []struct {
		name  string
		stack string
		own   bool
	}{
		{"runs code of a package", "goroutine 7 [select]:\ngithub.com/headrace/headrace/hub.(*Hub).loop(0x1)\n\t/src/hub.go:1 +0x1", true},
		{"started by a package", "goroutine 7 [select]:\ntime.Sleep(0x1)\n\t/go/time.go:1 +0x1\n" +
			"created by github.com/headrace/headrace/hub.New in goroutine 1\n\t/src/hub.go:1 +0x1", true},
		{"runs a test of the root package", "goroutine 7 [select]:\ngithub.com/headrace/headrace_test.TestX(0x1)\n\t/src/x.go:1 +0x1", true},
		{"started by the root package", "goroutine 7 [select]:\ncreated by github.com/headrace/headrace.New in goroutine 1\n\t/src/x.go:1", true},
		{"names the module in a file's path only", "goroutine 7 [select]:\nnet/http.(*conn).serve(0x1)\n\tgithub.com/headrace/headrace/x.go:1", false},
		{"a module whose path begins alike", "goroutine 7 [select]:\ngithub.com/headrace/headrace2.Do()\n\t/src/x.go:1 +0x1", false},
		{"foreign", "goroutine 7 [IO wait]:\nnet/http.(*persistConn).readLoop(0x1)\n\t/go/http.go:1 +0x1", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := ownGoroutines(caller + "\n" + test.stack + "\n")
			if (len(got) == 1) != test.own {
				t.Errorf("got %q, want own %v", got, test.own)
			}
		})
	}
	if got := ownGoroutines(caller); len(got) != 0 {
		t.Errorf("the caller counts as left: %q", got)
	}
}
