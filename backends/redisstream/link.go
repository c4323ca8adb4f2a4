package redisstream

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

const (
	// pageTime is how long the replies of a batch should take, so that pages arrive in a steady
	// flow, and small ones soon behind large ones.
	pageTime = time.Second / 2
	// leastBudget is what any link is taken to carry in that time, and firstBudget what one is
	// taken to that has not shown it.
	leastBudget = 32 << 10
	firstBudget = hub.PageBytes / 4
)

// link remembers how many bytes of replies a server's link carries in about pageTime, at most a
// page's. The zero link has not shown it.
type link struct{ bytes atomic.Int64 }

// budget is how many bytes to ask for at a time.
func (l *link) budget() int {
	if n := l.bytes.Load(); n > 0 {
		return int(n)
	}
	return firstBudget
}

// slow reports whether even a small page may be too large.
func (l *link) slow() bool { return l.budget() < firstBudget }

// note takes a batch into account, and how long it took. What is small tells nothing of a link: it
// may have taken long for other reasons.
func (l *link) note(jobs []*job, took time.Duration) {
	budget, expected, late := l.budget(), 0, false
	for _, j := range jobs {
		expected += j.size
		late = late || missed(j.cmd.Err())
	}
	if took < pageTime && !late && (budget == hub.PageBytes || expected < budget/2) {
		return
	}
	bytes := 0
	for _, j := range jobs {
		if c, ok := j.cmd.(*redis.Cmd); ok {
			bytes += replySize(c.Val())
		}
	}
	switch {
	case late:
		budget /= 4
	case took >= 2*pageTime && bytes >= leastBudget/2:
		budget = min(budget, int(int64(bytes)*int64(pageTime)/int64(took)))
	case took < pageTime && bytes >= budget/2:
		budget *= 2
	}
	l.bytes.Store(int64(min(max(budget, leastBudget), hub.PageBytes)))
}

// missed reports whether a reply did not come: in time, or before its connection was closed, as a
// server or a balancer does with a client that it has to hold too much for.
func missed(err error) bool { return err != nil && (timedOut(err) || hungUp(err)) }

// timedOut reports whether a reply did not come in time.
func timedOut(err error) bool {
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return false
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// replySize is about how many bytes a reply has.
func replySize(reply any) int {
	switch reply := reply.(type) {
	case string:
		return len(reply)
	case []any:
		n := 0
		for _, r := range reply {
			n += replySize(r)
		}
		return n
	}
	return 0
}
