package integration

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

func publish(t testing.TB, h *hub.Hub, topic string, from, to int) (ids []string) {
	t.Helper()
	for i := from; i <= to; i++ {
		id, err := h.Publish(t.Context(), topic, hub.Message{Data: fmt.Append(nil, i)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, string(id))
	}
	return ids
}

// expect reads events and compares them with lines "type id data"; an id of "*" is any.
func expect(t testing.TB, c *connection, want ...string) {
	t.Helper()
	for _, w := range want {
		e := c.next(t)
		typ, rest, _ := strings.Cut(w, " ")
		id, data, _ := strings.Cut(rest, " ")
		if typ == "message" {
			typ = ""
		}
		if e.Type != typ || id != "*" && e.ID != id || e.Text() != data {
			t.Fatalf("got type %q, id %q, data %q; want %q", e.Type, e.ID, e.Text(), w)
		}
	}
}

// TestPriming (G2): a client that drops before its first event has been given a place, and loses
// nothing.
func TestPriming(t *testing.T) {
	h := newHub(t, memory.Options{})
	server := serve(t, h, ginsse.Options{})
	url := server.URL + "/topics/never-seen"

	c := connect(t, server.Client(), url, "")
	checkpoint := c.next(t)
	if checkpoint.Type != "checkpoint" || checkpoint.ID == "" {
		t.Fatalf("first event: %+v", checkpoint)
	}
	c.drop()
	ids := publish(t, h, "never-seen", 1, 3)

	c = connect(t, server.Client(), url, checkpoint.ID)
	defer c.drop()
	expect(t, c, "message "+ids[0]+" 1", "message "+ids[1]+" 2", "message "+ids[2]+" 3")
	ids = publish(t, h, "never-seen", 4, 4)
	expect(t, c, "message "+ids[0]+" 4")
}

// TestRetention (G2): a cursor that the retention has passed gets a gap before the oldest retained
// message; one at its edge, or at the tail, gets none.
func TestRetention(t *testing.T) {
	h := newHub(t, memory.Options{MaxMessages: 10})
	server := serve(t, h, ginsse.Options{})
	url := server.URL + "/topics/short"
	ids := publish(t, h, "short", 1, 30)

	for name, c := range map[string]struct {
		cursor string
		want   []string
	}{
		"passed":                     {ids[4], []string{"gap * {}", "message " + ids[20] + " 21"}},
		"just passed":                {ids[18], []string{"gap * {}", "message " + ids[20] + " 21"}},
		"at the newest that is gone": {ids[19], []string{"message " + ids[20] + " 21"}},
		"at the oldest retained":     {ids[20], []string{"message " + ids[21] + " 22"}},
		"before the newest":          {ids[28], []string{"message " + ids[29] + " 30"}},
	} {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, server.Client(), url, c.cursor)
			defer conn.drop()
			expect(t, conn, c.want...)
		})
	}
	t.Run("at the tail", func(t *testing.T) {
		conn := connect(t, server.Client(), url, ids[29])
		defer conn.drop()
		next := publish(t, h, "short", 31, 31)
		expect(t, conn, "message "+next[0]+" 31")
	})
}

// TestRestart (G2, G10): the cursor of a memory hub's former life gives a gap, neither silence nor
// a status.
func TestRestart(t *testing.T) {
	before := newHub(t, memory.Options{})
	cursor := publish(t, before, "news", 1, 5)[4]

	h := newHub(t, memory.Options{})
	server := serve(t, h, ginsse.Options{})
	t.Run("nothing published yet", func(t *testing.T) {
		c := connect(t, server.Client(), server.URL+"/topics/news", cursor)
		defer c.drop()
		gap := c.next(t)
		if gap.Type != "gap" || gap.ID == "" || gap.ID == cursor {
			t.Fatalf("got %+v, want a gap with a place of its own", gap)
		}
		// The place behind the gap is a good cursor.
		c2 := connect(t, server.Client(), server.URL+"/topics/news", gap.ID)
		defer c2.drop()
		ids := publish(t, h, "news", 6, 6)
		expect(t, c, "message "+ids[0]+" 6")
		expect(t, c2, "message "+ids[0]+" 6")
	})
	t.Run("something published", func(t *testing.T) {
		c := connect(t, server.Client(), server.URL+"/topics/news", cursor)
		defer c.drop()
		expect(t, c, "gap * {}", "message * 6")
	})
}

