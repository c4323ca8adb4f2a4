package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

// TestSlowClients: clients that read slowly, a byte or a few at a time through a small window, get
// every byte and no other, in whole chunks, and hold nobody up.
func TestSlowClients(t *testing.T) {
	const messages, size = 120, 1000
	clients := []struct{ buffer, bite, leave int }{
		// Through the least window so little comes that this one leaves after some messages.
		{buffer: 1, bite: 1, leave: 5 * size},
		{buffer: smallBuffer, bite: 1},
		{buffer: smallBuffer, bite: 16},
		{buffer: smallBuffer, bite: 16},
		{buffer: smallBuffer, bite: 999},
	}
	last := regexp.MustCompile(`retry: \d+\nevent: close\n`)
	head := regexp.MustCompile(`^(?::\n)?: ok\nretry: \d+\nevent: checkpoint\ndata: \nid: [^\n]+\n\n`)
	o := feed.Options{Heartbeat: time.Hour, NoRotation: true, WriteTimeout: time.Hour}
	onEachWay(t, o, memory.Options{}, hub.Options{}, func(t *testing.T, l *lab) {
		before := l.holding(t)
		g := l.follow(t, 4)
		var names []string
		var reading sync.WaitGroup
		got := make([][]byte, len(clients))
		for i, client := range clients {
			name := fmt.Sprint("slow-", i)
			names = append(names, name)
			c, err := openRaw(l.address(), "/clients/"+name, client.buffer, client.bite)
			if err != nil {
				t.Fatal(err)
			}
			reading.Go(func() {
				defer c.Close()
				if client.leave > 0 {
					got[i] = make([]byte, client.leave)
					_, err = io.ReadFull(c.body, got[i])
				} else if got[i], err = io.ReadAll(c.body); err == nil && l.way.direct {
					// The server itself would keep the connection for another request.
					if extra, err := io.ReadAll(c.in); len(extra) > 0 || err != nil {
						t.Errorf("%s: after the last chunk: %q, %v", name, extra, err)
					}
				}
				if err != nil {
					t.Errorf("%s: after %d bytes: %v", name, len(got[i]), err)
				}
			})
		}
		var want []byte
		for range messages {
			id, data := g.publish(t, 1, size)
			want = fmt.Appendf(want, "data: %s\nid: %s\n\n", data, id)
		}
		id, err := l.hub.Finish(t.Context(), "load")
		if err != nil {
			t.Fatal(err)
		}
		want = fmt.Appendf(want, "event: close\ndata: \nid: %s\n\n", id)
		g.finish()
		reading.Wait()

		for i, client := range clients {
			at := head.FindIndex(got[i])
			if at == nil {
				t.Errorf("%s: the stream begins with %q", names[i], got[i][:min(len(got[i]), 200)])
				continue
			}
			events := got[i][at[1]:]
			if end := last.FindIndex(events); end != nil {
				events = slices.Delete(events, end[0], end[0]+bytes.IndexByte(events[end[0]:], '\n')+1) // the reconnection time
			}
			if !bytes.HasPrefix(want, events) || client.leave == 0 && len(events) != len(want) {
				t.Errorf("%s: %d bytes that differ from the %d sent", names[i], len(events), len(want))
			}
		}
		l.settled(t, append(names, g.names...), before, feed.ErrFinished, feed.ErrClientGone, feed.ErrWriteFailed)
		for i, name := range names {
			if e := l.ends(name)[0]; clients[i].leave == 0 && (!errors.Is(e.Cause, feed.ErrFinished) || e.Events != messages) {
				t.Errorf("%s: ended after %d messages by %v", name, e.Events, e.Cause)
			}
		}
	})
}

// TestWriteTimeout: clients that never read are given up, each when nothing could be written for
// WriteTimeout, and what was kept for them is let go; nobody waits for them.
func TestWriteTimeout(t *testing.T) {
	const (
		clients      = 40
		size         = 16 << 10
		writeTimeout = 500 * time.Millisecond
	)
	o := feed.Options{Heartbeat: time.Hour, NoRotation: true, WriteTimeout: writeTimeout}
	retain := memory.Options{MaxBytes: 1 << 20}
	onEachWay(t, o, retain, hub.Options{WindowBytes: 1 << 20}, func(t *testing.T, l *lab) {
		before := l.holding(t)
		g := l.follow(t, 2)
		g.publish(t, 100, size) // what is retained is retained
		heapBefore := heap()
		all := make([]*raw, clients)
		names := make([]string, clients)
		inParallel(t, clients, func(i int) (err error) {
			names[i] = fmt.Sprint("stuck-", i)
			all[i], err = openRaw(l.address(), "/clients/"+names[i], smallBuffer, 0)
			return err
		})
		// More than a connection holds at once, so that a write is stuck from the beginning; then
		// more, while nothing of it can be written.
		sent := 100
		for done := 0; done < clients; {
			g.publish(t, 20, size)
			sent += 20
			for done < clients && len(l.ends(names[done])) > 0 {
				done++
			}
		}
		// Pages of the backend are kept for a second, for readers that come to the same place.
		eventually(t, "what was kept for them is let go", func() error {
			if grown := heap() - heapBefore; grown > 4<<20 {
				return fmt.Errorf("the heap has grown by %d kB for %d clients", grown>>10, clients)
			}
			return nil
		})
		for _, c := range all {
			_ = c.Close()
		}
		g.leave(t)
		l.settled(t, append(names, g.names...), before, feed.ErrClientGone, feed.ErrWriteFailed)
		for _, name := range names {
			e := l.ends(name)[0]
			if !errors.Is(e.Cause, feed.ErrWriteFailed) || e.Duration < writeTimeout {
				t.Errorf("%s: ended after %v by %v", name, e.Duration, e.Cause)
			}
		}
	})
}
