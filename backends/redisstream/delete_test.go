package redisstream

import (
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// pairs runs a test with two instances over one server, with each kind of server and each way of
// getting live messages.
func pairs(t *testing.T, f func(t *testing.T, a, b *rig, admin *redis.Client)) {
	modes(t, func(t *testing.T, o Options) {
		both(t, func(t *testing.T, addr string) {
			admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
			t.Cleanup(func() { _ = admin.Close() })
			f(t, newRig(t, addr, o), newRig(t, addr, o), admin)
		})
	})
}

func (r *recorder) all() []hub.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

// await waits for the n-th message.
func (r *recorder) await(t testing.TB, n int) hub.Message {
	t.Helper()
	waitFor(t, "message "+itoa(n), func() bool { return len(r.all()) >= n })
	return r.all()[n-1]
}

func idsOf(ms []hub.Message) (ids []hub.ID) {
	for _, m := range ms {
		ids = append(ids, m.ID)
	}
	return ids
}

func mustDelete(t testing.TB, b hub.Backend, topic string) {
	t.Helper()
	if err := b.Delete(t.Context(), topic); err != nil {
		t.Fatalf("Delete: %v", err)
	}
}

func mustInfo(t testing.TB, b hub.Backend, topic string) hub.Info {
	t.Helper()
	info, err := b.Info(t.Context(), topic)
	if err != nil {
		t.Fatalf("Info: %v", err)
	}
	return info
}

// wantPage checks what is after an ID.
func wantPage(t testing.TB, b hub.Backend, topic string, after hub.ID, gap bool, want ...hub.ID) hub.Page {
	t.Helper()
	p := mustRead(t, b, topic, after)
	if got := idsOf(p.Messages); p.Gap != gap || !slices.Equal(got, want) {
		t.Errorf("Read after %q: gap: %v, %v, want gap: %v, %v", after, p.Gap, got, gap, want)
	}
	if q := mustRead(t, b, topic, p.Next); q.Gap || len(q.Messages) > 0 {
		t.Errorf("Read after %q, the Next of %q: gap: %v, %v", p.Next, after, q.Gap, idsOf(q.Messages))
	}
	return p
}

// TestDeleteWhatWasErased: the keys of a topic go with it, also when no message is left of it.
func TestDeleteWhatWasErased(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		keyed := hub.Message{Data: []byte("a"), Key: "k"}
		first, err := r.Publish(t.Context(), "t", keyed)
		if err != nil {
			t.Fatal(err)
		}
		mustErase(t, r, "t", first)
		if again, err := r.Publish(t.Context(), "t", keyed); err != nil || again != first {
			t.Errorf("with the key of an erased message: %q, %v, want %q", again, err, first)
		}
		mustDelete(t, r, "t")
		second, err := r.Publish(t.Context(), "t", keyed)
		if err != nil || second == first {
			t.Errorf("with a key of before the deletion: %q, %v, want another ID than %q", second, err, first)
		}
		if again, err := r.Publish(t.Context(), "t", keyed); err != nil || again != second {
			t.Errorf("with a key of the new life: %q, %v, want %q", again, err, second)
		}
	})
}

func TestDelete(t *testing.T) {
	pairs(t, func(t *testing.T, a, b *rig, admin *redis.Client) {
		stream := a.keys.stream("t")
		mustDelete(t, a, "t")
		if n := admin.DBSize(t.Context()).Val(); n != 0 {
			t.Errorf("deleting a topic that never was left %d keys", n)
		}
		here, place, _ := mustFollow(t, a, "t")
		there, _, _ := mustFollow(t, b, "t")
		former := []hub.ID{place}
		for i := range 5 {
			former = append(former, mustPublish(t, b, "t", itoa(i)))
		}
		here.await(t, 5)
		there.await(t, 5)
		mustErase(t, a, "t", former[2])
		former = append(former, here.await(t, 6).ID)
		there.await(t, 6)
		for n := 7; n < 11; n += 2 {
			mustDelete(t, a, "t")
			began := here.await(t, n)
			if !began.Deleted || began.Erases != "" || len(began.Data) > 0 || began.Type != "" || slices.Contains(former, began.ID) {
				t.Errorf("the entry of a deletion: %+v", began)
			}
			if m := there.await(t, n); m.ID != began.ID || !m.Deleted || m.Prev != noEntry {
				t.Errorf("the same at another instance: %+v", m)
			}
			if p := wantPage(t, b, "t", "", false, began.ID); !p.Messages[0].Deleted {
				t.Errorf("the entry of a deletion, read: %+v", p.Messages[0])
			}
			if p := wantPage(t, b, "t", began.ID, false); !p.Deleted || p.Final {
				t.Errorf("the page at the entry of a deletion: %+v", p)
			}
			for _, id := range former {
				wantPage(t, b, "t", id, true, began.ID)
			}
			if info := mustInfo(t, b, "t"); info != (hub.Info{}) {
				t.Errorf("Info of a deleted topic: %+v", info)
			}
			if left := admin.PTTL(t.Context(), stream).Val(); left < 47*time.Hour || left > 48*time.Hour {
				t.Errorf("the entry of a deletion expires in %v", left)
			}
			mustDelete(t, b, "t")
			if n := admin.XLen(t.Context(), stream).Val(); n != 1 {
				t.Errorf("deleting a deleted topic did something: %d entries", n)
			}
			id := mustPublish(t, b, "t", "anew")
			if m := here.await(t, n+1); m.ID != id || m.Prev != began.ID {
				t.Errorf("the first message of a new life: %+v, want %q after %q", m, id, began.ID)
			}
			there.await(t, n+1)
			for _, old := range former {
				wantPage(t, a, "t", old, true, began.ID, id)
			}
			wantPage(t, a, "t", began.ID, false, id)
			if info := mustInfo(t, a, "t"); !info.Exists || info.Oldest != id || info.Newest != id {
				t.Errorf("Info: %+v, want %q", info, id)
			}
			former = append(former, began.ID, id)
		}
		if n := admin.Exists(t.Context(), erasedKey(stream), frontKey(stream)).Val(); n != 0 {
			t.Error("what was erased in a former life is still known")
		}
		if n := len(here.all()); n != 10 {
			t.Errorf("%d messages arrived, want 10", n)
		}
	})
}

