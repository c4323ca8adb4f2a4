package tabs

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/chromedp/cdproto/page"

	"github.com/headrace/headrace/internal/testenv"
)

// TestTabs: tabs share a connection, and another one takes over when the tab that holds it is
// closed.
func TestTabs(t *testing.T) {
	c := newCrowd(t, chromium(t))
	stop := c.publish()
	c.add(3, "")
	c.flows()
	c.remove(c.leader())
	c.flows()
	c.leader()
	stop()
	c.whole()
}

// TestManyTabs: ten tabs, and all that can happen to their connection.
func TestManyTabs(t *testing.T) {
	testenv.Long(t)
	c := newCrowd(t, chromium(t))
	stop := c.publish()
	c.add(10, "")
	c.flows()
	c.leader()
	// Two in the browser; the server hears later of those that were closed.
	c.wait("ten tabs had opened few streams at a time", func() bool { return c.most <= 5 })
	c.step(t, "crashed", func(testing.TB) {
		leader := c.leader()
		c.tabs[leader].(*chromiumTab).crash()
		delete(c.tabs, leader)
		c.flows()
		c.leader()
	})
	c.step(t, "frozen", func(t testing.TB) {
		leader := c.leader()
		frozen := c.tabs[leader].(*chromiumTab)
		if err := frozen.lifecycle(page.SetWebLifecycleStateStateFrozen); err != nil {
			t.Fatal(err)
		}
		delete(c.tabs, leader)
		c.flows()
		c.tabs[leader] = frozen
		if err := frozen.lifecycle(page.SetWebLifecycleStateStateActive); err != nil {
			t.Fatal(err)
		}
		c.flows()
		c.leader()
	})
	c.step(t, "busy", func(testing.TB) {
		leader := c.leader()
		c.eval(leader, "setTimeout(() => { const end = Date.now() + 10000; while (Date.now() < end); }), 0", nil)
		busy := c.tabs[leader]
		delete(c.tabs, leader)
		c.wait("another tab had a stream", func() bool {
			for stream := range c.streams {
				if stream.tab != leader {
					return true
				}
			}
			return false
		})
		c.flows()
		c.tabs[leader] = busy
		c.flows()
		c.leader()
	})
	c.fare(t, stop)
}

// fare has everything happen to the connection of the tabs that can happen in any browser.
func (c *crowd) fare(t *testing.T, stop func()) {
	c.step(t, "closed", func(testing.TB) {
		c.remove(c.leader())
		c.flows()
		c.leader()
	})
	c.step(t, "refused twice", func(testing.TB) {
		c.leader()
		c.change(func() {
			c.refuse = []int{http.StatusServiceUnavailable, http.StatusServiceUnavailable}
			c.stall()
		})
		c.wait("two requests were refused", func() bool { return len(c.refuse) == 0 })
		c.flows()
		c.leader()
	})
	c.step(t, "stalled", func(testing.TB) {
		leader := c.leader()
		follower := c.other(leader)
		for _, name := range []string{leader, follower} {
			c.eval(name, "seen.states.length = 0", nil)
		}
		c.change(c.stall)
		c.until(leader, `seen.states[0] === "stale"`)
		c.until(follower, `seen.states[0] === "stale"`)
		c.flows()
		c.until(follower, `feed.state === "live"`)
		c.leader()
	})
	c.step(t, "logout", func(t testing.TB) {
		leader := c.leader()
		c.eval(leader, "feed.close(), feed.state", nil)
		gone := c.tabs[leader]
		delete(c.tabs, leader)
		c.flows()
		c.leader()
		got, err := gone.eval("[seen.numbers.at(-1), feed.cursor, feed.state].join()")
		if err != nil {
			t.Fatal(err)
		}
		c.flows()
		if now, err := gone.eval("[seen.numbers.at(-1), feed.cursor, feed.state].join()"); err != nil || string(now) != string(got) {
			t.Errorf("the tab that was logged out has %s, and then %s, %v", got, now, err)
		}
	})
	c.step(t, "finished", func(t testing.TB) {
		stop()
		c.change(func() { c.newest += 2 - c.newest%2; c.finished = true })
		for name := range c.tabs {
			c.until(name, `seen.closes === 1 && feed.state === "ended"`)
			var wrong string
			c.eval(name, fmt.Sprintf("wrong(%d)", c.newest), &wrong)
			if wrong != "" {
				t.Errorf("tab %s: %s", name, wrong)
			}
		}
	})
}

