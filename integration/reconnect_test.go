package integration

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

const (
	publishers = 4
	reconnects = 1000 // at least so many
)

// perConnection is how many messages of a total a connection reads on average, less than it would
// take for just as many connections.
func perConnection(total int) int { return total * 8 / 10 / reconnects }

// load publishes messages from several goroutines to one topic and keeps what each publisher sent.
type load struct {
	total    int
	ahead    int64 // how far publishers may be ahead of the reader; 0: as far as they like
	sent     atomic.Int64
	received atomic.Int64
	moved    chan struct{}
	wg       sync.WaitGroup
}

func startLoad(t *testing.T, h *hub.Hub, topic string, total int, ahead int64) *load {
	l := &load{total: total, ahead: ahead, moved: make(chan struct{}, 1)}
	var turn sync.Mutex // only for waiting: one publisher waits for the reader, the others for it
	for p := range publishers {
		l.wg.Go(func() {
			for i := range total / publishers {
				if l.ahead > 0 {
					turn.Lock()
					for l.sent.Load()-l.received.Load() >= l.ahead {
						<-l.moved
					}
					turn.Unlock()
				}
				if _, err := h.Publish(context.Background(), topic, hub.Message{Data: fmt.Appendf(nil, "%d %d", p, i)}); err != nil {
					t.Errorf("Publish: %v", err)
					return
				}
				l.sent.Add(1)
			}
		})
	}
	t.Cleanup(l.wg.Wait)
	return l
}

// took counts a message that the reader got.
func (l *load) took() {
	l.received.Add(1)
	select {
	case l.moved <- struct{}{}:
	default:
	}
}

// history checks what one reader gets: with the memory backend the IDs of a lone topic count
// without holes, and each publisher's messages are numbered.
type history struct {
	epoch string
	n     uint64 // of the newest message
	next  [publishers]int
	count int
	gaps  int
	lost  int
}

func (h *history) add(id, data string, gap bool) error {
	epoch, number, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return fmt.Errorf("id %q: %w", id, err)
	}
	switch {
	case h.epoch == "":
		h.epoch = epoch
	case epoch != h.epoch:
		return fmt.Errorf("id %q of another epoch than %q", id, h.epoch)
	}
	switch {
	case n <= h.n:
		return fmt.Errorf("message %d after message %d: a repeat, or out of order", n, h.n)
	case gap:
		h.gaps++
		h.lost += int(n - h.n - 1)
	case n != h.n+1:
		return fmt.Errorf("message %d after message %d: a silent loss", n, h.n)
	}
	h.n = n
	var p, i int
	if _, err := fmt.Sscanf(data, "%d %d", &p, &i); err != nil {
		return fmt.Errorf("data %q: %w", data, err)
	}
	if i < h.next[p] || i > h.next[p] && h.gaps == 0 {
		return fmt.Errorf("publisher %d: message %d where %d was due", p, i, h.next[p])
	}
	h.next[p] = i + 1
	h.count++
	return nil
}

// TestHistoryNotices makes sure that the checker sees what it is there for.
func TestHistoryNotices(t *testing.T) {
	good := []string{"0 0", "1 0", "0 1", "1 1"}
	for name, order := range map[string][]int{"drop": {1, 2, 4}, "swap": {1, 3, 2, 4}, "double": {1, 2, 2, 3}} {
		var h history
		var err error
		for _, n := range order {
			if err == nil {
				err = h.add(fmt.Sprintf("e-%d", n), good[n-1], false)
			}
		}
		if err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
	var h history
	for n, data := range good {
		if err := h.add(fmt.Sprintf("e-%d", n+1), data, false); err != nil {
			t.Errorf("a whole history: %v", err)
		}
	}
}

func roomy(total int) memory.Options {
	return memory.Options{MaxMessages: total, MaxBytes: 1 << 30, MaxTotalBytes: 1 << 30}
}

// TestReconnectHub: a subscriber that reconnects at random sees every message once, in order.
func TestReconnectHub(t *testing.T) {
	total := testenv.Sized(20_000, 200_000)
	for _, c := range []struct {
		name  string
		ahead int64
	}{
		{"publishers far ahead", 0},
		{"publishers just ahead", 300},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t, roomy(total))
			reader, err := h.Subscribe(t.Context(), "load", hub.Latest())
			if err != nil {
				t.Fatal(err)
			}
			last := reader.Start()
			l := startLoad(t, h, "load", total, c.ahead)
			var seen history
			connections := 0
			for seen.count < total {
				connections++
				left := 1 + rand.IntN(2*perConnection(total))
				for m, err := range reader.All() {
					if err != nil {
						t.Fatal(err)
					}
					l.took()
					if err := seen.add(string(m.ID), string(m.Data), m.Gap); err != nil {
						t.Fatal(err)
					}
					last = m.ID
					if left--; left <= 0 || seen.count == total {
						break
					}
				}
				if reader, err = h.Subscribe(t.Context(), "load", hub.After(last)); err != nil {
					t.Fatal(err)
				}
			}
			reader.Close()
			if seen.gaps != 0 || connections < reconnects {
				t.Errorf("%d gaps, %d connections", seen.gaps, connections)
			}
		})
	}
}

