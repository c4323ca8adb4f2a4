package clients

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse/feed"
)

// last stands for the cursor behind the last event in what a test wants.
const last = "last"

// begin starts a client and waits until it follows.
func (s *site) begin(start func()) error {
	start()
	if err := s.has(report{Kind: "event", Type: "checkpoint"}); err != nil {
		return err
	}
	if err := s.publish(2); err != nil {
		return err
	}
	return s.all()
}

// visited waits for the end of a client, if it has one, and for visits, of which there must be no
// more then.
func (s *site) visited(end string, cursor string, want []visit) error {
	if end != "" {
		if err := s.has(report{Kind: "end", State: end}); err != nil {
			return err
		}
	}
	if err := s.wait("there were enough visits", func() bool { return len(s.visits) >= len(want) }); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	got := slices.Clone(s.visits)
	for i := range got {
		if got[i].cursor == cursor {
			got[i].cursor = last
		}
	}
	if end == "" {
		got = got[:len(want)] // it goes on
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("visits %v, want %v", got, want)
	}
	return nil
}

// TestClientsAtTheEnd: what they do when the feed is finished, which they are told by an event of
// type close, and by status 204 when they come back nevertheless.
func TestClientsAtTheEnd(t *testing.T) {
	testenv.Long(t)
	const ok, none = http.StatusOK, http.StatusNoContent
	b := newBrowser(t)
	for _, test := range []struct {
		name    string
		client  client
		options []string
		end     string // "": it never ends
		visits  []visit
	}{
		{"closes", browsers, []string{"close", ""}, "closed", []visit{{"", ok}}},
		{"goes on", browsers, nil, "closed", []visit{{"", ok}, {last, none}}},
		{"closes", npm, []string{"close", ""}, "closed", []visit{{"", ok}}},
		{"goes on", npm, nil, "closed", []visit{{"", ok}, {last, none}}},
		{"closes", fetching, nil, "fulfilled", []visit{{"", ok}}},
		{"goes on", fetching, []string{"bare", ""}, "", []visit{{"", ok}, {last, none}, {last, none}, {last, none}}},
		{"closes", htmx, []string{"close", ""}, "closed", []visit{{"", ok}}},
		// Its extension takes the end of the EventSource for a failure, and opens another one,
		// which knows nothing of the cursor.
		{"goes on", htmx, nil, "", []visit{{"", ok}, {last, none}, {"", ok}}},
	} {
		t.Run(test.client.name+"/"+test.name, func(t *testing.T) {
			s := newSite(t, setup{fault: soon})
			if err := s.begin(func() { test.client.start(s, b, test.options...) }); err != nil {
				t.Fatal(err)
			}
			id, err := s.hub.Finish(context.Background(), topic)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.visited(test.end, string(id), test.visits); err != nil {
				t.Fatal(err)
			}
		})
	}

	t.Run(fetching.name+"/comes later", func(t *testing.T) {
		s := newSite(t, setup{})
		id, err := s.hub.Finish(context.Background(), topic)
		if err != nil {
			t.Fatal(err)
		}
		fetching.start(s, b, "cursor", string(id), "token", "secret", "feed", feedPath+"?token=secret")
		if err := s.visited("fulfilled", string(id), []visit{{last, none}}); err != nil {
			t.Fatal(err)
		}
	})
}

// soon has a client that comes back after the end do so at once, and not after a minute or more.
func soon(frame []byte) []byte {
	if longRetry.Match(frame) {
		return []byte("retry: 10\n")
	}
	return frame
}

var longRetry = regexp.MustCompile(`^retry: \d{5}\n$`)