// TestFirefox and TestWebKit: ten tabs, and what happens to their connection.
func TestFirefox(t *testing.T) {
	testenv.Long(t)
	tenTabs(t, firefox(t))
}

func TestWebKit(t *testing.T) {
	testenv.Long(t)
	tenTabs(t, webKit(t))
}

func tenTabs(t *testing.T, open func(url string) (tab, error)) {
	c := newCrowd(t, open)
	stop := c.publish()
	c.add(10, "")
	c.flows()
	c.leader()
	c.step(t, "visits", func(testing.TB) {
		c.visits("1", 9)
		c.flows()
		c.leader()
	})
	c.fare(t, stop)
}

// visits has a tab show one page after the other.
func (c *crowd) visits(name string, n int) {
	c.t.Helper()
	for i := range n {
		c.flows()
		c.eval(name, "seen.kept = true", nil)
		if err := c.tabs[name].visit(fmt.Sprintf("%s/page?tab=%s&visit=%d", c.url, name, i)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// step is a test of its own, behind which there is nothing to test where it fails.
func (c *crowd) step(t *testing.T, name string, f func(t testing.TB)) {
	t.Helper()
	whole := c.t
	defer func() { c.t = whole }()
	if !t.Run(name, func(t *testing.T) { c.t = t; f(t) }) {
		t.FailNow()
	}
}

// other returns another tab.
func (c *crowd) other(than string) string {
	for name := range c.tabs {
		if name != than {
			return name
		}
	}
	c.t.Fatal("there is no other tab")
	return ""
}

// stall silences all streams that there are. The lock must be held.
func (s *site) stall() {
	for stream := range s.streams {
		stream.stalled = true
	}
}

// TestVisits: pages that were left, and that the browser may have kept for the way back, hold no
// stream. Whoever comes back to one gets what came meanwhile.
func TestVisits(t *testing.T) {
	testenv.Long(t)
	c := newCrowd(t, chromium(t))
	stop := c.publish()
	c.add(1, "visit=1")
	c.visits("1", 8)
	c.flows()
	c.leader()
	c.eval("1", "history.back(), 0", nil)
	c.until("1", "seen.kept")
	c.flows()
	c.leader()
	stop()
	c.whole()
}

// TestAlone: tabs that must not share have a connection each, and so has one where it cannot be
// shared.
func TestAlone(t *testing.T) {
	testenv.Long(t)
	c := newCrowd(t, chromium(t))
	stop := c.publish()
	c.add(2, "alone")
	c.add(1, "user=7")
	c.add(1, "user=8")
	c.flows()
	c.wait("there were four streams", func() bool { return len(c.streams) == 4 })
	c.change(c.stall)
	c.flows()
	c.wait("there were four streams", func() bool { return len(c.streams) == 4 })
	stop()
	c.whole()
}

// TestTypes: tabs that listen for other types share a connection.
func TestTypes(t *testing.T) {
	testenv.Long(t)
	c := newCrowd(t, chromium(t))
	stop := c.publish()
	c.add(2, "even")
	c.flows()
	c.leader()
	c.add(2, "")
	c.flows()
	c.leader()
	for _, name := range []string{"1", "2", "3"} {
		c.remove(name)
		c.flows()
		c.leader()
	}
	stop()
	c.whole()
}

// TestReload: a page that remembers goes on where it was, unless its server says where it is.
func TestReload(t *testing.T) {
	testenv.Long(t)
	c := newCrowd(t, chromium(t))
	stop := c.publish()
	c.add(1, "remember")
	c.flows()
	c.eval("1", "seen.old = true, location.reload(), 0", nil)
	c.until("1", "!seen.old && seen.start > 0")
	c.flows()
	stop()
	c.whole()
}

// TestRefused: refusals end a feed with their status, and so does the end that a feed has had
// before.
func TestRefused(t *testing.T) {
	testenv.Long(t)
	open := chromium(t)
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusNoContent} {
		c := newCrowd(t, open)
		c.change(func() { c.refuse = []int{status, status} })
		c.add(1, "")
		c.until("1", `feed.state === "ended"`)
		var got int
		c.eval("1", "feed.status", &got)
		c.wait("two requests had been answered", func() bool { return c.requests == 2 })
		if got != status {
			t.Errorf("after answers of %d the feed has the status %d", status, got)
		}
	}
	for _, status := range []int{http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway} {
		c := newCrowd(t, open)
		stop := c.publish()
		c.change(func() { c.refuse = []int{status, status, status} })
		c.add(1, "")
		c.flows()
		stop()
		c.whole()
	}
}
