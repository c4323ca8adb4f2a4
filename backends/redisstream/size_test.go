package redisstream

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// batchOf are jobs that have their replies.
func batchOf(err error, sizes ...int) (jobs []*job) {
	for _, n := range sizes {
		cmd := redis.NewCmd(context.Background())
		cmd.SetVal([]any{[]any{"id", []any{strings.Repeat("x", n)}}, int64(1), nil})
		cmd.SetErr(err)
		jobs = append(jobs, &job{cmd: cmd, size: n})
	}
	return jobs
}

func TestLink(t *testing.T) {
	const page = hub.PageBytes
	for _, test := range []struct {
		name   string
		budget int
		jobs   []*job
		took   time.Duration
		want   int
	}{
		{"fast", page, batchOf(nil, page), pageTime / 2, page},
		{"not too slow", page, batchOf(nil, page), 2*pageTime - 1, page},
		{"slow", page, batchOf(nil, page/2, page/2), 4 * pageTime, page / 4},
		{"slow, and more than asked for", page, batchOf(nil, 16*page), 4 * pageTime, page},
		{"very slow", page, batchOf(nil, page), time.Hour, leastBudget},
		{"long, but for little", page, batchOf(nil, 10), time.Minute, page},
		{"faster again", page / 4, batchOf(nil, page/4), pageTime / 2, page / 2},
		{"not shown yet", 0, batchOf(nil, 10), pageTime / 2, firstBudget},
		{"as fast as ever", page - 1, batchOf(nil, page-1), pageTime / 2, page},
		{"little tells nothing", page / 4, batchOf(nil, page/16), pageTime / 2, page / 4},
		{"too late", page, batchOf(os.ErrDeadlineExceeded, 0), 5 * time.Second, page / 4},
		{"a refusal is no sign", page, batchOf(errors.New("refused"), 0), 5 * time.Second, page},
	} {
		l := link{}
		l.bytes.Store(int64(test.budget))
		l.note(test.jobs, test.took)
		if got := l.budget(); got < test.want-16 || got > test.want+16 {
			t.Errorf("%s: a budget of %d, want %d", test.name, got, test.want)
		}
	}
}

func TestSizes(t *testing.T) {
	const page = hub.PageBytes
	for _, test := range []struct {
		name          string
		entries       []int // sizes of pages of one entry that were read
		more          bool
		limit, budget int
		want          ask
	}{
		{"unknown", nil, false, 256, page, ask{firstEntries, firstBudget, true, firstEntries * guessedEntry / 8, page, nil}},
		{"unknown, one", nil, false, 1, page, ask{1, firstBudget, true, guessedEntry / 8, page, nil}},
		{"small", []int{100}, true, 256, page, ask{256, page, false, 25600, page, nil}},
		{"small, and nothing more", []int{100}, false, 256, page, ask{256, page, false, 3200, page, nil}},
		{"small on an unknown link", []int{100}, true, 256, firstBudget, ask{256, firstBudget, false, 25600, firstBudget, nil}},
		{"small on a slow link", []int{100}, true, 256, leastBudget, ask{256, leastBudget, true, 25600, leastBudget, nil}},
		{"large", []int{page / 32}, true, 256, page, ask{33, page, false, 33 * page / 32, page, nil}},
		{"large on an unknown link", []int{page / 32}, true, 256, firstBudget, ask{9, firstBudget, true, 9 * page / 32, firstBudget, nil}},
		{"huge", []int{page / 8}, true, 256, page, ask{9, page, true, 9 * page / 8, page, nil}},
		{"larger than a page", []int{4 * page}, true, 256, page, ask{1, page, true, 4 * page, page, nil}},
		{"larger at once", []int{10, page / 8}, true, 256, page, ask{9, page, true, 9 * page / 8, page, nil}},
		{"smaller by and by", []int{4096, 8, 8}, true, 256, page, ask{256, page, false, 256 * 1024, page, nil}},
	} {
		var s sizes
		for _, n := range test.entries {
			s.learn("t", 1, n, test.more)
		}
		if got := s.ask("t", test.limit, 0, test.budget); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
	var s sizes
	for i := range 2 * keptSizes {
		s.learn(itoa(i), 1, 100, false)
	}
	if len(s.streams) != keptSizes || s.of(itoa(2*keptSizes-1)).entry != 100 {
		t.Errorf("%d streams are kept", len(s.streams))
	}
}

// ofTopic reports whether a command is for a topic; others ask what the server is like.
func ofTopic(cmd redis.Cmder) bool {
	return slices.ContainsFunc(cmd.Args(), func(arg any) bool {
		key, _ := arg.(string)
		return strings.HasPrefix(key, defaultPrefix+"{") && strings.HasSuffix(key, "}") && key != defaultPrefix+"{}"
	})
}

// betweenReads counts the commands for topics over a client, and calls a function after the first
// one.
type betweenReads struct {
	do func()
	n  atomic.Int64
}

func (b *betweenReads) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b *betweenReads) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil && ofTopic(cmd) && b.n.Add(1) == 1 && b.do != nil {
			b.do()
		}
		return err
	}
}

