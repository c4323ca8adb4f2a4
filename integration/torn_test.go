package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// torn is a kind of stream that ends, and that a client follows over connections that break.
type torn struct {
	name    string
	handler http.Handler
	cursor  string // that the client begins with
	// again are types that may come again, because they have no ID of their own; sometimes those
	// that a client may get with each connection, with data x.
	again, sometimes []string
	// vector says that the cursor holds positions in several topics. Another connection may come to
	// it in another way.
	vector bool
}

// refusing is the header of a request that a site is to refuse with a stream.
const refusing = "X-Refuse"

// tornKinds returns streams of every kind, over a hub with finished topics.
func tornKinds(t *testing.T) []torn {
	h := newHub(t, memory.Options{})
	var ids []hub.ID
	for _, m := range []hub.Message{
		{Data: []byte("one")},
		{Type: "moved", Data: []byte("two\nlines: §")},
		{Type: "data", Data: []byte("id: 7\n\nevent: close")},
		{Type: "picture", Data: []byte{0xff, 0}, Binary: true},
		{Data: nil},
	} {
		id, err := h.Publish(context.Background(), "a", m)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for _, topic := range []string{"a", "b"} {
		if _, err := h.Finish(context.Background(), topic); err != nil {
			t.Fatal(err)
		}
	}
	o := feed.Options{Start: hub.Earliest(), Logger: quiet}
	later := o
	later.Start = hub.After(ids[0])
	served := func(f feed.Feed, o feed.Options) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(refusing) != "" {
				feed.Refuse(w, r, http.StatusServiceUnavailable, "later", o)
				return
			}
			_ = feed.Serve(w, r, f, o)
		})
	}
	plain, both := feed.Of(h, "a"), feed.Of(h, "a", "b")
	state, mapped := plain, both
	state.Snapshot = func(context.Context) (any, error) { return "state\nof it", nil }
	mapped.Hello = func(context.Context) (sse.Event, error) { return sse.Event{Type: "hello", Data: "x"}, nil }
	mapped.Map = func(_ string, m *hub.Message) []sse.Event {
		return []sse.Event{{Type: "first", Data: m.Data}, {Type: "second", Data: string(m.ID)}}
	}

	// Applications have IDs of their own.
	own := []sse.Event{
		{ID: "1", Data: "a"}, {ID: `{"at": "é"}`, Type: "moved", Data: "b\nc"}, {Data: "without"}, {ID: "3 c", Type: "x", Data: ""},
		{ID: "only"}, {ID: "5", Data: "d"},
	}
	from := func(r *http.Request) []sse.Event {
		id, _ := sse.LastEventID(r)
		return own[slices.IndexFunc(own, func(e sse.Event) bool { return e.ID != "" && e.ID == id })+1:]
	}
	sequence := func(events []sse.Event) seq {
		return func(yield func(sse.Event, error) bool) {
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
	generated := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(refusing) != "" {
			o := o
			o.Drain = &feed.Drain{}
			o.Drain.Begin()
			_ = feed.Generate(w, r, nil, o)
			return
		}
		_ = feed.Generate(w, r, func(context.Context) iter.Seq2[sse.Event, error] { return sequence(from(r)) }, o)
	})
	responded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := sse.Respond(w, r)
		if err != nil || r.Header.Get(refusing) != "" {
			return
		}
		for _, e := range from(r) {
			_ = out.Send(e)
		}
	})
	guard := func(c *ginsse.Context[topicParams]) error {
		if c.Gin().GetHeader(refusing) != "" {
			return feed.Status(http.StatusTooManyRequests, errors.New("too many"))
		}
		return nil
	}
	routes := gin.New()
	if err := ginsse.Mount(routes,
		ginsse.SSE[topicParams]("/feed/:topic").Options(o).Guard(guard).Topic(h, "{topic}"),
		ginsse.SSE[topicParams]("/generator/:topic").Options(o).Guard(guard).Handle(func(c *ginsse.Context[topicParams]) seq {
			return sequence(from(c.Gin().Request))
		})); err != nil {
		t.Fatal(err)
	}
	route := func(path string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.URL.Path = path
			routes.ServeHTTP(w, r)
		})
	}
	return []torn{
		{name: "feed", handler: served(plain, o)},
		{name: "checkpoint", handler: served(plain, later)},
		{name: "topics", handler: served(both, later), vector: true},
		{name: "snapshot", handler: served(state, o)},
		{name: "map and hello", handler: served(mapped, later), again: []string{"first"}, sometimes: []string{"hello"}, vector: true},
		{name: "malformed cursor", handler: served(plain, o), cursor: "no cursor!", again: []string{"gap"}},
		{name: "unknown cursor", handler: served(plain, o), cursor: "of-another-life", again: []string{"gap"}},
		{name: "generator", handler: generated, again: []string{"message"}},
		{name: "Respond", handler: responded, again: []string{"message"}},
		{name: "Gin feed", handler: route("/feed/a")},
		{name: "Gin generator", handler: route("/generator/x"), again: []string{"message"}},
	}
}

// tornSite answers the requests of a client, each once.
type tornSite struct {
	t      *testing.T
	server *httptest.Server
	bodies map[string]string
	bare   bool // its streams begin without the block
}

// body returns the stream that a client gets, "" when there is nothing more for it.
func (s *tornSite) body(cursor string, refuse bool) string {
	key := fmt.Sprint(refuse, cursor)
	if body, ok := s.bodies[key]; ok {
		return body
	}
	req, err := http.NewRequest(http.MethodGet, s.server.URL, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Cache-Control", "no-cache")
	req.Header.Set("User-Agent", "Safari/605.1.15")
	if cursor != "" {
		req.Header.Set("Last-Event-ID", cursor)
	}
	if refuse {
		req.Header.Set(refusing, "yes")
	}
	resp, err := s.server.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		s.t.Fatalf("status %d: %v", resp.StatusCode, err)
	}
	body := string(b)
	if s.bare {
		if before, rest, _ := strings.Cut(body, "\n\n"); strings.HasPrefix(before, "!\nevent: torn") {
			body = rest
		}
	}
	s.bodies[key] = body
	return body
}

