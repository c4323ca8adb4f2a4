package clients

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/headrace/headrace/internal/testenv"
)

// TestFetchThatParses: a user of fetch-event-source who parses the data of every event, as JSON for
// example, follows a feed. The library hands over each block, with data or without, and begins anew
// when onmessage throws. So a block at the beginning of each stream keeps such a user from
// everything.
func TestFetchThatParses(t *testing.T) {
	testenv.Long(t)
	follow := func(o setup, tools func(context.Context) error) (*site, error) {
		s := newSite(t, o)
		b := newBrowser(t)
		b.tools = tools
		fetching.start(s, b, "bare", "", "parses", "")
		if err := s.wait("it came back from the checkpoint", func() bool { return len(s.visits) >= 2 }); err != nil {
			return s, err
		}
		if err := s.publish(5); err != nil {
			return s, err
		}
		return s, s.wait("it had all messages, or it never will", func() bool { return s.got == len(s.published) || len(s.visits) > 4 })
	}
	loops := func(s *site) error {
		if s.got < len(s.published) {
			return fmt.Errorf("%d requests brought %d of %d messages", len(s.visits), s.got, len(s.published))
		}
		return nil
	}
	for _, test := range []struct {
		name  string
		tools func(context.Context) error
	}{
		{"as it is", nil},
		{"with developer tools that disable the cache", disableCache},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := follow(setup{}, test.tools)
			if err == nil {
				err = loops(s)
			}
			if err != nil {
				t.Error(err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.visits) != 2 {
				t.Errorf("visits %v", s.visits)
			}
		})
	}
	t.Run("a block for everybody", func(t *testing.T) {
		s, err := follow(setup{request: func(r *http.Request) {
			r.Header.Set("Cache-Control", "no-cache")
			r.Header.Del("User-Agent")
		}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if loops(s) == nil {
			t.Error("the block is no harm: this test cannot fail")
		}
	})
}

// disableCache is what a check box of the developer tools does. The browser then states
// Cache-Control: no-cache with every request.
func disableCache(tab context.Context) error {
	if _, err := chromedp.Call(tab, network.Enable, network.EnableParams{}); err != nil {
		return err
	}
	_, err := chromedp.Call(tab, network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true})
	return err
}
