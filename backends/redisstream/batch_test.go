package redisstream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/headrace/headrace/hub"
)

// written makes messages of texts: "text", "text@key", and with "!" before it one with AfterEnd.
// The text "end" is a message that ends the topic.
func written(list string) (ms []hub.Message) {
	for word := range strings.FieldsSeq(list) {
		var m hub.Message
		word, m.AfterEnd = strings.CutPrefix(word, "!")
		word, m.Key, _ = strings.Cut(word, "@")
		m.Data, m.Final = []byte(word), word == "end"
		ms = append(ms, m)
	}
	return ms
}

// contents are the texts that a topic has.
func contents(t testing.TB, b hub.Backend, topic string) string {
	t.Helper()
	var list []string
	for _, m := range everything(t, b, topic) {
		list = append(list, string(m.Data))
	}
	return strings.Join(list, " ")
}

// appendTo appends messages by Publish or PublishAll.
func appendTo(b hub.Backend, topic string, ms []hub.Message) ([]hub.ID, error) {
	if len(ms) == 1 {
		id, err := b.Publish(context.Background(), topic, ms[0])
		return []hub.ID{id}, err
	}
	return b.PublishAll(context.Background(), topic, ms)
}

// TestPublishAll appends batches to a topic, one after the other, and looks at what is there.
func TestPublishAll(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		for i, test := range []struct {
			steps string // batches with ";" between them
			want  string
			ids   string // of the last batch: the numbers of the messages that have them
			err   error  // of the last batch
		}{
			{"a b c", "a b c", "0 1 2", nil},
			{"a; b c", "a b c", "1 2", nil},
			{"a b end", "a b end", "0 1 2", nil},
			{"a@k; b a2@k c", "a b c", "1 0 2", nil},
			{"a@k b@l; c@k d@l", "a b", "0 1", nil},
			{"a@k b@k c@l d@k", "a c", "0 0 1 0", nil},
			{"a b@k end@f; b@k end@f", "a b end", "2 2", nil},
			{"a end@f; b end@f", "a end", "1 1", nil},
			{"a end@f; !b end@f", "a end", "1 1", nil},
			{"a end; end", "a end", "1", nil},
			{"a end@f; !b; c d", "a end b c d", "3 4", nil},
			{"a end@f; !b; c end@f", "a end b", "1 1", nil},
			{"a end; b", "a end", "", hub.ErrEnded},
			{"a end; b c", "a end", "", hub.ErrEnded},
			{"a end; b !c", "a end", "", hub.ErrEnded},
			{"a@k end; a2@k", "a end", "0", nil},
			{"a@k end; a2@k b", "a end", "", hub.ErrEnded},
			{"a end; !b c", "a end b c", "2 3", nil},
			{"a end; !b; c", "a end b c", "3", nil},
			{"a end; !b end", "a end", "1 1", nil},
		} {
			topic := "t" + itoa(i)
			var ids []hub.ID
			var err error
			for step := range strings.SplitSeq(test.steps, ";") {
				if err != nil {
					t.Fatalf("%s: %v before the last batch", test.steps, err)
				}
				ids, err = appendTo(r, topic, written(step))
			}
			if got := contents(t, r, topic); got != test.want {
				t.Errorf("%s: the topic has %q, want %q", test.steps, got, test.want)
			}
			if test.err != nil {
				if !errors.Is(err, test.err) || !errors.Is(err, hub.ErrRejected) || strings.Contains(err.Error(), endedCode) {
					t.Errorf("%s: %v", test.steps, err)
				}
				continue
			}
			var numbers []string
			for _, id := range ids {
				numbers = append(numbers, itoa(slices.IndexFunc(everything(t, r, topic), func(m hub.Message) bool { return m.ID == id })))
			}
			if got := strings.Join(numbers, " "); err != nil || got != test.ids {
				t.Errorf("%s: IDs of messages %s, %v, want %s", test.steps, got, err, test.ids)
			}
		}
	})
}

