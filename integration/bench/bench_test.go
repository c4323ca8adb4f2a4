//go:build linux

package main

import (
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDigits(t *testing.T) {
	for f, want := range map[float64]string{0: "0", 0.0349: "0.035", 0.384: "0.38", 2.04: "2.0", 14.8: "15", 1234: "1234", -1.26: "-1.3", 0.000001: "0.0000"} {
		if got := digits(f); got != want {
			t.Errorf("%g: %s, want %s", f, got, want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{7}, 7}, {[]float64{3, 1}, 2}, {[]float64{9, 1, 4}, 4}} {
		if got := median(c.values); got != c.want {
			t.Errorf("%v: %g", c.values, got)
		}
	}
}

func TestArrived(t *testing.T) {
	whole := arrived{total: 50, least: 5, most: 5, connections: 10, promise: 5}
	if err := whole.check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*arrived){
		"one is missing":       func(a *arrived) { a.total, a.least = 49, 4 },
		"one is there twice":   func(a *arrived) { a.total, a.most = 51, 6 },
		"one for another":      func(a *arrived) { a.least, a.most = 4, 6 },
		"a connection ended":   func(a *arrived) { a.lost = 1 },
		"nothing was sent":     func(a *arrived) { *a = arrived{connections: 10} },
		"too few connections":  func(a *arrived) { a.total = 45 },
		"nobody was connected": func(a *arrived) { a.total, a.least, a.most = 0, 0, 0 },
	} {
		a := whole
		if change(&a); a.check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCPUTimeAndMemory(t *testing.T) {
	self := []int{os.Getpid()}
	before, err := cpuTime(self)
	if err != nil {
		t.Fatal(err)
	}
	x := 1.0
	for begin := time.Now(); time.Since(begin) < 20*time.Millisecond; {
		x = math.Sqrt(x + 1)
	}
	after, err := cpuTime(self)
	if err != nil || after <= before || before <= 0 {
		t.Errorf("%v, then %v: %v (%g)", before, after, err, x)
	}
	if m, err := memory(self); err != nil || m < 1<<20 {
		t.Errorf("%d bytes: %v", m, err)
	}
	if m, err := memory(append(self, self...)); err != nil || m < 2<<20 {
		t.Errorf("two: %d bytes: %v", m, err)
	}
	if _, err := memory([]int{-1}); err == nil {
		t.Error("a process that is none has memory")
	}
}

// script starts a shell script as a program.
func script(t *testing.T, text string) *program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := start(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p
}

func TestProgram(t *testing.T) {
	p := script(t, `while read -r line; do echo progress 5; echo "got 7 $line"; done`)
	told := make(chan string, 1)
	p.onProgress(func(count string) { told <- count })
	var n int
	var word string
	if err := p.ask(t.Context(), time.Minute, "hello", "got", &n, &word); err != nil || n != 7 || word != "hello" {
		t.Errorf("%d %q: %v", n, word, err)
	}
	if count := <-told; count != "5" {
		t.Errorf("progress %q", count)
	}
	p.onProgress(nil)
	if err := p.ask(t.Context(), time.Minute, "hello", "done"); err == nil {
		t.Error("an answer to something else is taken")
	}
	p.stop()
	if p.cmd.ProcessState == nil {
		t.Error("it runs still")
	}
}

func TestProgramFails(t *testing.T) {
	p := script(t, `echo sorry >&2; exit 1`)
	<-p.done
	if err := p.answer(t.Context(), time.Minute, "ready"); err == nil || !strings.Contains(err.Error(), "sorry") {
		t.Errorf("got %v", err)
	}
	p = script(t, `read -r line`)
	if err := p.answer(t.Context(), time.Millisecond, "ready"); err == nil {
		t.Error("silence is an answer")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.answer(ctx, time.Minute, "ready"); err == nil {
		t.Error("the end of the context is an answer")
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var tl tail
	for range 1000 {
		_, _ = tl.Write([]byte("0123456789"))
	}
	_, _ = tl.Write([]byte("end\n"))
	if s := tl.String(); len(s) > tailSize || !strings.HasSuffix(s, "789end") {
		t.Errorf("%d bytes, %q", len(s), s[max(0, len(s)-10):])
	}
}

// TestContenders holds the list against the folders, so that each program has a row and each row a
// program.
func TestContenders(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range contenders {
		seen[c.program] = true
		if _, err := os.Stat(filepath.Join("peers", c.program, "main.go")); err != nil {
			t.Error(err)
		}
		if !c.delivers && !c.connects && !c.replays {
			t.Errorf("%s is not measured", c.name)
		}
	}
	folders, err := os.ReadDir("peers")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		if !seen[f.Name()] {
			t.Errorf("peers/%s has no row", f.Name())
		}
	}
	if list, err := (&bench{}).choose(contenders, "raw,headrace"); err != nil || len(list) != 2 {
		t.Errorf("chosen: %v, %v", list, err)
	}
	if _, err := (&bench{}).choose(contenders, "raw,nobody"); err == nil {
		t.Error("nobody can be chosen")
	}
}

// TestDelivers runs the whole on two servers and four shapes, small.
func TestDelivers(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds programs")
	}
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/", "./load", "./peers/raw", "./peers/gosse")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := reduced()
	s.conns, s.idle, s.seconds, s.warm, s.retained, s.readers = 20, 200, 0.2, 0.1, 500, 4
	s.profile = filepath.Join(dir, "profiles")
	b := &bench{scale: s, dir: dir}
	servers, err := b.choose(contenders, "raw,go-sse")
	if err != nil {
		t.Fatal(err)
	}
	list, err := rows(servers, "one,topics4,own,topics1000", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 6 {
		t.Fatalf("%d rows", len(list))
	}
	results := b.measure(t.Context(), list)
	for _, p := range b.problems {
		t.Error(p)
	}
	for _, r := range results {
		single := r.shape.short == one
		for m := range metrics {
			wanted := true
			switch m {
			case replayRate:
				wanted = single && r.replays
			case wideRate, wideCPU:
				wanted = single
			case pacedCPU, pacedP50, pacedP99:
				wanted = !r.shape.spread
			}
			if wanted != (len(r.runs[m]) == 1) {
				t.Errorf("%s, %s: %v", r.title(), columns[m].head, r.runs[m])
			}
			// Of so few connections memory is what chance makes it.
			if memory := m == residentMemory || m == settledMemory; wanted && !memory && !(r.median(m) > 0) {
				t.Errorf("%s, %s: %v", r.title(), columns[m].head, r.runs[m])
			}
		}
		if r.replays && r.version == "" {
			t.Errorf("%s has no version", r.title())
		}
		for _, name := range []string{"saturated.cpu", "connect.cpu", "settled.heap"} {
			if info, err := os.Stat(filepath.Join(s.profile, r.label(), name+".pprof")); err != nil || info.Size() == 0 {
				t.Errorf("%s: no profile: %v", r.title(), err)
			}
		}
	}
}
