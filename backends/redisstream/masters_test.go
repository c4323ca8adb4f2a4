package redisstream

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// TestTwoMasters: two servers that each take themselves for the master get a message for each
// topic. A reader who had the one of the server that loses is told of a gap by the other one.
func TestTwoMasters(t *testing.T) {
	const topics = 200
	for _, test := range []struct {
		name  string
		start func(t *testing.T) (addrs [2]string)
		// before is an entry that both have, "" for none.
		before string
	}{
		{"redis-server, at the same moment", func(t *testing.T) [2]string { return [2]string{startServer(t).addr, startServer(t).addr} }, ""},
		{"redis-server, clocks behind", func(t *testing.T) [2]string { return [2]string{startServer(t).addr, startServer(t).addr} }, "2893456000000-0"},
		{"miniredis, in the same millisecond", twoMinis, ""},
		{"miniredis, in the millisecond of the entry before", twoMinis, "1795394462123-77"},
		{"miniredis, clocks behind", twoMinis, "1795394462124-524287"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var rigs [2]*rig
			for i, addr := range test.start(t) {
				rigs[i] = newRig(t, addr, Options{})
				// One case in 2^18 is as good as none elsewhere, and a test that fails here.
				random := rand.New(rand.NewPCG(uint64(i), 1))
				rigs[i].publisher.random = func() int { return 1 + random.IntN(mostRandom) }
			}
			var ids [2][topics]hub.ID
			for n := range topics {
				if test.before != "" {
					for _, r := range rigs {
						r.xadd(t, "t"+itoa(n), test.before, "hr", "1", "data", "common")
					}
				}
				var wg sync.WaitGroup
				for i, r := range rigs {
					wg.Go(func() { ids[i][n], _ = r.Publish(t.Context(), "t"+itoa(n), hub.Message{Data: []byte(itoa(i))}) })
				}
				wg.Wait()
			}
			together := 0
			for n := range topics {
				lost, kept := ids[0][n], ids[1][n]
				if !lost.Valid() || !kept.Valid() {
					t.Fatalf("a message was not appended: %q, %q", lost, kept)
				}
				if before, _, _ := strings.Cut(string(lost), "-"); strings.HasPrefix(string(kept), before+"-") {
					together++
				}
				if p := mustRead(t, rigs[1], "t"+itoa(n), lost); !p.Gap {
					t.Errorf("topic %d: no gap at %s, the newest is %s", n, lost, kept)
				}
			}
			t.Logf("in %d of %d topics both IDs have the same millisecond", together, topics)
		})
	}
}

// twoMinis starts two servers whose clocks stand at the same millisecond.
func twoMinis(t *testing.T) (addrs [2]string) {
	for i := range addrs {
		m := startMini(t)
		m.SetTime(time.UnixMilli(1_795_394_462_123))
		addrs[i] = m.Addr()
	}
	return addrs
}

// xadd adds an entry as another program does.
func (r *rig) xadd(t *testing.T, topic, id string, fields ...any) string {
	t.Helper()
	got, err := r.client.XAdd(t.Context(), &redis.XAddArgs{Stream: r.keys.stream(topic), ID: id, Values: fields}).Result()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestOldStreams: streams with the IDs of XADD * go on, and so do publishers that still give them.
func TestOldStreams(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		live, _, _ := mustFollow(t, r, "t")
		var ids []hub.ID
		for i := range 100 {
			if i%3 == 0 || i > 80 {
				ids = append(ids, mustPublish(t, r, "t", itoa(i)))
			} else {
				ids = append(ids, hub.ID(r.xadd(t, "t", "*", "hr", "1", "data", itoa(i))))
			}
		}
		all := everything(t, r, "t")
		if len(all) != len(ids) {
			t.Fatalf("%d messages, want %d", len(all), len(ids))
		}
		for i, m := range all {
			if m.ID != ids[i] || string(m.Data) != itoa(i) {
				t.Fatalf("message %d is %s with ID %s, want ID %s", i, m.Data, m.ID, ids[i])
			}
			p := mustRead(t, r, "t", m.ID)
			if p.Gap || len(p.Messages) != len(ids)-1-i {
				t.Errorf("after %s: %d messages, gap %v", m.ID, len(p.Messages), p.Gap)
			}
		}
		waitFor(t, "the last message", func() bool { return live.has("99") })
		live.mu.Lock()
		defer live.mu.Unlock()
		for _, m := range live.messages {
			if i := slices.Index(ids, m.ID); i > 0 && m.Prev != ids[i-1] {
				t.Errorf("%s was announced after %s, want %s", m.ID, m.Prev, ids[i-1])
			}
		}
	})
}

// TestStrangeNewestEntries: whatever ID another program has chosen, messages are appended behind
// it, as long as there is one.
func TestStrangeNewestEntries(t *testing.T) {
	const most = "18446744073709551615"
	s := startServer(t)
	r := newRig(t, s.addr, Options{})
	for i, test := range []struct {
		id      string
		deleted bool
	}{
		{"5-" + most, false}, {"2893456000000-0", false}, {"2893456000000-" + most, false}, {"9007199254740993-7", false}, {"9007199254740993-" + most, false},
		{most + "-5", false}, {most + "-1844674407370955161", false},
		{"2893456000000-5", true}, {"2893456000000-" + most, true}, {"9007199254740993-" + most, true},
	} {
		topic := "t" + itoa(i)
		r.xadd(t, topic, test.id, "hr", "1", "data", "strange")
		if test.deleted {
			s.XDel(t.Context(), r.keys.stream(topic), test.id)
		}
		var ids []hub.ID
		for _, job := range r.together([]string{topic, topic, topic}, numbered) {
			id, err := job.result()
			if err != nil {
				t.Errorf("behind %s: %v", test.id, err)
			}
			ids = append(ids, hub.ID(id))
		}
		all := everything(t, r, topic)
		if !test.deleted && len(all) > 0 {
			all = all[1:]
		}
		for k, id := range ids {
			if len(all) != len(ids) || all[k].ID != id {
				t.Errorf("behind %s: %v are not there", test.id, ids)
				break
			}
		}
	}
	r.xadd(t, "full", most+"-"+most, "hr", "1")
	if _, err := r.Publish(t.Context(), "full", hub.Message{}); !errors.Is(err, hub.ErrRejected) || !errors.Is(err, ErrReply) {
		t.Errorf("behind the last ID of all: %v", err)
	}
}
