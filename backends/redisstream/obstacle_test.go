package redisstream

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// choke is a connection that brings no more than so many bytes after a command, and is silent from
// then on.
type choke struct {
	net.Conn
	left  atomic.Int64
	until atomic.Pointer[time.Time] // the read deadline
}

const chokeBytes = 300 << 10

func (c *choke) Write(p []byte) (int, error) {
	if c.left.Load() >= 0 {
		c.left.Store(chokeBytes)
	}
	return c.Conn.Write(p)
}

func (c *choke) Read(p []byte) (int, error) {
	left := c.left.Load()
	if left < 0 {
		if d := c.until.Load(); d != nil {
			time.Sleep(time.Until(*d)) // it is the network's silence
		}
		return 0, os.ErrDeadlineExceeded
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), left+1)])
	c.left.Add(-int64(n))
	return n, err
}

func (c *choke) SetReadDeadline(d time.Time) error {
	c.until.Store(&d)
	return c.Conn.SetReadDeadline(d)
}

func (c *choke) SetDeadline(d time.Time) error {
	c.until.Store(&d)
	return c.Conn.SetDeadline(d)
}

// chokedRig is a backend that gets no long reply, and its log.
func chokedRig(t *testing.T, addr string, o Options) (*rig, *logBuffer) {
	log := &logBuffer{}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	g := &gate{conns: make(map[net.Conn]bool)}
	return rigOver(t, redis.NewClient(&redis.Options{
		Addr: addr, DisableIdentity: true, ReadTimeout: 200 * time.Millisecond,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := g.dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &choke{Conn: conn}, nil
		},
	}), g, o), log
}

// TestMessagesThatDoNotCome: readers go on behind messages that cannot be transferred.
func TestMessagesThatDoNotCome(t *testing.T) {
	long := testenv.IsLong()
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		s := startServer(t)
		past := newRig(t, s.addr, Options{})
		ids := make(map[string]hub.ID)
		publish := func(topic string, texts ...string) {
			for _, text := range texts {
				data := []byte(text)
				if strings.HasPrefix(text, "huge") {
					data = append(data, bytes.Repeat([]byte("x"), 2*chokeBytes)...)
				}
				var err error
				if ids[text], err = past.Publish(t.Context(), topic, hub.Message{Data: data}); err != nil {
					t.Fatal(err)
				}
			}
		}
		r, log := chokedRig(t, s.addr, o)
		h := newHub(t, r.Backend)
		expect := func(when string, a *audience, want string) {
			t.Helper()
			waitFor(t, when+": "+want, func() bool { return a.all() == want })
		}

		publish("a%{", "a0", "a1", "huge0", "a2", "huge1", "huge2", "a3")
		expect("from the beginning", attend(t, h, "a%{", hub.Earliest()), "a0 a1 gap a2 gap a3")
		expect("after one of them", attend(t, h, "a%{", hub.After(ids["huge0"])), "a2 gap a3")
		if n := strings.Count(log.String(), "cannot be transferred"); n != 3 || !strings.Contains(log.String(), "topic=a%{") {
			t.Errorf("the log has %d lines of them: %s", n, log)
		}
		// What comes first is as good as trimmed.
		publish("b", "huge3", "b0")
		expect("at the beginning", attend(t, h, "b", hub.Earliest()), "b0")
		// Nothing is behind it, at first.
		publish("c", "c0", "huge4")
		c := attend(t, h, "c", hub.Earliest())
		waitFor(t, "a line for the last one", func() bool { return strings.Contains(log.String(), "topic=c") })
		publish("c", "c1")
		expect("behind the last one", c, "c0 gap c1")
		if long {
			// The live connection is given up after a while.
			d := attend(t, h, "d", hub.Latest())
			publish("d", "d0", "huge5", "d1")
			expect("live", d, "d0 gap d1")
		}
	})
}

// TestMessagesThatEndTheConnection: a server that bounds what it holds for a client closes the
// connection of one who asks for more.
func TestMessagesThatEndTheConnection(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		s := startServer(t, "--client-output-buffer-limit", "normal 400kb 0 0")
		past := newRig(t, s.addr, Options{})
		var want []string
		for i := range 20 {
			text := "m" + itoa(i) + " "
			mustPublish(t, past, "pages", text+strings.Repeat("x", 100<<10))
			want = append(want, text)
		}
		mustPublish(t, past, "t", "a0")
		mustPublish(t, past, "t", "huge"+strings.Repeat("x", 800<<10))
		mustPublish(t, past, "t", "a1")
		log := &logBuffer{}
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
		h := newHub(t, newRig(t, s.addr, o).Backend)
		a := attend(t, h, "t", hub.Earliest())
		waitFor(t, "a0 gap a1", func() bool { return a.all() == "a0 gap a1" })
		if n := strings.Count(log.String(), "cannot be transferred"); n != 1 {
			t.Errorf("the log has %d lines of it: %s", n, log)
		}
		pages := attend(t, h, "pages", hub.Earliest())
		waitFor(t, "what comes in small pages", func() bool {
			return strings.ReplaceAll(strings.ReplaceAll(pages.all(), "x", ""), "  ", " ") == strings.Join(want, "")
		})
	})
}

// TestFrozenIsNoObstacle: while the server answers nothing at all, no message is passed over.
func TestFrozenIsNoObstacle(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	past := newRig(t, s.addr, Options{})
	for i := range 3 {
		mustPublish(t, past, "t", "m"+itoa(i))
	}
	r, log := chokedRig(t, s.addr, Options{})
	s.freeze()
	defer s.thaw()
	for range 3 * passAfter {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if _, err := r.Read(ctx, "t", "", 10); err == nil {
			t.Error("a frozen server answers")
		}
		cancel()
	}
	s.thaw()
	waitFor(t, "the messages", func() bool {
		p, err := r.Read(t.Context(), "t", "", 10)
		return err == nil && len(p.Messages) > 0 && string(p.Messages[0].Data) == "m0"
	})
	if strings.Contains(log.String(), "cannot be transferred") {
		t.Errorf("the log has %s", log)
	}
}

// TestMessageThatTakesTooLong: a message that is under way when its time is over did not come, but
// not if it was only that its reader could not wait.
func TestMessageThatTakesTooLong(t *testing.T) {
	for _, test := range []struct {
		name  string
		wait  time.Duration // the reader's
		want  error
		alone bool
	}{{"too long", time.Minute, ErrUnreachable, true}, {"a reader who cannot wait", time.Second, context.DeadlineExceeded, false}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var workers sync.WaitGroup
				defer workers.Wait()
				b := newBatcher(t.Context(), func(f func()) bool { workers.Go(f); return true })
				b.send = func([]*job) { time.Sleep(2 * aloneTime) }
				h := &history{lanes: &lanes{}}
				ctx, cancel := context.WithTimeout(t.Context(), test.wait)
				defer cancel()
				_, err := h.run(ctx, "t", "1-1", ask{entries: 1, script: true, via: b}, func(bool) redis.Cmder { return redis.NewCmd(t.Context()) })
				if !errors.Is(err, test.want) || test.alone == errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the error is %v", err)
				}
				if alone := h.obstacles.alone(spot{"t", "1-1"}); alone != test.alone {
					t.Errorf("it counts as tried by itself: %v", alone)
				}
			})
		})
	}
}
