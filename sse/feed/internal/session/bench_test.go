package session

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// benchLog is a topic of messages without end, next of which were published. Its frames repeat,
// each of its own memory.
type benchLog struct {
	frames [][]byte
	next   int
}

func newBenchLog() *benchLog {
	l := &benchLog{}
	for i := range 256 {
		l.frames = append(l.frames, fmt.Appendf(nil, "event: note\ndata: %s\nid: 1700000000000-%03d\n\n", bytes.Repeat([]byte("x"), 200), i))
	}
	return l
}

// benchFeed is one connection's source of a benchLog.
type benchFeed struct {
	log *benchLog
	at  int
}

func (f *benchFeed) Watch(Waker)        {}
func (f *benchFeed) Checkpoint() string { return "" }

func (f *benchFeed) Poll(w *Work, budget int) (hub.Status, error) {
	n := len(w.Frames)
	for ; f.at < f.log.next && budget > 0; f.at++ {
		frame := f.log.frames[f.at%len(f.log.frames)]
		w.Frames = append(w.Frames, frame)
		w.Events++
		budget -= len(frame)
	}
	if len(w.Frames) == n {
		return hub.Waiting, nil
	}
	return hub.Ready, nil
}

// benchConfig is what the default options of a feed come to, but for the lifetime: the clock of
// benchmarks runs fast.
var benchConfig = Config{Retry: 2 * time.Second, Heartbeat: 15 * time.Second, Lifetime: 1 << 62}

// BenchmarkMachineNext measures one step of a machine: one that has nothing, that has a
// heartbeat, that has messages.
func BenchmarkMachineNext(b *testing.B) {
	for _, bc := range []struct {
		name   string
		batch  int
		tick   time.Duration
		frames int
	}{
		{"has=nothing", 0, 0, 0},
		{"has=heartbeat", 0, benchConfig.Heartbeat, 1},
		{"has=message", 1, 0, 1},
		{"has=64messages", 64, 0, 64},
	} {
		b.Run(bc.name, func(b *testing.B) {
			log, now := newBenchLog(), time.Now()
			m := NewMachine(benchConfig, &benchFeed{log: log})
			var w Work
			m.Next(now, &w)
			b.ReportAllocs()
			for b.Loop() {
				log.next += bc.batch
				now = now.Add(bc.tick)
				if step := m.Next(now, &w); len(w.Frames) != bc.frames || step.Status != hub.Waiting {
					b.Fatalf("%d frames, status %v", len(w.Frames), step.Status)
				}
			}
		})
	}
}
