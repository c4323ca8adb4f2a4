package redisstream

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// TestReplicas: Publish waits for replicas, and says when they do not have the message. A retry with
// the key asks again, and appends nothing.
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
	id := mustPublish(t, r, "t", "y")
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
