package brokertest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// fakeT is a testing.TB that lets a failing check be looked at. It embeds a nil TB, which has
// methods that only package testing can write; the checks use none that is not here.
type fakeT struct {
	testing.TB
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	failed   bool
	skipped  bool
	lines    []string
	cleanups []func()
}

// try runs f like a subtest, with what it registers for cleaning up.
func try(f func(t testing.TB)) *fakeT {
	t := &fakeT{}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.guard(func() { f(t) })
	t.cancel()
	for len(t.cleanups) > 0 {
		last := t.cleanups[len(t.cleanups)-1]
		t.cleanups = t.cleanups[:len(t.cleanups)-1]
		t.guard(last)
	}
	return t
}

// guard runs f in a goroutine that FailNow can end.
func (t *fakeT) guard(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (t *fakeT) note(mark *bool, s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mark != nil {
		*mark = true
	}
	t.lines = append(t.lines, s)
}

func (t *fakeT) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "; ")
}

func (t *fakeT) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

func (t *fakeT) Helper()                   {}
func (t *fakeT) Context() context.Context  { return t.ctx }
func (t *fakeT) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *fakeT) Logf(f string, a ...any)   { t.note(nil, fmt.Sprintf(f, a...)) }
func (t *fakeT) Errorf(f string, a ...any) { t.note(&t.failed, fmt.Sprintf(f, a...)) }
func (t *fakeT) Fatalf(f string, a ...any) { t.Errorf(f, a...); runtime.Goexit() }
func (t *fakeT) Fatal(a ...any)            { t.note(&t.failed, fmt.Sprint(a...)); runtime.Goexit() }
func (t *fakeT) Skip(a ...any)             { t.note(&t.skipped, fmt.Sprint(a...)); runtime.Goexit() }
