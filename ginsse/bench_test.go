package ginsse_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// dropWriter drops what is written, as a server's writer that flushes and has deadlines. When
// there was a body to flush, leave is called.
type dropWriter struct {
	header http.Header
	code   int
	bytes  int
	leave  func()
}

func (w *dropWriter) Header() http.Header              { return w.header }
func (w *dropWriter) WriteHeader(code int)             { w.code = code }
func (w *dropWriter) SetWriteDeadline(time.Time) error { return nil }
func (w *dropWriter) Flush()                           { _ = w.FlushError() }

func (w *dropWriter) Write(p []byte) (int, error) {
	w.bytes += len(p)
	return len(p), nil
}

func (w *dropWriter) FlushError() error {
	if w.bytes > 0 && w.leave != nil {
		w.leave()
	}
	return nil
}

// serve serves one request.
func (w *dropWriter) serve(b *testing.B, handler http.Handler, r *http.Request) {
	clear(w.header)
	w.code, w.bytes = 0, 0
	handler.ServeHTTP(w, r)
	if w.code != http.StatusOK || w.bytes == 0 {
		b.Fatalf("status %d, %d bytes", w.code, w.bytes)
	}
}

type (
	noParams   = struct{}
	oneParam   struct{ Ticket int64 }
	manyParams struct {
		Ticket int64
		Team   string        `query:"team"`
		Since  time.Duration `query:"since"`
		Labels []string      `query:"label"`
		Tenant string        `header:"X-Tenant,required"`
	}
)

// state is what benchmarks have for a snapshot.
var state = gin.H{"title": "the printer is on fire", "open": true, "assignee": "ann"}

// followed returns a hub on which somebody follows these topics, as somebody does on a server at
// work.
func followed(b *testing.B, topics ...string) *hub.Hub {
	h := newHub(b)
	for _, topic := range topics {
		publish(b, h, topic, "before")
		s, err := h.Subscribe(b.Context(), topic, hub.Latest())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(s.Close)
	}
	return h
}

// BenchmarkDocument measures a request for the snapshot of a route as JSON, from finding the
// route on, by what is bound; and a handler of Gin's own that answers as much.
func BenchmarkDocument(b *testing.B) {
	h := followed(b, "tickets", "tickets/7")
	plain := gin.New()
	plain.GET("/tickets/:ticket", func(c *gin.Context) { c.JSON(http.StatusOK, state) })
	for _, bc := range []struct {
		name, target string
		handler      http.Handler
	}{
		{"route=gin", "/tickets/7", plain},
		{"route=headrace/params=0", "/tickets", engine(b, documents[noParams](h, "/tickets", "tickets"))},
		{"route=headrace/params=1", "/tickets/7", engine(b, documents[oneParam](h, "/tickets/:ticket", "tickets/{ticket}"))},
		{"route=headrace/params=5", "/tickets/7?team=support&since=90s&label=a&label=b", engine(b, documents[manyParams](h, "/tickets/:ticket", "tickets/{ticket}"))},
	} {
		b.Run(bc.name, func(b *testing.B) {
			r := request(bc.target, "Accept", "application/json", "X-Tenant", "acme")
			w := &dropWriter{header: make(http.Header)}
			b.ReportAllocs()
			for b.Loop() {
				w.serve(b, bc.handler, r)
			}
		})
	}
}

func documents[P any](h *hub.Hub, path, topic string) *ginsse.Route[P] {
	return ginsse.SSE[P](path).Options(quiet).Topic(h, topic).Snapshot(func(*ginsse.Context[P]) (any, error) { return state, nil })
}

// BenchmarkStream measures opening a stream on the ordinary path, from finding the route on, and
// its end by a client that leaves when it has read the beginning; and a handler of Gin's own that
// writes as much and waits for that.
func BenchmarkStream(b *testing.B) {
	h := followed(b, "tickets/7")
	plain := gin.New()
	plain.GET("/tickets/:ticket", func(c *gin.Context) {
		sse.SetHeaders(c.Writer.Header(), 1)
		_, _ = c.Writer.WriteString(": ok\nretry: 2000\nevent: checkpoint\ndata: \nid: 1700000000000-0\n\n")
		c.Writer.Flush()
		<-c.Request.Context().Done()
	})
	route := func() *ginsse.Route[oneParam] { return ginsse.SSE[oneParam]("/tickets/:ticket").Options(quiet) }
	for _, bc := range []struct {
		name    string
		handler http.Handler
	}{
		{"route=gin", plain},
		{"route=feed", engine(b, route().Topic(h, "tickets/{ticket}"))},
		{"route=snapshot", engine(b, route().Topic(h, "tickets/{ticket}").Snapshot(func(*ginsse.Context[oneParam]) (any, error) { return state, nil }))},
		{"route=generator", engine(b, route().Handle(func(c *ginsse.Context[oneParam]) seq {
			return func(yield func(sse.Event, error) bool) {
				yield(sse.Event{Data: "one"}, nil)
				<-c.Context().Done()
			}
		}))},
	} {
		b.Run(bc.name, func(b *testing.B) {
			w := &dropWriter{header: make(http.Header)}
			r := httptest.NewRequest(http.MethodGet, "/tickets/7", nil)
			r.Header.Set("Accept", "text/event-stream")
			b.ReportAllocs()
			for b.Loop() {
				ctx, cancel := context.WithCancel(b.Context())
				w.leave = cancel
				w.serve(b, bc.handler, r.WithContext(ctx))
			}
		})
	}
}

// BenchmarkGenerator measures a generator's events, of which each is written by itself.
func BenchmarkGenerator(b *testing.B) {
	const n = 1000
	for _, bc := range []struct {
		name string
		data any
	}{{"data=string", "what the note says"}, {"data=json", state}} {
		b.Run(fmt.Sprintf("events=%d/%s", n, bc.name), func(b *testing.B) {
			list := make([]sse.Event, n)
			for i := range list {
				list[i] = sse.Event{Type: "note", Data: bc.data}
			}
			handler := engine(b, ginsse.SSE[noParams]("/").Options(quiet).Handle(func(*ginsse.Context[noParams]) seq { return events(list...) }))
			w := &dropWriter{header: make(http.Header)}
			r := request("/")
			b.ReportAllocs()
			for b.Loop() {
				w.serve(b, handler, r)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/delivery")
		})
	}
}
