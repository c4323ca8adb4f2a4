package redisstream

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// TestSlotMoves moves a topic from one node to the other while it is published to and read:
// nothing is lost, repeated or said to be.
func TestSlotMoves(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		slotMoves(t, o)
	})
}

func slotMoves(t *testing.T, o Options) {
	nodes := startCluster(t)
	ctx := t.Context()
	r := newClusterRig(t, nodes[0].addr, o)
	h := newHub(t, r.Backend)
	key := r.keys.stream("t")
	slot := nodes[0].ClusterKeySlot(ctx, key).Val()
	source, target := nodes[0], nodes[1]
	if slot > 8191 {
		source, target = target, source
	}
	id := func(s *server) string { return s.ClusterMyID(ctx).Val() }
	do := func(s *server, args ...any) {
		t.Helper()
		if err := s.Do(ctx, args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	a := attend(t, h, "t", hub.Latest())
	var want []string
	var ids []hub.ID
	publish := func(n int) {
		t.Helper()
		for range n {
			text := "m" + itoa(len(want))
			// Without a key: as long as a slot is half moved, Redis refuses commands that name a
			// key it has and one it has not.
			waitFor(t, "Publish", func() bool {
				id, err := r.Publish(ctx, "t", hub.Message{Data: []byte(text)})
				if err != nil && !errors.Is(err, hub.ErrRejected) {
					t.Fatal(err)
				}
				if err == nil {
					ids = append(ids, id)
				}
				return err == nil
			})
			want = append(want, text)
		}
	}
	// Readers that come at each step, having seen all but the newest messages, and stay to the end.
	away := make(map[string]*audience)
	come := func(step string) {
		t.Helper()
		for _, at := range []*server{source, target} {
			name := step + ", by way of the " + map[*server]string{source: "source", target: "target"}[at]
			away[name] = attend(t, newHub(t, newClusterRig(t, at.addr, o).Backend), "t", hub.After(ids[10]))
		}
	}
	publish(20)
	do(target, "cluster", "setslot", slot, "importing", id(source))
	do(source, "cluster", "setslot", slot, "migrating", id(target))
	publish(5)
	come("before the topic moved")
	host, port, _ := strings.Cut(target.addr, ":")
	do(source, "migrate", host, port, key, 0, 1000)
	for _, k := range source.ClusterGetKeysInSlot(ctx, int(slot), 1000).Val() {
		do(source, "migrate", host, port, k, 0, 1000)
	}
	publish(5)
	come("before the slot moved")
	publish(5)
	do(target, "cluster", "setslot", slot, "node", id(target))
	do(source, "cluster", "setslot", slot, "node", id(target))
	moved := time.Now()
	publish(20)
	come("afterwards")
	publish(1)
	all := strings.Join(want, " ")
	waitFor(t, "all messages", func() bool { return strings.HasSuffix(a.all(), " "+want[len(want)-1]) })
	t.Logf("recovery took %v", time.Since(moved))
	if a.all() != all {
		t.Errorf("the connected reader got %s", a.all())
	}
	rest := strings.Join(want[11:], " ")
	for name, a := range away {
		waitFor(t, "all messages, at the reader that came "+name, func() bool { return strings.HasSuffix(a.all(), " "+want[len(want)-1]) })
		if a.all() != rest {
			t.Errorf("the reader that came %s got %s", name, a.all())
		}
	}
	if got := everything(t, r, "t"); len(got) != len(want) {
		t.Errorf("%d messages are retained, want %d", len(got), len(want))
	}
	// Everybody's live path is over the new node.
	live := func(s *server) int {
		if o.Follow == FollowXRead {
			return blockedReads(t, s)
		}
		return int(s.PubSubShardNumSub(ctx, r.keys.channel(key)).Val()[r.keys.channel(key)])
	}
	waitFor(t, "the live paths", func() bool { return live(source) == 0 && live(target) == 1+len(away) })
	// Far sooner than the hub would look by itself:
	rec, _, _ := mustFollow(t, r, "t")
	publish(1)
	waitFor(t, "a live message", func() bool { return rec.has(want[len(want)-1]) })
}
