package integration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse/feed"
)

// visitor is a client that comes and goes in one of the ways that clients do. It returns what the
// server did wrong.
type visitor func(v *visits, c *raw) error

// visitors are the kinds of visits. Those that are served have seen the stream, so that its end
// must be told.
var visitors = []struct {
	name   string
	served bool
	visit  visitor
}{
	{"half a request", false, func(_ *visits, c *raw) error {
		request := requestFor(visitPath)
		_, err := io.WriteString(c.TCPConn, request[:1+mathrand.IntN(len(request)-1)])
		return err
	}},
	{"between request and answer", false, func(_ *visits, c *raw) error {
		_, err := io.WriteString(c.TCPConn, requestFor(visitPath))
		return err
	}},
	{"in the middle of the replay", true, func(_ *visits, c *raw) error {
		if err := c.request(visitPath); err != nil {
			return err
		}
		_, err := io.CopyN(io.Discard, c.body, mathrand.Int64N(visitReplay))
		return err
	}},
	{"idle, then in the middle of a batch", true, func(_ *visits, c *raw) error {
		if err := c.request(visitPath); err != nil {
			return err
		}
		_, err := io.CopyN(io.Discard, c.body, visitReplay+mathrand.Int64N(visitReplay/10))
		return err
	}},
	{"another request behind it", true, func(_ *visits, c *raw) error { return c.babble(requestFor(visitPath)) }},
	{"noise behind it", true, func(_ *visits, c *raw) error {
		return c.babble(noise(mathrand.IntN(60 << 10)))
	}},
	{"noise without end", true, (*visits).flood},
}

const (
	visitPath = "/topics/load"
	floodPath = "/floods/load"
	// visitReplay is about how many bytes are retained when the visits begin.
	visitReplay = 64 << 10
)

// noise returns bytes that are no HTTP.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return string(b)
}

// babble sends more behind the request, and reads everything that is retained: nobody minds.
func (c *raw) babble(more string) error {
	if err := c.request(visitPath); err != nil {
		return err
	}
	if _, err := io.WriteString(c.TCPConn, more); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, c.body, visitReplay)
	return err
}

// flood sends more than anybody need send: where the stream is served directly, the server closes
// the connection.
func (v *visits) flood(c *raw) error {
	if err := c.request(floodPath); err != nil {
		return err
	}
	_, _ = io.WriteString(c.TCPConn, noise(80<<10)) // it may be closed meanwhile
	if !v.way.direct {
		return nil // nobody reads what is sent
	}
	n, err := io.Copy(io.Discard, c.body)
	if err == nil || strings.Contains(err.Error(), "timeout") {
		return fmt.Errorf("after %d bytes: %v, want an end of the connection that is none of the stream", n, err)
	}
	return nil
}

// visits is a server that is visited.
type visits struct {
	way    way
	ended  atomic.Int64
	floods atomic.Int64
}

func (v *visits) end(t *testing.T, n *atomic.Int64, causes ...error) func(feed.End) {
	return func(e feed.End) {
		n.Add(1)
		v.way.check(t, e)
		for _, cause := range causes {
			if errors.Is(e.Cause, cause) {
				return
			}
		}
		t.Errorf("a stream ended by %v, want one of %v", e.Cause, causes)
	}
}

// TestVisits: clients that come and go at random moments, and send what they should not, leave
// nothing behind, and the server serves on.
func TestVisits(t *testing.T) {
	total := testenv.Sized(150, 1000)
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			h := newHub(t, memory.Options{})
			v := &visits{way: way}
			limits, drain := &feed.Limits{Max: 1000}, &feed.Drain{Window: -1}
			r := gin.New()
			r.Use(way.middleware)
			o := ginsse.Options{Start: hub.Earliest(), Heartbeat: time.Hour, NoRotation: true, Limits: limits, Drain: drain, Detach: way.detach, Logger: quiet}
			if !way.direct {
				// The server itself stops reading at what comes behind a request, and then sees no
				// client leave.
				o.Heartbeat = 50 * time.Millisecond
			}
			o.OnEnd = v.end(t, &v.ended, feed.ErrClientGone, feed.ErrWriteFailed)
			visited := ginsse.SSE[topicParams](visitPath[:len("/topics/")]+":topic").Options(o).Topic(h, "{topic}")
			o.OnEnd = v.end(t, &v.floods, feed.ErrClientGone)
			if !way.direct {
				o.OnEnd = v.end(t, &v.floods, feed.ErrClientGone, feed.ErrWriteFailed)
			}
			flooded := ginsse.SSE[topicParams](floodPath[:len("/floods/")]+":topic").Options(o).Topic(h, "{topic}")
			if err := ginsse.Mount(r, visited, flooded); err != nil {
				t.Fatal(err)
			}
			server := newServer(t, r)
			data := []byte(strings.Repeat("x", 1000))
			for range 1 + visitReplay/len(data) {
				if _, err := h.Publish(t.Context(), "load", hub.Message{Data: data}); err != nil {
					t.Fatal(err)
				}
			}
			first := connect(t, server.Client(), server.URL+visitPath, "")
			first.next(t)
			first.drop()
			settle(t, h)
			server.Client().CloseIdleConnections()
			before := holding(t)

			// Batches for clients to be in the middle of.
			ctx, stop := context.WithCancel(t.Context())
			var publishing sync.WaitGroup
			publishing.Go(func() {
				tick := time.NewTicker(10 * time.Millisecond)
				defer tick.Stop()
				for ctx.Err() == nil {
					for range 5 {
						_, _ = h.Publish(ctx, "load", hub.Message{Data: data})
					}
					select {
					case <-tick.C:
					case <-ctx.Done():
					}
				}
			})
			var served, floods atomic.Int64
			inParallel(t, total, func(i int) error {
				kind := visitors[mathrand.IntN(len(visitors))]
				c, err := dialRaw(server.Listener.Addr().String(), []int{0, smallBuffer}[i%2], 0)
				if err != nil {
					return err
				}
				defer c.Close()
				if err := kind.visit(v, c); err != nil {
					return fmt.Errorf("%s: %w", kind.name, err)
				}
				if mathrand.IntN(2) == 0 {
					c.reset()
				}
				switch {
				case strings.HasPrefix(kind.name, "noise without"):
					floods.Add(1)
				case kind.served:
					served.Add(1)
				}
				return nil
			})
			stop()
			publishing.Wait()
			settle(t, h)
			eventually(t, "all places are given back", func() error {
				if n := limits.Open(); n > 0 {
					return fmt.Errorf("%d are taken", n)
				}
				return nil
			})
			before.back(t)
			if v.ended.Load() < served.Load() || v.floods.Load() != floods.Load() || served.Load() == 0 || floods.Load() == 0 {
				t.Errorf("%d and %d streams ended, of %d and %d", v.ended.Load(), v.floods.Load(), served.Load(), floods.Load())
			}

			again := connect(t, server.Client(), server.URL+visitPath, "")
			defer again.drop()
			if e := again.next(t); len(e.Text()) != len(data) {
				t.Errorf("a new client gets %q", e.Text())
			}
			again.drop()
			drain.Begin()
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			if err := drain.Wait(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}