// TestBatchesAreWhole: nothing comes between the messages of a batch, live or read, whoever else
// publishes.
func TestBatchesAreWhole(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		wholeBatches(t, newRig(t, addr, Options{}))
	})
	t.Run("cluster", func(t *testing.T) {
		wholeBatches(t, newClusterRig(t, startCluster(t)[0].addr, Options{}))
	})
}

func wholeBatches(t *testing.T, r *rig) {
	const publishers, each = 8, 20
	live, _, _ := mustFollow(t, r, "t")
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				name := itoa(p) + "/" + itoa(i)
				if _, err := r.PublishAll(t.Context(), "t", written(name+"=0 "+name+"=1@"+name+" "+name+"=2")); err != nil {
					t.Error(err)
				}
				mustPublish(t, r, "t", "alone")
				mustPublish(t, r, "other"+itoa(p), "alone")
			}
		})
	}
	wg.Wait()
	const all = publishers * each * 4
	waitFor(t, "the live messages", func() bool { return len(live.texts()) == all })
	read := everything(t, r, "t")
	for i, m := range read {
		name, part, _ := strings.Cut(string(m.Data), "=")
		if part == "1" && (string(read[i-1].Data) != name+"=0" || string(read[i+1].Data) != name+"=2") {
			t.Errorf("%s stands between %s and %s", m.Data, read[i-1].Data, read[i+1].Data)
		}
		l := live.messages[i]
		if l.ID != m.ID || string(l.Data) != string(m.Data) || i > 0 && l.Prev != read[i-1].ID {
			t.Errorf("message %d is %s live, after %s, and %s read", i, l.ID, l.Prev, m.ID)
		}
	}
	if len(read) != all {
		t.Errorf("%d messages, want %d", len(read), all)
	}
}

// TestBatchIsRefused: nothing of a batch is appended when one message of it cannot be.
func TestBatchIsRefused(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		stream := r.keys.stream("t")
		live, _, _ := mustFollow(t, r, "t")
		mustPublish(t, r, "t", "before")
		r.client.HSet(t.Context(), newerKeysKey(stream), keyDigest("taken"), "garbage")
		r.client.LPush(t.Context(), newerKeysKey(r.keys.stream("list")), "x")
		r.client.Set(t.Context(), r.keys.stream("string"), "x", 0)
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		large := hub.Message{Data: make([]byte, batchBytes/2), Binary: true}
		for _, test := range []struct {
			name, topic string
			ctx         context.Context
			ms          []hub.Message
			want        error
		}{
			{"a key that holds garbage", "t", t.Context(), written("a b@k c@taken"), ErrWrongType},
			{"keys of another type", "list", t.Context(), written("a b@k c"), ErrWrongType},
			{"a stream of another type", "string", t.Context(), written("a b"), ErrWrongType},
			{"a context that has ended", "t", canceled, written("a b"), context.Canceled},
			{"too many", "t", t.Context(), slices.Repeat(written("a"), batchMessages+1), hub.ErrTooLarge},
			{"too large", "t", t.Context(), []hub.Message{large, large}, hub.ErrTooLarge},
			{"too many headers", "t", t.Context(), append(written("a"), hub.Message{Headers: manyHeaders(maxHeaders + 1)}), hub.ErrTooLarge},
		} {
			ids, err := r.PublishAll(test.ctx, test.topic, test.ms)
			if ids != nil || !errors.Is(err, test.want) || !errors.Is(err, hub.ErrRejected) || errors.Is(err, hub.ErrUnknown) {
				t.Errorf("%s: %v, %v", test.name, ids, err)
			}
		}
		if got := contents(t, r, "t"); got != "before" {
			t.Errorf("the topic has %q", got)
		}
		mustPublish(t, r, "t", "after")
		waitFor(t, "the message after", func() bool { return live.has("after") })
		if got := strings.Join(live.texts(), " "); got != "before after" {
			t.Errorf("the follower has got %s", got)
		}
		if ids, err := r.PublishAll(t.Context(), "t", slices.Repeat(written("a"), batchMessages)); err != nil || len(ids) != batchMessages {
			t.Errorf("as many as can be: %d, %v", len(ids), err)
		}
	})
}

