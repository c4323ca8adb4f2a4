package feed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed/internal/direct"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// BenchmarkEncode measures making the shared bytes of a message, which is done once for all
// connections.
func BenchmarkEncode(b *testing.B) {
	text := strings.Repeat("x", 200)
	for _, bc := range []struct {
		name string
		m    hub.Message
	}{
		{"data=text", hub.Message{Type: "note", Data: []byte(text)}},
		{"data=20lines", hub.Message{Type: "note", Data: []byte(strings.Repeat("0123456789\n", 20))}},
		{"data=binary", hub.Message{Type: "note", Data: []byte(text), Binary: true}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			bc.m.ID = "1700000000000-0"
			b.ReportAllocs()
			for b.Loop() {
				wire{}.Encode(&bc.m)
			}
		})
	}
	b.Run("data=encoded", func(b *testing.B) {
		e := &hub.Entry{Message: hub.Message{ID: "1700000000000-0", Type: "note", Data: []byte(text)}}
		b.ReportAllocs()
		for b.Loop() {
			e.Encoded(wire{})
		}
	})
}

// busySubscription has the same batch at every poll.
type busySubscription struct {
	fakeSubscription
	batch []*hub.Entry
}

func (s *busySubscription) Poll(dst []*hub.Entry, _, _ int) hub.Batch {
	return hub.Batch{Entries: append(dst, s.batch...), At: s.batch[len(s.batch)-1].ID}
}

// BenchmarkSourcePoll measures what becomes of 64 messages between the hub and the machine of one
// connection: shared as they are, and for feeds that make something of them for each connection.
func BenchmarkSourcePoll(b *testing.B) {
	const batch = 64
	h := newHub(b, nil, hub.Options{})
	for _, bc := range []struct {
		name string
		feed Feed
	}{
		{"feed=plain", Of(h, "t")},
		{"feed=filter", Feed{Hub: h, Topics: []string{"t"}, Filter: func(_ string, m *hub.Message) bool { return m.Type == "note" }}},
		{"feed=filterall", Feed{Hub: h, Topics: []string{"t"}, Filter: func(_ string, m *hub.Message) bool { return m.Type != "note" }}},
		{"feed=map", Feed{Hub: h, Topics: []string{"t"}, Map: func(_ string, m *hub.Message) []sse.Event { return []sse.Event{{Type: m.Type, Data: m.Data}} }}},
		{"feed=topics2", Of(h, "a", "b")},
		{"feed=topics9", Of(h, "a", "b", "c", "d", "e", "f", "g", "h", "i")},
	} {
		b.Run(bc.name, func(b *testing.B) {
			s := &source{ctx: b.Context(), feed: bc.feed, set: setOf(bc.feed)}
			for _, topic := range bc.feed.Topics {
				sub := &busySubscription{}
				for i := range batch {
					sub.batch = append(sub.batch, &hub.Entry{Message: hub.Message{ID: hub.ID(fmt.Sprint("1700000000000-", i)), Type: "note", Data: bytes.Repeat([]byte("x"), 200)}})
				}
				s.readers = append(s.readers, reader{topic: topic, sub: sub})
				s.at = append(s.at, sub.batch[0].ID)
			}
			var w session.Work
			poll := func() {
				w.Forget()
				_, _ = s.Poll(&w, session.BatchBytes)
			}
			for range len(bc.feed.Topics) + 1 { // all entries have their shared bytes then
				poll()
			}
			b.ReportAllocs()
			for b.Loop() {
				poll()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/delivery")
		})
	}
}

// lastMark is in the last message of a burst, close to its end, and in no other.
const lastMark = '!'

// nullSocket takes everything, and tells when it has the last message of a burst.
type nullSocket struct {
	left     *atomic.Int64
	all      chan<- struct{}
	released chan struct{}
}

func (s *nullSocket) TryWrite(p []byte) (int, error) {
	if bytes.IndexByte(p[max(0, len(p)-64):], lastMark) >= 0 && s.left.Add(-1) == 0 {
		s.all <- struct{}{}
	}
	return len(p), nil
}

func (s *nullSocket) Write(p []byte) error {
	_, err := s.TryWrite(p)
	return err
}

func (s *nullSocket) Drop()      { <-s.released }
func (s *nullSocket) Release()   { close(s.released) }
func (s *nullSocket) Interrupt() {}
func (s *nullSocket) Close(bool) {}

// BenchmarkDeliver measures the whole way of messages from Publish to so many connections of an
// engine, without the sockets: a burst is published, and is over when every connection has its
// last message. Deliveries of a burst overlap with its publishing, so that connections that are
// behind get several messages at once.
func BenchmarkDeliver(b *testing.B) {
	for _, conns := range []int{1, 100, 1000} {
		for _, burst := range []int{1, 64} {
			b.Run(fmt.Sprintf("conns=%d/burst=%d", conns, burst), func(b *testing.B) { benchDeliver(b, conns, burst) })
		}
	}
}

func benchDeliver(b *testing.B, conns, burst int) {
	h := newHub(b, nil, hub.Options{})
	f := Of(h, "t")
	ctx, cancel := context.WithCancel(context.Background())
	var (
		engine direct.Engine
		lives  sync.WaitGroup
		left   atomic.Int64
		all    = make(chan struct{}, 1)
	)
	defer lives.Wait()
	defer cancel()
	for range conns {
		q := newRequest(nil, get("/").WithContext(ctx), f.Topics, Options{Logger: quiet()})
		s, err := q.open(f, nil, latest(f))
		if err != nil {
			b.Fatal(err)
		}
		socket := &nullSocket{left: &left, all: all, released: make(chan struct{})}
		lives.Go(func() {
			defer s.close()
			engine.Run(ctx, q.o.config(), s, socket, direct.Response{Chunked: true}, func(session.Result) {})
		})
	}
	data := bytes.Repeat([]byte("x"), 200)
	last := append(data[:199:199], lastMark)
	deliver := func() {
		left.Store(int64(conns))
		for i := range burst {
			m := hub.Message{Type: "note", Data: data}
			if i == burst-1 {
				m.Data = last
			}
			if _, err := h.Publish(ctx, "t", m); err != nil {
				b.Fatal(err)
			}
		}
		<-all
	}
	deliver() // everybody is there
	b.ReportAllocs()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		deliver()
	}
	runtime.ReadMemStats(&after)
	n := float64(b.N) * float64(conns*burst)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/delivery")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/delivery")
}

