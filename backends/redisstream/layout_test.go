package redisstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// clusterNode is what a node of a cluster answers.
type clusterNode struct {
	master, state string
	after         time.Duration
}

func (n clusterNode) process(_ context.Context, cmd redis.Cmder) error {
	time.Sleep(n.after)
	switch cmd := cmd.(type) {
	case *redis.ClusterSlotsCmd:
		nodes := []redis.ClusterNode{{Addr: n.master}}
		for _, other := range []string{"10.0.0.1:6379", "10.0.0.2:6379"} {
			if other != n.master {
				nodes = append(nodes, redis.ClusterNode{Addr: other})
			}
		}
		cmd.SetVal([]redis.ClusterSlot{{End: 16383, Nodes: nodes}})
	case *redis.StringCmd:
		cmd.SetVal("cluster_state:" + n.state + "\r\ncluster_slots_assigned:16384\r\n")
	}
	return nil
}

// TestNodesThatKnowNoBetter: a master that is cut off from its cluster, or comes back, believes
// that it is one.
func TestNodesThatKnowNoBetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const one, other = "10.0.0.1:6379", "10.0.0.2:6379"
		l := &layout{conns: newConnections()}
		for i, step := range []struct {
			clusterNode
			knows string // afterwards
		}{
			{clusterNode{one, "fail", 0}, one}, // nothing else is known
			{clusterNode{other, "ok", 0}, other},
			{clusterNode{one, "fail", 0}, other},
			{clusterNode{other, "fail", 0}, other},
			{clusterNode{one, "ok", 0}, one},
		} {
			time.Sleep(reloadEvery)
			_, err := l.ask(t.Context(), "10.0.0.9:6379", step.process)
			if known := step.master == step.knows; known != (err == nil) || !known && !errors.Is(err, ErrNotReady) {
				t.Errorf("%d: %v", i, err)
			}
			if _, refused := l.conns.former[step.knows]; !l.masters[step.knows] || len(l.masters) != 1 || refused {
				t.Errorf("%d: the masters are %v, those refused %v", i, l.masters, l.conns.former)
			}
		}
		time.Sleep(2 * moveTimeout) // what compare has left to do
	})
}

// TestFormerMastersStayRefused: a cluster does not name a node that fails, and who still takes it
// for the master must not wait for it.
func TestFormerMastersStayRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const one, other = "10.0.0.1:6379", "10.0.0.2:6379"
		cs := newConnections()
		set := func(addrs ...string) map[string]bool {
			all := make(map[string]bool)
			for _, addr := range addrs {
				all[addr] = true
			}
			return all
		}
		step := func(what string, refused bool, gone, masters, nodes map[string]bool) {
			t.Helper()
			cs.refuse(gone, masters, nodes)
			dial := dialHook{conns: cs}.DialHook(func(context.Context, string, string) (net.Conn, error) { return nil, io.EOF })
			if _, err := dial(t.Context(), "tcp", one); errors.Is(err, errFormer) != refused {
				t.Errorf("%s: %v", what, err)
			}
		}
		step("gone", true, set(one), set(other), set(other))
		time.Sleep(keptFor)
		step("not named for long", true, nil, set(other), set(other))
		step("a replica", true, nil, set(other), set(one, other))
		time.Sleep(keptFor)
		step("still not too long", true, nil, set(other), set(other))
		step("a master", false, nil, set(one, other), set(one, other))
		step("gone again", true, set(one), set(other), set(other))
		time.Sleep(keptFor + 1)
		step("no node any more", false, nil, set(other), set(other))
	})
}

// TestLayoutOverALongWay: the first node is not waited for long, but one of them is at last.
func TestLayoutOverALongWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &layout{conns: newConnections()}
		n := clusterNode{"10.0.0.1:6379", "ok", 3 * slotsTimeout}
		for i, want := range []error{ErrUnreachable, ErrUnreachable, nil, nil} {
			if _, err := l.ask(t.Context(), fmt.Sprintf("10.0.0.%d:6379", i+1), n.process); !errors.Is(err, want) {
				t.Errorf("%d: %v, want %v", i, err, want)
			}
			if want == nil {
				time.Sleep(reloadEvery)
			}
		}
		n.after = 0
		for range 2 {
			time.Sleep(reloadEvery)
			if _, err := l.ask(t.Context(), "10.0.0.9:6379", n.process); err != nil {
				t.Error(err)
			}
		}
		n.after = time.Hour
		time.Sleep(reloadEvery)
		began := time.Now()
		for _, waits := range []time.Duration{slotsTimeout, 0, 0} { // once for all that ask
			if _, err := l.ask(t.Context(), "10.0.0.9:6379", n.process); !errors.Is(err, ErrUnreachable) || time.Since(began) != waits {
				t.Errorf("a node that is frozen: %v after %v, want %v", err, time.Since(began), waits)
			}
			began = time.Now()
		}
		n.after = 0
		time.Sleep(lookEvery)
		if _, err := l.ask(t.Context(), "10.0.0.9:6379", n.process); err != nil {
			t.Errorf("the node when it lives again: %v", err)
		}
		time.Sleep(2 * time.Hour)
	})
}

// TestLayoutRenewed: the clients share an answer, but not one from before a sign.
func TestLayoutRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &layout{conns: newConnections()}
		asked := 0
		n := clusterNode{"10.0.0.1:6379", "ok", 10 * time.Millisecond}
		ask := func(origin string, want int) {
			t.Helper()
			_, err := l.ask(t.Context(), origin, func(ctx context.Context, cmd redis.Cmder) error {
				asked++
				return n.process(ctx, cmd)
			})
			if err != nil || asked != want {
				t.Errorf("%v, asked %d times, want %d", err, asked, want)
			}
		}
		ask("a", 1)
		ask("b", 1)
		l.renew(t.Context())
		ask("a", 2)
		ask("b", 2)
		time.Sleep(reloadEvery)
		ask("a", 3)
	})
}

// TestUneasy: after a sign the masters are asked for again and again, since it may have come before
// there was another one.
func TestUneasy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		began := time.Now()
		topology := newTopology(func(context.Context) { at = append(at, time.Since(began)) })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); topology.run(ctx) }()
		time.Sleep(500 * time.Millisecond)
		topology.doubt()
		time.Sleep(10 * time.Second)
		cancel()
		<-done
		sign := 500 * time.Millisecond
		want := []time.Duration{sign}
		last := sign
		for ; last+reloadEvery < sign+uneasy; last += reloadEvery {
			want = append(want, last+reloadEvery)
		}
		want = append(want, last+lookEvery, last+2*lookEvery)
		if !slices.Equal(at, want) {
			t.Errorf("asked at %v, want %v", at, want)
		}
	})
}
