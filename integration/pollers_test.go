package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse/feed"
)

// polled is the document of a page.
type polled struct {
	Messages []struct{ ID, Event, Data string }
	Next     string
	Gap, End bool
}

// poll asks for a page.
func poll(client *http.Client, from string, query url.Values) (p polled, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from+"?"+query.Encode(), nil)
	if err != nil {
		return p, err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return p, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return p, fmt.Errorf("status %s", resp.Status)
	}
	return p, json.NewDecoder(resp.Body).Decode(&p)
}

// pollAll polls servers in turn until a feed has ended, and returns what came.
func pollAll(urls []string, cursor string) (got []string, err error) {
	for i := 0; ; i++ {
		p, err := poll(http.DefaultClient, urls[i%len(urls)], url.Values{"after": {cursor}, "wait": {"20s"}})
		switch {
		case err != nil:
			return got, err
		case p.Gap:
			return got, fmt.Errorf("a gap behind %d messages", len(got))
		}
		for _, m := range p.Messages {
			got = append(got, m.ID+" "+m.Event+" "+m.Data)
		}
		if cursor = p.Next; p.End {
			return got, nil
		}
	}
}

// ofTopics returns what came of each of several topics, without the cursors, which depend on the
// order between topics.
func ofTopics(got []string) map[string][]string {
	topics := make(map[string][]string)
	for _, line := range got {
		_, text, _ := strings.Cut(line, " ")
		topic, _, _ := strings.Cut(strings.TrimSpace(text), "#")
		topics[topic] = append(topics[topic], text)
	}
	return topics
}

// TestPollers: pollers that change between two instances over one Redis with each request get the
// messages of the stream, none lost and none twice.
func TestPollers(t *testing.T) {
	s := startSingle(t)
	routes := map[string][]string{"/one": {"topic"}, "/three": {"a", "b", "c"}}
	each := testenv.Sized(100, 1000)
	for path, topics := range routes {
		t.Run(path[1:], func(t *testing.T) {
			var hubs [2]*hub.Hub
			var urls []string
			for i := range hubs {
				hubs[i] = newHubOver(t, s.newBackend(t), hub.Options{Window: 32})
				r := gin.New()
				o := ginsse.Options{History: &feed.History{Limit: 9}, ConnectTimeout: deadline, Logger: quiet}
				route := ginsse.SSE[struct{}](path).Options(o).Topics(hubs[i], topics...)
				if err := ginsse.Mount(r, route); err != nil {
					t.Fatal(err)
				}
				urls = append(urls, newServer(t, r).URL+path)
			}
			c := connect(t, http.DefaultClient, urls[0], "")
			defer c.drop()
			start := c.next(t).ID

			var pollers, publishers sync.WaitGroup
			results := make([][]string, 4)
			for i := range results {
				pollers.Go(func() {
					var err error
					if results[i], err = pollAll(append(urls[i%2:], urls[:i%2]...), start); err != nil {
						t.Errorf("poller %d: %v", i, err)
					}
				})
			}
			for i, topic := range topics {
				publishers.Go(func() {
					for n := range each {
						send(t, hubs[(i+n)%2], topic, topic+"#", n)
					}
					if _, err := hubs[i%2].Finish(t.Context(), topic); err != nil {
						t.Error(err)
					}
				})
			}
			var want []string
			for {
				e, err := c.Decode()
				if err != nil || e.Type == "gap" {
					t.Fatalf("the stream, after %d messages: %v %v", len(want), e.Type, err)
				}
				if e.Type == "close" {
					break
				}
				want = append(want, e.ID+" "+e.Type+" "+e.Text())
			}
			publishers.Wait()
			pollers.Wait()
			if n := each * len(topics); len(want) != n {
				t.Errorf("the stream had %d messages, want %d", len(want), n)
			}
			for i, got := range results {
				if len(topics) == 1 && !slices.Equal(got, want) {
					t.Errorf("poller %d got %d messages, others than the stream's %d", i, len(got), len(want))
				}
				mine, streamed := ofTopics(got), ofTopics(want)
				for _, topic := range topics {
					if !slices.Equal(mine[topic], streamed[topic]) {
						t.Errorf("poller %d got %d messages of %s, others than the stream's %d", i, len(mine[topic]), topic, len(streamed[topic]))
					}
				}
			}
		})
	}
}

// cutter is the body of an event stream that is cut off after a while.
type cutter struct {
	io.ReadCloser
	timer *time.Timer
}

func (c cutter) Close() error {
	c.timer.Stop()
	return c.ReadCloser.Close()
}

// TestPollerBehindAProxy: behind a proxy that kills event streams, a poller keeps up.
func TestPollerBehindAProxy(t *testing.T) {
	h := newHub(t, memory.Options{})
	server := serve(t, h, ginsse.Options{History: &feed.History{}})
	upstream, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := newServer(t, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(upstream) },
		ModifyResponse: func(resp *http.Response) error {
			if resp.Header.Get("Content-Type") == "text/event-stream; charset=utf-8" {
				body := resp.Body
				resp.Body = cutter{body, time.AfterFunc(100*time.Millisecond, func() { _ = body.Close() })}
			}
			return nil
		},
		ErrorLog: slog.NewLogLogger(quiet.Handler(), slog.LevelError),
	})
	from := proxy.URL + "/topics/news"
	c := connect(t, http.DefaultClient, from, "")
	start := c.next(t).ID
	if e, err := c.Decode(); err == nil {
		t.Errorf("the proxy let an event stream live: %v", e)
	}
	c.drop()

	const n = 200
	done := make(chan error, 1)
	var got []string
	go func() {
		var err error
		got, err = pollAll([]string{from}, start)
		done <- err
	}()
	ids := publish(t, h, "news", 1, n)
	if _, err := h.Finish(t.Context(), "news"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var want []string
	for i, id := range ids {
		want = append(want, fmt.Sprintf("%s  %d", id, i+1))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d messages, want %d", len(got), n)
	}
}