// follow has a client read the rest. It returns what the client came to.
func (s *tornSite) follow(k *keeper) *keeper {
	end := sse.Event{ID: k.cursor, Type: "close", Data: ""}
	body := s.body(k.cursor, false)
	if body == "" && !slices.Contains(k.events, end) {
		k.events = append(k.events, end) // status 204 says the same
	}
	k.read(body)
	k.end()
	return k
}

// cut has a client read a part of a stream.
func (s *tornSite) cut(k *keeper, refuse bool, n int) *keeper {
	c := k.clone()
	c.read(s.body(k.cursor, refuse)[:n])
	c.breakOff()
	return c
}

// TestTornFrames breaks streams of every kind after each byte, the next ones too. A client that
// keeps torn frames gets what was sent, all of it and nothing else, and has the right cursor.
func TestTornFrames(t *testing.T) {
	step := testenv.Sized(31, 1)
	for _, kind := range tornKinds(t) {
		for _, way := range []struct {
			name string
			wrap bool
		}{{"direct", false}, {"ordinary", true}} {
			for _, client := range []keeper{{cursor: kind.cursor}, {cursor: kind.cursor, npm: true}} {
				name := fmt.Sprintf("%s/%s/%s", kind.name, way.name, map[bool]string{false: "WebKit", true: "npm"}[client.npm])
				t.Run(name, func(t *testing.T) {
					server := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if way.wrap {
							w = plainly{w}
						}
						kind.handler.ServeHTTP(w, r)
					}))
					cuts, wrong := kind.breakAll(t, &tornSite{t: t, server: server, bodies: map[string]string{}}, &client, step)
					for _, w := range wrong[:min(len(wrong), 3)] {
						t.Error(w)
					}
					_, wrong = kind.breakAll(t, &tornSite{t: t, server: server, bodies: map[string]string{}, bare: true}, &client, step)
					t.Logf("%d ways to break it, of which %d go wrong without the block", cuts, len(wrong))
					if len(wrong) == 0 {
						t.Error("without the block nothing is wrong either")
					}
				})
			}
		}
	}
}

// plainly is the writer of a middleware.
type plainly struct{ http.ResponseWriter }

func (w plainly) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// breakAll returns how many ways there are to break a stream, and what came out wrong. With a step
// above 1 it cuts the second stream after each byte too, but not after each first cut.
func (kind torn) breakAll(t *testing.T, s *tornSite, client *keeper, step int) (cuts int, wrong []string) {
	want := s.follow(client.clone())
	if len(want.events) < 2 {
		t.Fatalf("the stream has %d events", len(want.events))
	}
	check := func(got *keeper, how string, arguments ...any) {
		cuts++
		if problem := kind.compare(got, want); problem != "" {
			wrong = append(wrong, fmt.Sprintf(how+": %s", append(arguments, problem)...))
		}
	}
	first := s.body(client.cursor, false)
	for n := range first {
		if client.npm && seenEarly(first, n) {
			continue
		}
		held := s.cut(client, false, n)
		check(s.follow(held.clone()), "cut after %q", first[:n])
		// Once more, in the block that swallows the torn frame, and in a refusal.
		for _, refuse := range []bool{false, true} {
			second := s.body(held.cursor, refuse)
			most := len(second)
			if !refuse {
				most = strings.Index(second, "\n\n") + 2
			}
			for m := range most {
				if m%step != n%step {
					continue
				}
				check(s.follow(s.cut(held, refuse, m)), "cut after %q, then after %q", first[:n], second[:m])
			}
		}
		refused := held.clone()
		refused.read(s.body(held.cursor, true))
		refused.end()
		check(s.follow(refused), "cut after %q, then refused", first[:n])
	}
	return cuts, wrong
}

// seenEarly reports whether nothing but the blank line is missing of a frame that is cut after n
// bytes. npm eventsource 1 and 2 take the ID for seen then.
func seenEarly(stream string, n int) bool {
	if n == 0 || stream[n] != '\n' || stream[n-1] != '\n' {
		return false
	}
	frame := stream[strings.LastIndex(stream[:n-1], "\n\n")+1 : n]
	return strings.Contains(frame, "id: ")
}

// compare says what is wrong with what a client came to, "" if nothing is.
func (kind torn) compare(got, want *keeper) string {
	if got.cursor != want.cursor {
		return fmt.Sprintf("the cursor is %q, and should be %q", got.cursor, want.cursor)
	}
	events := kind.once(got.events)
	all := kind.once(want.events)
	for i := range max(len(all), len(events)) {
		if i >= len(all) || i >= len(events) || events[i] != all[i] {
			return fmt.Sprintf("event %d is not as it should be: %+v", i, events[min(i, len(events)):min(i+1, len(events))])
		}
	}
	return ""
}

// once leaves out what a client may get several times, or not at all.
func (kind torn) once(events []sse.Event) (all []sse.Event) {
	for _, e := range events {
		if kind.vector {
			e.ID = ""
		}
		switch {
		case slices.Contains(kind.sometimes, e.Type) && e.Text() == "x":
			continue
		case slices.Contains(kind.again, e.Type) && len(all) > 0 && all[len(all)-1] == e:
			continue
		}
		all = append(all, e)
	}
	return all
}