// TestClientsStayAway: who does not know that close is the end comes back after a long time.
// Several clients would come back every two seconds for ever.
func TestClientsStayAway(t *testing.T) {
	testenv.Long(t)
	for _, test := range []struct {
		client  client
		options []string
	}{{browsers, nil}, {npm, nil}, {fetching, []string{"bare", ""}}, {htmx, nil}} {
		t.Run(test.client.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, setup{})
			if err := s.begin(func() { test.client.start(s, newBrowser(t), test.options...) }); err != nil {
				t.Fatal(err)
			}
			if _, err := s.hub.Finish(context.Background(), topic); err != nil {
				t.Fatal(err)
			}
			if err := s.away(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(8 * time.Second) // there is nothing to wait for
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.visits) != 1 {
				t.Errorf("visits %v", s.visits)
			}
		})
	}
}

// TestFetchSurvivesRotation: it does where rotations break the connection off.
func TestFetchSurvivesRotation(t *testing.T) {
	testenv.Long(t)
	s := newSite(t, setup{lifetime: 300 * time.Millisecond, ending: feed.BreakRotations})
	fetching.start(s, newBrowser(t), "bare", "", "stops", "")
	if err := s.wait("there were enough visits", func() bool { return len(s.visits) >= 4 }); err != nil {
		t.Fatal(err)
	}
	if err := s.all(); err != nil {
		t.Fatal(err)
	}
}

// TestClientsRefused: what they do when one that comes back is refused, by a proxy without a server
// or by a guard.
func TestClientsRefused(t *testing.T) {
	testenv.Long(t)
	const ok, away, forbidden = http.StatusOK, http.StatusServiceUnavailable, http.StatusForbidden
	b := newBrowser(t)
	for _, test := range []struct {
		client  client
		options []string
		end     string // "": it goes on
		visits  []visit
	}{
		{browsers, nil, "closed", []visit{{"", ok}, {last, away}}},
		{npm, nil, "closed", []visit{{"", ok}, {last, away}}},
		{fetching, nil, "", []visit{{"", ok}, {last, away}, {last, ok}}},
		{fetching, nil, "rejected", []visit{{"", ok}, {last, forbidden}}},
		{htmx, nil, "", []visit{{"", ok}, {last, away}, {"", ok}}},
		{htmx, []string{"keep", ""}, "", []visit{{"", ok}, {last, away}, {last, ok}}},
	} {
		t.Run(fmt.Sprint(test.client.name, test.options, test.visits[1].status), func(t *testing.T) {
			s := newSite(t, setup{})
			if err := s.begin(func() { test.client.start(s, b, test.options...) }); err != nil {
				t.Fatal(err)
			}
			s.change(func() { s.refuse = test.visits[1].status })
			cursor := s.published[len(s.published)-1].ID
			s.cut()
			if err := errors.Join(s.away(), s.publish(2)); err != nil {
				t.Fatal(err)
			}
			s.release()
			if err := s.visited(test.end, cursor, test.visits); err != nil {
				t.Fatal(err)
			}
			if test.visits[len(test.visits)-1] != (visit{last, ok}) {
				return
			}
			if err := s.all(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestFetchStopsAtRotation: fetch-event-source takes the end of a stream for the end of everything,
// unless onclose throws.
func TestFetchStopsAtRotation(t *testing.T) {
	testenv.Long(t)
	s := newSite(t, setup{lifetime: 300 * time.Millisecond})
	fetching.start(s, newBrowser(t), "bare", "", "stops", "")
	if err := s.visited("fulfilled", last, []visit{{"", http.StatusOK}}); err != nil {
		t.Fatal(err)
	}
}

// TestFetchHandlesAgain: with the recipe a message that was not handled comes once more.
func TestFetchHandlesAgain(t *testing.T) {
	testenv.Long(t)
	s := newSite(t, setup{})
	if err := s.begin(func() { fetching.start(s, newBrowser(t), "throws", "") }); err != nil {
		t.Fatal(err)
	}
	if err := s.visited("", s.published[0].ID, []visit{{"", http.StatusOK}, {last, http.StatusOK}}); err != nil {
		t.Fatal(err)
	}
}
