package direct

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed/internal/session"
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

func (f *benchFeed) Topics() int         { return 1 }
func (f *benchFeed) Topic(int) any       { return f.log }
func (f *benchFeed) Custom() bool        { return false }
func (f *benchFeed) Watch(session.Waker) {}
func (f *benchFeed) Checkpoint() string  { return "" }

func (f *benchFeed) Poll(w *session.Work, budget int) (hub.Status, error) {
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
var benchConfig = session.Config{Retry: 2 * time.Second, Heartbeat: 15 * time.Second, Lifetime: 1 << 62}

// measure runs work, which makes so many deliveries, again and again, and reports what one of
// them costs.
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

// BenchmarkShard measures what a shard does for its connections when messages were published:
// machine, framing and bookkeeping, without a system call.
func BenchmarkShard(b *testing.B) {
	for _, conns := range []int{1, 100, 1000} {
		for _, batch := range []int{1, 64} {
			b.Run(fmt.Sprintf("conns=%d/batch=%d", conns, batch), func(b *testing.B) {
				log, now := newBenchLog(), time.Now()
				s := newShard()
				s.wake, s.running, s.joining = make(chan struct{}, 1), true, conns
				l := &loop{shard: s}
				for range conns {
					f := &benchFeed{log: log}
					c := newConn(s, f, nullSocket{}, Response{Chunked: true})
					c.Init(b.Context(), benchConfig, f, c)
					s.look(l, c, now)
				}
				members := s.groups[log].members
				measure(b, conns*batch, func() {
					log.next += batch
					now = now.Add(time.Millisecond)
					for _, m := range members {
						s.step(l, m.conn, now)
					}
					l.forget()
				})
				if c := members[conns-1].conn; c.state != kept || c.Events != log.next {
					b.Errorf("%d of %d messages were delivered", c.Events, log.next)
				}
			})
		}
	}
}

// BenchmarkFraming measures how frames become what is written: for the first connection that gets
// them, and for each that gets the same.
func BenchmarkFraming(b *testing.B) {
	frames := newBenchLog().frames
	for _, n := range []int{1, 64} {
		for _, chunked := range []bool{false, true} {
			for _, first := range []bool{true, false} {
				b.Run(fmt.Sprintf("frames=%d/chunked=%v/first=%v", n, chunked, first), func(b *testing.B) {
					var made batch
					size := total(frames[:n])
					b.ReportAllocs()
					for b.Loop() {
						if first {
							made.forget()
						}
						made.of(frames[:n], size, chunked, false)
					}
				})
			}
		}
	}
}
