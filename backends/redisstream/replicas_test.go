package redisstream

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// TestReplicas: Publish waits for replicas, and says when they do not have the message. A retry
// with the key asks again, and appends nothing.
func TestReplicas(t *testing.T) {
	t.Parallel()
	master := startServer(t, "--repl-diskless-sync-delay", "0")
	_, port, _ := strings.Cut(master.addr, ":")
	r := newRig(t, master.addr, Options{Replicas: 1, ReplicasTimeout: 50 * time.Millisecond})
	message := hub.Message{Data: []byte("x"), Key: "k"}
	publish := func(ms ...hub.Message) error {
		_, err := r.PublishAll(t.Context(), "t", ms)
		return err
	}
	missing := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, hub.ErrUnknown) || !errors.Is(err, ErrReplicas) {
			t.Errorf("%s: %v, want ErrUnknown and ErrReplicas", what, err)
		}
	}
	missing("no replica", publish(message))
	missing("no replica, once more", publish(message))
	missing("no replica, several", publish(hub.Message{}, hub.Message{}))
	if err := publish(hub.Message{Data: []byte("x")}); !errors.Is(err, ErrReplicas) {
		t.Errorf("no replica, another one: %v", err)
	}

	replica := startServer(t, "--replicaof", "127.0.0.1 "+port)
	waitFor(t, "the replica", func() bool { return publish(message) == nil })
	if n := len(everything(t, r, "t")); n != 4 {
		t.Errorf("%d messages, want each once", n)
	}
	id := hub.ID("")
	waitFor(t, "a publish in time", func() (ok bool) {
		var err error
		id, err = r.Publish(t.Context(), "t", hub.Message{Key: "y"})
		return err == nil
	})
	if n := replica.XRange(t.Context(), r.keys.stream("t"), string(id), string(id)).Val(); len(n) != 1 {
		t.Error("Publish returned an ID that the replica does not have")
	}
	// What Redis refuses is refused all the same.
	master.Set(t.Context(), r.keys.stream("other"), "x", 0)
	if _, err := r.Publish(t.Context(), "other", message); !errors.Is(err, hub.ErrRejected) || errors.Is(err, ErrReplicas) {
		t.Errorf("a key in the way: %v, want ErrRejected", err)
	}

	replica.freeze()
	missing("a frozen replica", publish(hub.Message{Key: "frozen"}))
	replica.thaw()
	waitFor(t, "the replica", func() bool { return publish(hub.Message{Key: "frozen"}) == nil })
}

// TestReplicasOfAnotherNode: where a cluster sends a publish elsewhere, the replicas of that node
// count, and not those of the one that sent it away.
func TestReplicasOfAnotherNode(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	nodes := startCluster(t)
	keys := newKeys(defaultPrefix, 0)
	slot := nodes[0].ClusterKeySlot(ctx, keys.stream("t")).Val()
	with, without := nodes[0], nodes[1]
	if slot > 8191 {
		with, without = without, with
	}
	id := func(s *server) string { return s.ClusterMyID(ctx).Val() }
	replica := startServer(t, "--cluster-enabled", "yes", "--repl-diskless-sync-delay", "0")
	host, port, _ := strings.Cut(with.addr, ":")
	if err := replica.ClusterMeet(ctx, host, port).Err(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the replica", func() bool { return replica.ClusterReplicate(ctx, id(with)).Err() == nil })
	waitFor(t, "its data", func() bool {
		return strings.Contains(replica.Info(ctx, "replication").Val(), "master_link_status:up")
	})
	r := newClusterRig(t, with.addr, Options{Replicas: 1, ReplicasTimeout: time.Second})
	publish := func() error {
		_, err := r.Publish(ctx, "t", hub.Message{})
		return err
	}
	waitFor(t, "a publish with a replica", func() bool { return publish() == nil })
	begin := func(from, to *server) {
		t.Helper()
		for _, err := range []error{
			to.Do(ctx, "cluster", "setslot", slot, "importing", id(from)).Err(),
			from.Do(ctx, "cluster", "setslot", slot, "migrating", id(to)).Err(),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		host, port, _ := strings.Cut(to.addr, ":")
		for _, key := range from.ClusterGetKeysInSlot(ctx, int(slot), 1000).Val() {
			if err := from.Migrate(ctx, host, port, key, 0, time.Second).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	end := func(to, from *server) {
		t.Helper()
		for _, s := range []*server{to, from} {
			if err := s.Do(ctx, "cluster", "setslot", slot, "node", id(to)).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	unknown := func(what string) {
		t.Helper()
		if err := publish(); !errors.Is(err, hub.ErrUnknown) || !errors.Is(err, ErrReplicas) {
			t.Errorf("%s: %v, want ErrUnknown and ErrReplicas", what, err)
		}
	}
	known := func(what string) {
		t.Helper()
		if err := publish(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	begin(with, without)
	unknown("ASK")
	end(without, with)
	unknown("MOVED")
	waitFor(t, "the new layout", func() bool {
		of, err := r.publisher.of(ctx, keys.stream("t"))
		return err == nil && of.Options().Addr == without.addr
	})
	unknown("at once")
	begin(without, with)
	known("ASK, back")
	end(with, without)
	known("MOVED, back")
	if n := len(everything(t, r, "t")); n < 6 {
		t.Errorf("%d messages are there", n)
	}
}
