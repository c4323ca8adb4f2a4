package backendtest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// fakeT is a testing.TB that lets a failing rule be looked at. It embeds a nil TB, which has
// methods that only package testing can write; the suite uses none that is not here.
type fakeT struct {
	testing.TB
	name string

	mu       sync.Mutex
	failed   bool
	skipped  bool
	lines    []string
	cleanups []func()
}

// try runs f like a subtest, with what it registers for cleaning up.
func try(name string, f func(t testing.TB)) *fakeT {
	t := &fakeT{name: "Test/" + strings.ReplaceAll(name, " ", "_")}
	t.guard(func() { f(t) })
	for len(t.cleanups) > 0 {
		last := t.cleanups[len(t.cleanups)-1]
		t.cleanups = t.cleanups[:len(t.cleanups)-1]
		t.guard(last)
	}
	return t
}

// guard runs f in a goroutine that FailNow can end, and takes a panic for a failure.
func (t *fakeT) guard(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("panic: %v", p)
			}
		}()
		f()
	}()
	<-done
}

func (t *fakeT) log(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, s)
}

func (t *fakeT) mark(b *bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*b = true
}

func (t *fakeT) get(b *bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return *b
}

func (t *fakeT) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "; ")
}

func (t *fakeT) Name() string               { return t.name }
func (t *fakeT) Helper()                    {}
func (t *fakeT) Context() context.Context   { return context.Background() }
func (t *fakeT) Cleanup(f func())           { t.cleanups = append(t.cleanups, f) }
func (t *fakeT) Failed() bool               { return t.get(&t.failed) }
func (t *fakeT) Skipped() bool              { return t.get(&t.skipped) }
func (t *fakeT) Fail()                      { t.mark(&t.failed) }
func (t *fakeT) FailNow()                   { t.Fail(); runtime.Goexit() }
func (t *fakeT) SkipNow()                   { t.mark(&t.skipped); runtime.Goexit() }
func (t *fakeT) Log(args ...any)            { t.log(fmt.Sprint(args...)) }
func (t *fakeT) Logf(f string, args ...any) { t.log(fmt.Sprintf(f, args...)) }
func (t *fakeT) Error(args ...any)          { t.Log(args...); t.Fail() }
func (t *fakeT) Errorf(f string, a ...any)  { t.Logf(f, a...); t.Fail() }
func (t *fakeT) Fatal(args ...any)          { t.Log(args...); t.FailNow() }
func (t *fakeT) Fatalf(f string, a ...any)  { t.Logf(f, a...); t.FailNow() }
func (t *fakeT) Skip(args ...any)           { t.Log(args...); t.SkipNow() }
func (t *fakeT) Skipf(f string, a ...any)   { t.Logf(f, a...); t.SkipNow() }