// TestAnyCursor (G10): whatever a client states is answered with 200 and a gap.
func TestAnyCursor(t *testing.T) {
	h := newHub(t, memory.Options{})
	server := serve(t, h, ginsse.Options{Start: hub.Earliest()})
	publish(t, h, "news", 1, 1)
	for _, cursor := range []string{
		"0", "-", "x-1", "999999999999999999999-0", strings.Repeat("9", 10<<10), "\xff\xfe\x80", "{\"a\":1}", "a b", "é",
		"v1.AAAA", "../../etc/passwd", "1-1\t", "%00",
	} {
		c := connect(t, server.Client(), server.URL+"/topics/news", cursor)
		if c.status != http.StatusOK {
			t.Errorf("cursor %.40q: status %d", cursor, c.status)
		} else {
			expect(t, c, "gap * {}", "message * 1")
		}
		c.drop()
	}
}

// TestFinish: the end of a topic is an event, and 204 for who comes back with it.
func TestFinish(t *testing.T) {
	h := newHub(t, memory.Options{})
	server := serve(t, h, ginsse.Options{})
	url := server.URL + "/topics/job"
	ids := publish(t, h, "job", 1, 2)
	c := connect(t, server.Client(), url, ids[0])
	defer c.drop()
	expect(t, c, "message "+ids[1]+" 2")
	end, err := h.Finish(t.Context(), "job")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, c, "close "+string(end)+" ")
	if _, err := c.Decode(); err == nil {
		t.Error("something after close")
	}
	if again := connect(t, server.Client(), url, string(end)); again.status != http.StatusNoContent {
		t.Errorf("a cursor at the end: status %d, want 204", again.status)
	}
}

// TestShutdown (G9): a shutdown ends streams cleanly with a time to come back, and
// http.Server.Shutdown then returns.
func TestShutdown(t *testing.T) {
	h := newHub(t, memory.Options{})
	server := serve(t, h, ginsse.Options{})
	var conns []*connection
	for range 100 {
		c := connect(t, server.Client(), server.URL+"/topics/news", "")
		defer c.drop()
		c.next(t)
		conns = append(conns, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if err := server.Config.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range conns {
		if _, err := c.Decode(); err == nil || err.Error() != "EOF" {
			t.Fatalf("a stream ended with %v, want a clean end", err)
		}
		if retry, ok := c.Retry(); !ok || retry <= 0 {
			t.Fatalf("a stream was told to come back after %v", retry)
		}
	}
}

// TestMemoryExpiry: retention by age on fake time, through the hub: what has expired is gone, and
// said.
func TestMemoryExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, memory.Options{MaxAge: time.Minute})
		ids := publish(t, h, "news", 1, 3)
		time.Sleep(30 * time.Second)
		ids = append(ids, publish(t, h, "news", 4, 4)...)
		time.Sleep(31 * time.Second) // the first three are too old now
		for cursor, want := range map[string]bool{ids[0]: true, ids[2]: false} {
			sub, err := h.Subscribe(t.Context(), "news", hub.After(hub.ID(cursor)), hub.MarkGaps())
			if err != nil {
				t.Fatal(err)
			}
			for m, err := range sub.All() {
				if err != nil || string(m.Data) != "4" || m.Gap != want {
					t.Errorf("after %s: %s, gap %v, %v; want 4, gap %v", cursor, m.Data, m.Gap, err, want)
				}
				break
			}
		}
	})
}

// TestGinRecoveryAborts (FAILURES 32): a panic in a generator does not look like the end of its
// stream, although gin.Recovery catches it.
func TestGinRecoveryAborts(t *testing.T) {
	r := gin.New()
	r.Use(gin.RecoveryWithWriter(discard{}))
	cleaned := make(chan struct{})
	route := ginsse.SSE[struct{}]("/boom").Options(ginsse.Options{Logger: quiet}).Handle(
		func(*ginsse.Context[struct{}]) seq {
			return func(yield func(sse.Event, error) bool) {
				defer close(cleaned)
				yield(sse.Event{Data: "first"}, nil)
				panic("boom")
			}
		})
	if err := ginsse.Mount(r, route); err != nil {
		t.Fatal(err)
	}
	server := newServer(t, r)
	c := connect(t, server.Client(), server.URL+"/boom", "")
	defer c.drop()
	expect(t, c, "message  first")
	expect(t, c, "stream-error  {}")
	if _, err := c.Decode(); err == nil || err.Error() == "EOF" {
		t.Errorf("the stream ended with %v, like a clean end", err)
	}
	<-cleaned
}