// BenchmarkStream measures opening a stream over loopback, reading what it begins with, and
// leaving it: with its server and its client, and, for comparison, a handler that writes as much
// and waits for the client to leave.
func BenchmarkStream(b *testing.B) {
	h := newHub(b, nil, hub.Options{})
	publish(b, h, "t", "before")
	over := make(chan struct{}, 1)
	options := Options{Logger: quiet(), OnEnd: func(End) { over <- struct{}{} }}
	detached := options
	detached.Detach = true
	for _, bc := range []struct {
		name    string
		handler http.Handler
	}{
		{"path=none", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sse.SetHeaders(w.Header(), r.ProtoMajor)
			_, _ = io.WriteString(w, ": ok\nretry: 2000\nevent: checkpoint\ndata: \nid: 1700000000000-0\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			over <- struct{}{}
		})},
		{"path=ordinary", wrapping(Handler(Of(h, "t"), options))},
		{"path=direct", Handler(Of(h, "t"), options)},
		{"path=detached", Handler(Of(h, "t"), detached)},
	} {
		b.Run(bc.name, func(b *testing.B) {
			s := httptest.NewServer(bc.handler)
			defer s.Close()
			address := s.Listener.Addr().String()
			buf := make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
					b.Fatal(err)
				}
				for n := 0; !bytes.Contains(buf[:n], []byte("\nid: ")); {
					k, err := conn.Read(buf[n:])
					if err != nil {
						b.Fatalf("after %q: %v", buf[:n], err)
					}
					n += k
				}
				// An ordinary close would use up the ports of a long run.
				_ = conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
				<-over
			}
		})
	}
}

// wrapping puts a writer around that of the server, as middleware does.
func wrapping(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(wrapper{w}, r)
	})
}

type wrapper struct{ http.ResponseWriter }

func (w wrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }
