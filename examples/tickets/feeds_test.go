package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

func TestFeeds(t *testing.T) { everywhere(t, testFeeds) }

func testFeeds(t *testing.T, url string) {
	a := serveOver(t, url, nil)
	all := a.follow("/tickets/events", "")
	all.next("checkpoint")
	first, second := a.create("first"), a.create("second")
	check := func(t *testing.T, got change, id string, version int) {
		t.Helper()
		if got.Ticket.ID != id || got.Ticket.Version != version {
			t.Errorf("ticket %s in version %d, want %s in version %d", got.Ticket.ID, got.Ticket.Version, id, version)
		}
	}
	// The answer to a request does not wait for its message, which is in the ticket's own topic
	// once it is in this one.
	check(t, all.nextChange(kindCreated), first.ID, 1)
	check(t, all.nextChange(kindCreated), second.ID, 1)
	own := a.follow("/tickets/"+first.ID+"/events", "")
	var begin thread
	if e := own.next("snapshot"); e.Decode(&begin) != nil || begin.ID != first.ID || begin.Version != 1 || begin.Comments == nil {
		t.Errorf("the feed of a ticket begins with %s", e.Text())
	}

	a.must("POST", "/tickets/"+first.ID+"/comments", `{"text":"hello"}`)
	a.must("POST", "/tickets/"+second.ID+"/comments", `{"text":"not here"}`)
	a.must("PATCH", "/tickets/"+first.ID, `{"assignee":"Ada"}`)
	a.must("PATCH", "/tickets/"+first.ID, `{"assignee":"Ada"}`) // no change, no event
	a.must("PATCH", "/tickets/"+first.ID, `{"status":"closed"}`)

	for _, want := range []struct {
		kind    string
		id      string
		version int
	}{
		{kindCommented, first.ID, 2}, {kindCommented, second.ID, 2},
		{kindAssigned, first.ID, 3}, {kindMoved, first.ID, 4},
	} {
		check(t, all.nextChange(want.kind), want.id, want.version)
	}
	commented := own.nextChange(kindCommented)
	check(t, commented, first.ID, 2)
	if c := commented.Comment; c == nil || c.ID != 1 || c.Text != "hello" {
		t.Errorf("comment %+v", c)
	}
	check(t, own.nextChange(kindAssigned), first.ID, 3)
	moved := own.nextChange(kindMoved)
	check(t, moved, first.ID, 4)
	if moved.Ticket.Status != statusClosed || moved.Comment != nil {
		t.Errorf("moved: %+v", moved)
	}
}

// TestChangesArePublishedInTheirOrder: eight writers, one ticket. Its versions count the changes,
// so the feeds must count too.
func TestChangesArePublishedInTheirOrder(t *testing.T) {
	everywhere(t, testChangesArePublishedInTheirOrder)
}

func testChangesArePublishedInTheirOrder(t *testing.T, url string) {
	a := serveOver(t, url, nil)
	all := a.follow("/tickets/events", "")
	all.next("checkpoint")
	made := a.create("busy")
	own := a.follow("/tickets/"+made.ID+"/events", "")
	own.next("snapshot")
	a.create("elsewhere")
	const writers, each = 8, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if !a.comment(made.ID, fmt.Sprintf("%d %d", w, i)) {
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow() // the feeds would be waited for for ever
	}
	for name, c := range map[string]*connection{"all": all, "own": own} {
		last := ""
		version := 1
		for version <= writers*each {
			e, err := c.Decode()
			if err != nil {
				t.Fatal(err)
			}
			var got change
			if err := e.Decode(&got); err != nil {
				t.Fatal(err)
			}
			if got.Ticket.ID != made.ID || e.Type == kindCreated {
				continue
			}
			version++
			if got.Ticket.Version != version || got.Comment.ID != version-1 || e.ID == last {
				t.Fatalf("%s: version %d with comment %d and id %s after %s, want version %d", name, got.Ticket.Version, got.Comment.ID, e.ID, last, version)
			}
			last = e.ID
		}
	}
}

func TestDropAndResume(t *testing.T) {
	a := serve(t, nil)
	before := a.follow("/tickets/events", "")
	before.next("checkpoint")
	made := a.create("made before")
	before.nextChange(kindCreated)
	const path = "/tickets/events?client=me"
	mine, other := a.follow(path, ""), a.follow("/tickets/events?client=other", "")
	start := mine.next("checkpoint").ID
	other.next("checkpoint")

	drop := func(want string) {
		t.Helper()
		if code, answer := a.do("POST", "/debug/drop?client=me", ""); code != http.StatusOK || answer != want {
			t.Fatalf("drop: status %d, %s; want %s", code, answer, want)
		}
	}
	drop(`{"dropped":1}`)
	if e, err := mine.Decode(); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("a dropped stream gives event %q and error %v: it must not look like a clean end", e.Type, err)
	}
	drop(`{"dropped":0}`)

	for i := range 3 {
		a.must("POST", "/tickets/"+made.ID+"/comments", fmt.Sprintf(`{"text":"meanwhile %d"}`, i))
	}
	back := a.follow(path, start)
	for i := range 3 {
		got := back.nextChange(kindCommented)
		if want := fmt.Sprint("meanwhile ", i); got.Comment.Text != want {
			t.Errorf("%q, want %q", got.Comment.Text, want)
		}
	}
	a.must("PATCH", "/tickets/"+made.ID, `{"status":"closed"}`)
	back.nextChange(kindMoved)
	for range 3 {
		other.nextChange(kindCommented) // was not dropped
	}
}

func TestDashboard(t *testing.T) { everywhere(t, testDashboard) }

func testDashboard(t *testing.T, url string) {
	a := serveOver(t, url, nil)
	_, forAgents := a.signIn("Bob", roleAgent)
	who, forAdmins := a.signIn("Ada", roleAdmin)
	forged := "tickets_session=" + base64.RawURLEncoding.EncodeToString([]byte(`{"name":"Ada","role":"admin","token":"guessed"}`))
	for name, test := range map[string]struct {
		cookie string
		want   int
	}{
		"no cookie": {"a=b", http.StatusUnauthorized}, "no JSON": {"tickets_session=x", http.StatusUnauthorized}, "forged cookie": {forged, http.StatusUnauthorized},
		"agent": {forAgents, http.StatusForbidden},
	} {
		if code, answer := a.do("GET", "/dashboard/events", "", "Cookie", test.cookie); code != test.want || !strings.HasPrefix(answer, `{"error":`) {
			t.Errorf("%s: status %d, %s; want %d", name, code, answer, test.want)
		}
	}

	made := a.create("one")
	c := a.follow("/dashboard/events?client=me", "", "Cookie", forAdmins)
	var welcome session
	if e := c.next("welcome"); e.Decode(&welcome) != nil || welcome != who {
		t.Errorf("welcome %s", e.Text())
	}
	counts := func(want string) {
		t.Helper()
		// One event for each change; counting is done when an event is made, so an early one may be
		// ahead.
		for {
			if e := c.next("counts"); e.Text() == want {
				return
			}
		}
	}
	counts(`{"closed":0,"open":1,"pending":0}`)
	a.create("two")
	counts(`{"closed":0,"open":2,"pending":0}`)
	a.must("PATCH", "/tickets/"+made.ID, `{"status":"pending"}`)
	counts(`{"closed":0,"open":1,"pending":1}`)
	a.must("PATCH", "/tickets/"+made.ID, `{"status":"closed"}`)
	counts(`{"closed":1,"open":1,"pending":0}`)

	if n := a.hub.Stats().Subscriptions; n != 1 {
		t.Errorf("%d subscriptions while the dashboard is open, want 1", n)
	}
	// Answered when the handler has returned, and with it the generator's deferred functions have
	// run.
	if _, answer := a.do("POST", "/debug/drop?client=me", ""); answer != `{"dropped":1}` {
		t.Errorf("drop: %s", answer)
	}
	if n := a.hub.Stats().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions after the client left, want none", n)
	}
}
