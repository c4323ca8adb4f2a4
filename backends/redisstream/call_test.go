package redisstream

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// together publishes messages as one batch and returns their jobs, done.
func (r *rig) together(topics []string, m func(i int) hub.Message) []*job {
	jobs := make([]*job, len(topics))
	for i, topic := range topics {
		message := m(i)
		jobs[i] = r.messageJob(topic, message)
	}
	r.publisher.write(context.Background(), r.publisher.single, jobs)
	return jobs
}

func (j *job) result() (string, error) { return j.messages[0].result, j.messages[0].err }

func numbered(i int) hub.Message { return hub.Message{Data: []byte(itoa(i))} }

func TestMessagesOfOneCall(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		admin.Set(t.Context(), r.keys.stream("taken"), "x", 0)
		a, _, _ := mustFollow(t, r, "a")

		topics := []string{"a", "b", "taken", "a", "b", "a"}
		jobs := r.together(topics, numbered)
		var ids []string
		for i, j := range jobs {
			id, err := j.result()
			if topics[i] == "taken" {
				if !errors.Is(cause(err), ErrWrongType) {
					t.Errorf("message %d: %q, %v, want ErrWrongType", i, id, err)
				}
				continue
			}
			if err != nil || !hub.ID(id).Valid() {
				t.Errorf("message %d: %q, %v", i, id, err)
			}
			if topics[i] == "a" {
				ids = append(ids, id)
			}
		}
		got := everything(t, r, "a")
		if len(got) != len(ids) || len(everything(t, r, "b")) != 2 {
			t.Fatalf("a has %d messages, want %d", len(got), len(ids))
		}
		for i, m := range got {
			if string(m.ID) != ids[i] {
				t.Errorf("message %d has ID %s, its publisher was told %s", i, m.ID, ids[i])
			}
		}
		// Each was announced with the one before.
		waitFor(t, "three live messages", func() bool { return a.has("5") })
		a.mu.Lock()
		defer a.mu.Unlock()
		for i, m := range a.messages {
			if string(m.ID) != ids[i] || i > 0 && string(m.Prev) != ids[i-1] {
				t.Errorf("announced %s after %q, want %s of %v", m.ID, m.Prev, ids[i], ids)
			}
		}
	})
}

func TestKeyTwiceInOneCall(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		jobs := r.together([]string{"a", "b", "a", "a"}, func(i int) hub.Message { return hub.Message{Data: []byte(itoa(i)), Key: "k"} })
		first, err := jobs[0].result()
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []int{2, 3} {
			if id, err := jobs[i].result(); err != nil || id != first {
				t.Errorf("repetition %d: %q, %v, want %q", i, id, err, first)
			}
		}
		if n := len(everything(t, r, "a")); n != 1 {
			t.Errorf("%d messages, want 1", n)
		}
		if n := len(everything(t, r, "b")); n != 1 {
			t.Errorf("another topic with the same key: %d messages, want 1", n)
		}
	})
}

// TestDenialIsOneTopicsOwn: a call that is refused for the key of one of its topics does not take
// the others with it.
func TestDenialIsOneTopicsOwn(t *testing.T) {
	s := startServer(t)
	if err := s.Do(t.Context(), "ACL", "SETUSER", "narrow", "on", ">pw", "~headrace:{mine*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: s.addr, Username: "narrow", Password: "pw"})
	defer client.Close()
	b, err := New(client, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r := &rig{Backend: b}
	topics := []string{"mine1", "theirs", "mine2", "mine1"}
	for i, j := range r.together(topics, numbered) {
		_, err := j.result()
		if denied := errors.Is(cause(err), ErrDenied); denied != (topics[i] == "theirs") || !denied && err != nil {
			t.Errorf("%s: %v", topics[i], err)
		}
	}
	if n := s.XLen(t.Context(), b.keys.stream("mine1")).Val(); n != 2 {
		t.Errorf("mine1 has %d entries, want 2", n)
	}
}

func TestCallBounds(t *testing.T) {
	single := &Backend{publisher: &appender{lanes: &lanes{}, opts: &Options{}, random: randomID}}
	cluster := &Backend{publisher: &appender{lanes: &lanes{nodes: nodes{cluster: &redis.ClusterClient{}}}, opts: &Options{}, random: randomID}}
	for _, b := range []*Backend{single, cluster} {
		b.keys = newKeys("p:", 0)
	}
	for _, test := range []struct {
		name    string
		b       *Backend
		topics  string
		size    int
		most    int
		members []int
	}{
		{"of several topics", single, "aabc", 1, 32, []int{4}},
		{"so many messages", single, strings.Repeat("a", 2*callMessages+6), 1, callMessages, []int{callMessages, callMessages, 6}},
		{"so many bytes", single, "aaaaa", 30 << 10, 32, []int{2, 2, 1}},
		{"one that is too large", single, "aa", 1 << 20, 32, []int{1, 1}},
		{"alone", single, "aab", 1, 1, []int{1, 1, 1}},
		{"a cluster's topics apart", cluster, "abacab", 1, 32, []int{3, 2, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var jobs []*job
			for topic := range strings.SplitSeq(test.topics, "") {
				jobs = append(jobs, test.b.messageJob(topic, hub.Message{Data: make([]byte, test.size), Binary: true}))
			}
			calls := test.b.publisher.calls(jobs, test.most)
			var members []int
			for _, c := range calls {
				members = append(members, len(c.members))
			}
			if len(members) != len(test.members) {
				t.Fatalf("calls of %v messages, want %v", members, test.members)
			}
			for i := range members {
				if members[i] != test.members[i] {
					t.Fatalf("calls of %v messages, want %v", members, test.members)
				}
			}
		})
	}
}