// follow reads a feed over HTTP, reconnecting at random with Last-Event-ID, until n messages were
// seen or done says that it is enough.
func follow(t *testing.T, client *http.Client, url, cursor string, seen *history, took func(), average int, done func() bool) (connections int) {
	gap := false
	for !done() {
		connections++
		c := connect(t, client, url, cursor)
		if c.status != http.StatusOK {
			t.Fatalf("status %d", c.status)
		}
		left := 1 + rand.IntN(2*average)
		for left > 0 && !done() {
			e, err := c.Decode()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch e.Type {
			case "gap":
				gap = true
			case "":
				took()
				if err := seen.add(e.ID, e.Text(), gap); err != nil {
					t.Fatal(err)
				}
				gap = false
				left--
			}
			if e.ID != "" {
				cursor = e.ID
			}
		}
		c.drop()
	}
	return connections
}

// TestReconnectHTTP: the same through the route, with Last-Event-ID.
func TestReconnectHTTP(t *testing.T) {
	total := testenv.Sized(20_000, 200_000)
	h := newHub(t, roomy(total))
	server := serve(t, h, ginsse.Options{})
	url := server.URL + "/topics/load"

	first := connect(t, server.Client(), url, "")
	checkpoint := first.next(t)
	if checkpoint.Type != "checkpoint" || checkpoint.ID == "" {
		t.Fatalf("the first event is %+v, not a checkpoint", checkpoint)
	}
	first.drop()

	l := startLoad(t, h, "load", total, 2000)
	var seen history
	n := follow(t, server.Client(), url, checkpoint.ID, &seen, l.took, perConnection(total), func() bool { return seen.count == total })
	if seen.gaps != 0 || n < reconnects {
		t.Errorf("%d gaps, %d connections", seen.gaps, n)
	}
}

// TestReconnectSmallRetention: with a retention that does not hold everything, each missing message
// lies behind a gap that was said.
func TestReconnectSmallRetention(t *testing.T) {
	total, reconnects := testenv.Sized(40_000, 200_000), testenv.Sized(reconnects/10, reconnects)
	h := newHub(t, memory.Options{MaxMessages: 50}, hub.Options{Window: 20})
	// A cursor that is none of this backend begins at Start.
	server := serve(t, h, ginsse.Options{Start: hub.Earliest()})
	url := server.URL + "/topics/load"
	l := startLoad(t, h, "load", total, 150)
	var seen history
	n := follow(t, server.Client(), url, "none-of-this-life", &seen, l.took, 50, func() bool {
		// The publishers wait for a reader that has lost messages: count those as received.
		for l.received.Load() < int64(seen.n) {
			l.took()
		}
		return seen.n == uint64(total)
	})
	if n < reconnects || seen.gaps < 100 || seen.lost == 0 {
		t.Errorf("%d connections, %d gaps with %d messages behind them: the retention was not small enough to prove anything", n, seen.gaps, seen.lost)
	}
	if seen.count+seen.lost != total {
		t.Errorf("%d received and %d behind gaps of %d", seen.count, seen.lost, total)
	}
	t.Logf("%d received over %d connections, %d gaps with %d messages behind them", seen.count, n, seen.gaps, seen.lost)
}
