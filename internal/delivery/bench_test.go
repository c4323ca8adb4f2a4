package delivery

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// benchLog is a topic of messages without end, next of which were published. Its frames repeat, each of its own memory.
type benchLog struct {
	frames  [][]byte
	next    int
	changed chan struct{}
}

func newBenchLog() *benchLog {
	l := &benchLog{changed: make(chan struct{})}
	for i := range 256 {
		l.frames = append(l.frames, fmt.Appendf(nil, "event: note\ndata: %s\nid: 1700000000000-%03d\n\n", bytes.Repeat([]byte("x"), 200), i))
	}
	return l
}

// benchFeed is the place of one connection in a benchLog.
type benchFeed struct {
	Feed
	log *benchLog
	at  int
}

func (f *benchFeed) Topic() any         { return f.log }
func (f *benchFeed) Watch(hub.Watcher)  {}
func (f *benchFeed) Checkpoint() string { return "" }

func (f *benchFeed) Poll(dst [][]byte, budget int) Batch {
	b := Batch{Frames: dst}
	for ; f.at < f.log.next && budget > 0; f.at++ {
		frame := f.log.frames[f.at%len(f.log.frames)]
		b.Frames = append(b.Frames, frame)
		b.Events++
		budget -= len(frame)
	}
	if b.Events == 0 {
		b.Status, b.Changed = Waiting, f.log.changed
	}
	return b
}

// benchConfig is what the default options of a feed come to, but for the lifetime: the clock of benchmarks runs fast.
var benchConfig = Config{Retry: 2 * time.Second, Heartbeat: 15 * time.Second, Lifetime: 1 << 62}

// measure runs work, which makes so many deliveries, again and again, and reports what one of them costs.
func measure(b *testing.B, deliveries int, work func()) {
	work() // what is made once is made now
	b.ReportAllocs()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		work()
	}
	runtime.ReadMemStats(&after)
	n := float64(b.N) * float64(deliveries)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/delivery")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/delivery")
}

// BenchmarkShard measures what a shard does for its connections when messages were published: machine, framing and bookkeeping, without a system call.
func BenchmarkShard(b *testing.B) {
	for _, conns := range []int{1, 100, 1000} {
		for _, batch := range []int{1, 64} {
			b.Run(fmt.Sprintf("conns=%d/batch=%d", conns, batch), func(b *testing.B) {
				log, now := newBenchLog(), time.Now()
				s := &shard{groups: make(map[any]*group), wake: make(chan struct{}, 1), running: true, joining: conns}
				for range conns {
					f := &benchFeed{log: log}
					s.look(&conn{shard: s, machine: NewMachine(benchConfig, f), feed: f, socket: nullSocket{}, ctx: b.Context(), chunked: true, place: -1}, now)
				}
				members := s.groups[log].conns
				measure(b, conns*batch, func() {
					log.next += batch
					now = now.Add(time.Millisecond)
					for _, c := range members {
						s.step(c, now)
					}
					s.forget()
				})
				if c := members[conns-1]; c.state != kept || c.result.Events != log.next {
					b.Errorf("%d of %d messages were delivered", c.result.Events, log.next)
				}
			})
		}
	}
}

// BenchmarkMachineNext measures one step of a machine: one that has nothing, that has a heartbeat, that has messages.
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
			list := m.Next(now, nil).Frames
			b.ReportAllocs()
			for b.Loop() {
				log.next += bc.batch
				now = now.Add(bc.tick)
				step := m.Next(now, list[:0])
				if list = step.Frames; len(list) != bc.frames || step.Then != Wait {
					b.Fatalf("%d frames, then %v", len(list), step.Then)
				}
			}
		})
	}
}

// BenchmarkFraming measures how frames become what is written: for the first connection that gets them, and for each that gets the same.
func BenchmarkFraming(b *testing.B) {
	frames := newBenchLog().frames
	for _, n := range []int{1, 64} {
		for _, chunked := range []bool{false, true} {
			for _, first := range []bool{true, false} {
				b.Run(fmt.Sprintf("frames=%d/chunked=%v/first=%v", n, chunked, first), func(b *testing.B) {
					s := &shard{}
					b.ReportAllocs()
					for b.Loop() {
						if first {
							s.framed = s.framed[:0]
						}
						s.frame(frames[:n], chunked)
					}
				})
			}
		}
	}
}