// TestDeletionIsNoFirstMessage: who followed an empty topic, and hears of nothing but its deletion,
// has missed what was deleted.
func TestDeletionIsNoFirstMessage(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		rec := &recorder{}
		f := &follower{sink: rec, first: true}
		f.begin("0-1700000000000")
		f.deliver(hub.Message{ID: "1700000000001-1", Deleted: deleted})
		want := hub.ID("0-1700000000000")
		if deleted {
			want = noEntry
		}
		if m := rec.all(); len(m) != 1 || m[0].Prev != want {
			t.Errorf("deleted: %v: %+v, want it after %q", deleted, m, want)
		}
	}
}

// TestDeletedKeptForever: the entry of a deletion expires although topics do not, and the topic
// does not when it is used again, be it in the same second.
func TestDeletedKeptForever(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		for _, test := range []struct{ least, want time.Duration }{{0, 24 * time.Hour}, {72 * time.Hour, 72 * time.Hour}} {
			r := newRig(t, addr, Options{KeepForever: true, MinExpiry: test.least})
			topic := test.least.String()
			stream := r.keys.stream(topic)
			_, place, _ := mustFollow(t, r, topic)
			mustPublish(t, r, topic, "x")
			mustDelete(t, r, topic)
			if left := admin.PTTL(t.Context(), stream).Val(); left > test.want || left < test.want-time.Minute {
				t.Errorf("the entry of a deletion expires in %v, want %v", left, test.want)
			}
			mustPublish(t, r, topic, "y")
			if left := admin.PTTL(t.Context(), stream).Val(); left >= 0 {
				t.Errorf("a topic that was deleted and used again expires in %v", left)
			}
			if info := mustInfo(t, r, topic); !info.Exists || !info.Expires.IsZero() {
				t.Errorf("Info: %+v", info)
			}
			// When the entry of a deletion has expired, nothing tells that the topic was there.
			admin.Del(t.Context(), stream)
			at, _ := parseID(string(place))
			if p := mustRead(t, r, topic, placeID(at.seq-uint64(test.want.Milliseconds()))); !p.Gap {
				t.Error("a position from before a deletion that nobody remembers is no gap")
			}
		}
	})
}

// TestLifeInCluster deletes and erases where publishing and following go to different servers.
func TestLifeInCluster(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		nodes := startCluster(t)
		a, b := newClusterRig(t, nodes[0].addr, o), newClusterRig(t, nodes[1].addr, o)
		for i := range 4 { // topics of both nodes
			topic := "t" + itoa(i)
			rec, place, _ := mustFollow(t, a, topic)
			first, second := mustPublish(t, b, topic, "1"), mustPublish(t, b, topic, "2")
			rec.await(t, 2)
			mustErase(t, b, topic, first)
			erasing := rec.await(t, 3)
			if erasing.Erases != first || erasing.Prev != second {
				t.Errorf("the entry of an erasure: %+v", erasing)
			}
			for _, at := range []hub.ID{place, first} {
				wantPage(t, b, topic, at, false, second, erasing.ID)
			}
			// The second is the oldest message, and what erased the first one is none.
			if id, err := b.Seek(t.Context(), topic, hub.Seek{Messages: 1}); err != nil || id != "" {
				t.Errorf("Seek: %q, %v", id, err)
			}
			if info := mustInfo(t, b, topic); info.Oldest != second || info.Newest != second {
				t.Errorf("Info: %+v", info)
			}
			mustDelete(t, b, topic)
			began := rec.await(t, 4)
			if !began.Deleted {
				t.Errorf("the entry of a deletion: %+v", began)
			}
			for _, at := range []hub.ID{place, first, second, erasing.ID} {
				wantPage(t, a, topic, at, true, began.ID)
			}
			if err := a.Ping(t.Context()); err != nil {
				t.Errorf("Ping: %v", err)
			}
		}
	})
}

// wholeLife calls everything that concerns a topic's life.
func wholeLife(t *testing.T, b hub.Backend) {
	t.Helper()
	ids := []hub.ID{mustPublish(t, b, "life", "1"), mustPublish(t, b, "life", "2"), mustPublish(t, b, "life", "3")}
	mustErase(t, b, "life", ids[0])
	if p := mustRead(t, b, "life", ids[0]); p.Gap || len(p.Messages) != 3 {
		t.Errorf("Read after an erased message: %+v", p)
	}
	if id, err := b.Seek(t.Context(), "life", hub.Seek{Messages: 1}); err != nil || id != ids[1] {
		t.Errorf("Seek: %q, %v, want %q", id, err, ids[1])
	}
	if info := mustInfo(t, b, "life"); info.Oldest != ids[1] || info.Newest != ids[2] {
		t.Errorf("Info: %+v", info)
	}
	mustDelete(t, b, "life")
	if p := mustRead(t, b, "life", ids[1]); !p.Gap || len(p.Messages) != 1 || !p.Messages[0].Deleted {
		t.Errorf("Read after a deletion: %+v", p)
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
}