func (b *betweenReads) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestTrimmedBetweenTheReadsOfAPage: a page that is read in two steps has nothing missing in the
// middle.
func TestTrimmedBetweenTheReadsOfAPage(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		var ids []hub.ID
		for i := range 5 * firstEntries {
			ids = append(ids, mustPublish(t, r, "t", "m"+itoa(i)))
		}
		b := &betweenReads{do: func() {
			if err := admin.XTrimMaxLen(t.Context(), r.keys.stream("t"), firstEntries).Err(); err != nil {
				t.Error(err)
			}
		}}
		r.clients[reading].single.AddHook(b)
		p := mustRead(t, r, "t", "")
		if len(p.Messages) != firstEntries || p.Next != ids[firstEntries-1] {
			t.Fatalf("%d messages, next %s", len(p.Messages), p.Next)
		}
		if p = mustRead(t, r, "t", p.Next); !p.Gap || len(p.Messages) != firstEntries || p.Next != ids[len(ids)-1] {
			t.Errorf("after them: gap %v, %d messages", p.Gap, len(p.Messages))
		}
	})
}

// TestPageIsRead tells how many commands it takes to read what is small and what is large.
func TestPageIsRead(t *testing.T) {
	s := startServer(t)
	past := newRig(t, s.addr, Options{})
	for i := range 600 {
		mustPublish(t, past, "small", "m"+itoa(i))
	}
	for i := range 6 {
		mustPublish(t, past, "large", strings.Repeat("x", hub.PageBytes/2-1000)+itoa(i))
	}
	r := newRig(t, s.addr, Options{})
	count := &betweenReads{}
	r.clients[reading].single.AddHook(count)
	read := func(topic string, after hub.ID, limit, want, most int) hub.ID {
		t.Helper()
		before := count.n.Load()
		p, err := r.Read(t.Context(), topic, after, limit)
		if err != nil || p.Gap || len(p.Messages) != want {
			t.Fatalf("%s: %d messages, want %d; gap %v, %v", topic, len(p.Messages), want, p.Gap, err)
		}
		if n := count.n.Load() - before; n > int64(most) {
			t.Errorf("%s: %d commands, want %d", topic, n, most)
		}
		return p.Next
	}
	// By the script, and then by XRANGE.
	at := read("small", "", 256, 256, 2)
	at = read("small", at, 256, 256, 1)
	at = read("small", at, 256, 88, 1)
	read("small", at, 256, 0, 1)
	// One at first, until the link has shown what it carries, and then as many as fit into a page.
	at = read("large", "", 256, 1, 1)
	for _, n := range []int{1, 1, 2, 1} {
		at = read("large", at, 256, n, 1)
	}
	read("large", at, 256, 0, 1)
}
