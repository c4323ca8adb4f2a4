package redisstream

import (
	"errors"
	"strings"
	"testing"

	"github.com/headrace/headrace/hub"
)

// TestSlotMoves moves a topic from one node to the other while it is published to and read: nothing is lost, repeated or said to be.
func TestSlotMoves(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	ctx := t.Context()
	r := newClusterRig(t, nodes[0].addr, Options{})
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
	publish := func(n int) {
		t.Helper()
		for range n {
			text := "m" + itoa(len(want))
			// Without a key: as long as a slot is half moved, Redis refuses commands that name a key it has and one it has not.
			waitFor(t, "Publish", func() bool {
				_, err := r.Publish(ctx, "t", hub.Message{Data: []byte(text)})
				if err != nil && !errors.Is(err, hub.ErrRejected) {
					t.Fatal(err)
				}
				return err == nil
			})
			want = append(want, text)
		}
	}
	publish(20)
	do(target, "cluster", "setslot", slot, "importing", id(source))
	do(source, "cluster", "setslot", slot, "migrating", id(target))
	publish(5)
	host, port, _ := strings.Cut(target.addr, ":")
	do(source, "migrate", host, port, key, 0, 1000)
	for _, k := range source.ClusterGetKeysInSlot(ctx, int(slot), 1000).Val() {
		do(source, "migrate", host, port, k, 0, 1000)
	}
	publish(5)
	do(target, "cluster", "setslot", slot, "node", id(target))
	do(source, "cluster", "setslot", slot, "node", id(target))
	publish(20)
	all := strings.Join(want, " ")
	waitFor(t, "all messages", func() bool { return strings.HasSuffix(a.all(), want[len(want)-1]) })
	if a.all() != all {
		t.Errorf("the reader got %s", a.all())
	}
	if got := everything(t, r, "t"); len(got) != len(want) {
		t.Errorf("%d messages are retained, want %d", len(got), len(want))
	}
	// The new node's live path: far sooner than the hub would look by itself.
	rec, _, _ := mustFollow(t, r, "t")
	publish(1)
	waitFor(t, "a live message", func() bool { return rec.has(want[len(want)-1]) })
}