func manyHeaders(n int) map[string]string {
	h := make(map[string]string, n)
	for i := range n {
		h[itoa(i)] = ""
	}
	return h
}

// TestBatchIsUndone: what is refused in the middle takes back what came before. Only a stream whose
// IDs come to their end does that.
func TestBatchIsUndone(t *testing.T) {
	s := startServer(t)
	const most = "18446744073709551615"
	for _, test := range []struct {
		rights string
		want   error
		length int64
	}{
		{"+@all", hub.ErrRejected, 1},
		{"-xdel", hub.ErrUnknown, 3},
	} {
		if err := s.Do(t.Context(), "ACL", "SETUSER", "default", "+@all", test.rights).Err(); err != nil {
			t.Fatal(err)
		}
		r := newRig(t, s.addr, Options{})
		topic := "t" + test.rights
		live, _, _ := mustFollow(t, r, topic)
		r.xadd(t, topic, most+"-18446744073709551613", "hr", "1", "data", "before")
		ids, err := r.PublishAll(t.Context(), topic, written("a@k b c"))
		if ids != nil || !errors.Is(err, test.want) {
			t.Errorf("%s: %v, %v, want %v", test.rights, ids, err, test.want)
		}
		if n := s.XLen(t.Context(), r.keys.stream(topic)).Val(); n != test.length {
			t.Errorf("%s: %d entries, want %d", test.rights, n, test.length)
		}
		if n := s.Exists(t.Context(), newerKeysKey(r.keys.stream(topic))).Val(); n != 0 {
			t.Errorf("%s: the key is known", test.rights)
		}
		if got := live.texts(); len(got) > 0 {
			t.Errorf("%s: %s were announced", test.rights, got)
		}
	}
}

// TestEndBehindAnErasure: the end shows behind an erasure, and to see it no right is needed that a
// reader did not need before.
func TestEndBehindAnErasure(t *testing.T) {
	s := startServer(t)
	r := newRig(t, s.addr, Options{})
	live, _, _ := mustFollow(t, r, "t")
	id := mustPublish(t, r, "t", "a")
	if _, err := r.Publish(t.Context(), "t", written("end")[0]); err != nil {
		t.Fatal(err)
	}
	if err := r.Erase(t.Context(), "t", id); err != nil {
		t.Fatal(err)
	}
	entry := live.await(t, 3)
	if p := mustRead(t, r, "t", entry.ID); !p.Final || p.Gap {
		t.Errorf("Read after the erasure: %+v", p)
	}
	if err := s.Do(t.Context(), "acl", "setuser", "default", "-pttl").Err(); err != nil {
		t.Fatal(err)
	}
	if p := mustRead(t, r, "t", entry.ID); p.Final || p.Gap {
		t.Errorf("Read after the erasure, without the right to PTTL: %+v", p)
	}
}

// TestEndedBehindErasures: entries that erase are no messages, and the topic is ended all the same.
func TestEndedBehindErasures(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		ids, err := r.PublishAll(t.Context(), "t", written("a end"))
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			r.xadd(t, "t", "*", "hr", "1e", "erases", "1-1")
		}
		if _, err := r.Publish(t.Context(), "t", written("b")[0]); !errors.Is(err, hub.ErrEnded) {
			t.Errorf("a message behind the end: %v", err)
		}
		if id, err := r.Publish(t.Context(), "t", written("end")[0]); err != nil || id != ids[1] {
			t.Errorf("to finish again: %s, %v, want %s", id, err, ids[1])
		}
		r.xadd(t, "erased", "*", "hr", "1e", "erases", "1-1")
		mustPublish(t, r, "erased", "the only message")
	})
}
