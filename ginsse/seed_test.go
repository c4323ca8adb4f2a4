package ginsse_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// seedRow is one piece of the seed, its equivalent, and what a client gets of it. In headers and
// bytes, <before>, <live> and <close> stand for the ids of the messages published before the
// client came, when it had read body, and by Finish.
type seedRow struct {
	name    string // the heading in the seed; after the colon what this row is about
	routes  func(*seedApp) ginsse.Controller
	target  string
	request []string // headers, name and value in turn
	mount   string   // Mount fails with this; nothing is served

	status  int
	headers map[string]string
	body    string // of a stream, what comes behind its prelude and before anything is published

	generator bool // it is a stream whose deferred function must run
	topic     string
	publish   hub.Message // to topic, once body was read
	live      string      // what comes of that
	finish    string      // what comes when the topic is finished
	aborted   bool        // the causes of its end are checked
}

// Headers of a stream, of an answer without one, and of answers that are the application's own.
var (
	streamed = map[string]string{
		"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no", "Content-Length": "",
	}
	refused = map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "X-Accel-Buffering": ""}
	own     = map[string]string{"Content-Type": "application/json; charset=utf-8", "Cache-Control": "", "X-Accel-Buffering": ""}
)

// seedRows has a row for each block of code of the text that this package began as, in its order,
// and for each sentence that promises something. The routes are in seed_routes_test.go.
// "Installation" has no row: import '@justscale/sse', which registers a handler as a side effect,
// has no equivalent. A route is there when Mount has been called for it, and only on that router.
var seedRows = []seedRow{
	{
		name: "Basic SSE Route", routes: notifications, target: "/notifications/stream",
		status: 200, headers: streamed, body: "event: connected\ndata: {\"status\":\"ok\"}\n\n",
		generator: true, topic: "notifications", publish: hub.Message{Data: []byte(`{"text":"hi"}`)},
		live: "event: notification\ndata: {\"text\":\"hi\"}\n\n",
	},
	{
		name: "Basic SSE Route: better as a feed, whose events have ids", routes: notifications, target: "/notifications/feed",
		status: 200, headers: streamed, body: "event: checkpoint\ndata: \nid: <before>\n\n",
		topic: "notifications", publish: hub.Message{Type: "notification", Data: []byte(`{"text":"hi"}`)},
		live:   "event: notification\ndata: {\"text\":\"hi\"}\nid: <live>\n\n",
		finish: "event: close\ndata: \nid: <close>\n\n",
	},
	{
		name: "Basic SSE Route: better as a feed, where nothing is lost between two connections", routes: notifications, target: "/notifications/feed",
		request: []string{"Last-Event-ID", "<before>"},
		status:  200, headers: streamed,
		topic: "notifications", publish: hub.Message{Type: "notification", Data: []byte(`{"text":"hi"}`)},
		live:   "event: notification\ndata: {\"text\":\"hi\"}\nid: <live>\n\n",
		finish: "event: close\ndata: \nid: <close>\n\n",
	},
	{
		name: "SSE Event Format", routes: eventFormat, target: "/events",
		status: 200, headers: streamed, body: "retry: 5000\nevent: update\ndata: {\"count\":1}\nid: 42\n\n" + "data: hello\n\n",
		generator: true,
	},
	{
		name: "SSE Event Format: strings raw, else JSON", routes: eventData, target: "/events",
		status: 200, headers: streamed,
		body: "data: two\ndata: lines\n\n" + "data: {\"a\":\"string\"}\n\n" + "data: \n\n" + "data: bytes\n\n" + "data: 7\n\n" + "data: true\n\n" +
			"data: [\"a\",\"b\"]\n\n" + "data: {\"text\":\"\\u003cb\\u003e\"}\n\n" + "data: null\n\n" + "id: 43\n\n",
		generator: true,
	},
	{
		name: "Path Parameters", routes: roomEvents, target: "/kitchen/events",
		status: 200, headers: streamed, body: "data: {\"room\":\"kitchen\"}\n\n",
		generator: true, topic: "rooms/kitchen", publish: hub.Message{Data: []byte("hi")}, live: "data: hi\n\n",
	},
	{
		name: "Path Parameters: what does not fit the path is an error of Mount", routes: func(*seedApp) ginsse.Controller {
			type roomParams struct{ Room string }
			return ginsse.SSE[roomParams]("/:roomId/events").Handle(func(*ginsse.Context[roomParams]) iter.Seq2[sse.Event, error] { return nil })
		},
		mount: "ginsse: route GET /:roomId/events: field Room matches no path parameter; a query or header parameter needs a tag\n" +
			`path parameter "roomId" has no field in ginsse_test.roomParams`,
	},
	{
		name: "Typed Parameters with .types()", routes: tickets, target: "/tickets/7/events",
		status: 200, headers: streamed, body: "event: connected\ndata: {\"subject\":\"Printer on fire\"}\n\n",
		generator: true, topic: "tickets/7", publish: hub.Message{Type: "status", Data: []byte(`{"status":"open"}`)},
		live: "event: status\ndata: {\"status\":\"open\"}\n\n",
	},
	{
		name: "Typed Parameters with .types(): not found, word for word", routes: tickets, target: "/tickets/8/verbatim",
		status: 200, headers: streamed, body: "event: error\ndata: {\"message\":\"Not found\"}\n\n",
		generator: true,
	},
	{
		name: "Typed Parameters with .types(): better, not found is 404 instead of an event", routes: tickets, target: "/tickets/8/events",
		status: 404, headers: refused, body: `{"error":"not found"}`,
	},
	{
		name: "Typed Parameters with .types(): better, what can be no key is 400", routes: tickets, target: "/tickets/x/events",
		status: 400, headers: refused, body: `{"error":"path parameter \"ticket\": must be a whole number"}`,
	},
	{
		name: "Typed Parameters with .types(): better as a feed", routes: tickets, target: "/tickets/7/feed",
		status: 200, headers: streamed, body: "event: checkpoint\ndata: \nid: <before>\n\n",
		topic: "tickets/7", publish: hub.Message{Type: "status", Data: []byte(`{"status":"open"}`)},
		live:   "event: status\ndata: {\"status\":\"open\"}\nid: <live>\n\n",
		finish: "event: close\ndata: \nid: <close>\n\n",
	},
	{
		name: "Info: Ticket matches :ticket", routes: matching("/t/:ticket/events"), target: "/t/7/events",
		status: 200, headers: streamed, body: "data: {\"key\":\"7\",\"ticket\":{\"Subject\":\"Printer on fire\"}}\n\n", generator: true,
	},
	{
		name: "Info: Ticket matches :Ticket", routes: matching("/t/:Ticket/events"), target: "/t/7/events",
		status: 200, headers: streamed, body: "data: {\"key\":\"7\",\"ticket\":{\"Subject\":\"Printer on fire\"}}\n\n", generator: true,
	},
	{
		name: "Info: Ticket matches :ticketRef", routes: matching("/t/:ticketRef/events"), target: "/t/7/events",
		status: 200, headers: streamed, body: "data: {\"key\":\"7\",\"ticket\":{\"Subject\":\"Printer on fire\"}}\n\n", generator: true,
	},
	{
		name: "Info: Ticket matches nothing else, which is an error of Mount", routes: matching("/t/:ticketId/events"),
		mount: "ginsse: route GET /t/:ticketId/events: field Ticket matches no path parameter; a query or header parameter needs a tag\n" +
			`path parameter "ticketId" has no field in ginsse_test.seedTicketParams`,
	},
	{
		name: "Middleware and Guards", routes: dashboard(welcomeUser, seedAuth), target: "/dashboard/events", request: []string{"Authorization", "Bearer ann"},
		status: 200, headers: streamed, body: "event: welcome\ndata: {\"name\":\"Ann\"}\n\n",
		generator: true, topic: "dashboard", publish: hub.Message{Type: "load", Data: []byte(`{"status":"high"}`)},
		live: "event: load\ndata: {\"status\":\"high\"}\n\n",
	},
	{
		name: "Middleware and Guards: the context accumulates", routes: dashboard(welcomeTeam, seedAuth, seedTeam), target: "/dashboard/events",
		request: []string{"Authorization", "Bearer ann"},
		status:  200, headers: streamed, body: "event: welcome\ndata: {\"name\":\"Ann\",\"team\":\"team of Ann\"}\n\n",
		generator: true, topic: "dashboard", publish: hub.Message{Type: "load", Data: []byte(`{"status":"high"}`)},
		live: "event: load\ndata: {\"status\":\"high\"}\n\n",
	},
	{
		name: "Middleware and Guards: middleware that aborts", routes: dashboard(welcomeUser, seedAuth), target: "/dashboard/events",
		status: 401, headers: own, body: `{"error":"unauthorized"}`,
	},
	{
		name: "Middleware and Guards: a guard that refuses is 403", routes: dashboard(welcomeUser, seedAuth), target: "/dashboard/events",
		request: []string{"Authorization", "Bearer bob"},
		status:  403, headers: refused, body: `{"error":"forbidden"}`,
	},
	{
		name: "Client Disconnect", routes: disconnect, target: "/events",
		status: 200, headers: streamed,
		generator: true, topic: "bus", publish: hub.Message{Type: "payload", Data: []byte(`{"status":"new"}`)},
		live: "event: payload\ndata: {\"status\":\"new\"}\n\n",
	},
	{
		name: "Client Disconnect: the aborted promise, better with the cause", routes: aborted, target: "/events",
		status: 200, headers: streamed,
		generator: true, topic: "bus", publish: hub.Message{Type: "payload", Data: []byte(`{"status":"new"}`)},
		live: "event: payload\ndata: {\"status\":\"new\"}\n\n", aborted: true,
	},
	{
		name: "Combining with HTTP Routes: the list", routes: orders, target: "/orders",
		status: 200, headers: own, body: `[{"id":1,"total":20},{"id":2,"total":35}]`,
	},
	{
		name: "Combining with HTTP Routes: the stream", routes: orders, target: "/orders/2/events",
		status: 200, headers: streamed,
		generator: true, topic: "orders/2", publish: hub.Message{Type: "paid", Data: []byte(`{"status":"paid"}`)},
		live: "event: paid\ndata: {\"status\":\"paid\"}\n\n",
	},
	{
		name: "Combining with HTTP Routes: better, not found is 404 instead of an empty stream", routes: orders, target: "/orders/3/events",
		status: 404, headers: refused, body: `{"error":"not found"}`,
	},
	{
		name: "Combining with HTTP Routes: better as a feed", routes: orders, target: "/orders/2/feed",
		status: 200, headers: streamed, body: "event: checkpoint\ndata: \nid: <before>\n\n",
		topic: "orders/2", publish: hub.Message{Type: "paid", Data: []byte(`{"status":"paid"}`)},
		live:   "event: paid\ndata: {\"status\":\"paid\"}\nid: <live>\n\n",
		finish: "event: close\ndata: \nid: <close>\n\n",
	},
}

func notifications(a *seedApp) ginsse.Controller { return &notificationController{a} }
func tickets(a *seedApp) ginsse.Controller       { return &ticketController{a} }
func orders(a *seedApp) ginsse.Controller        { return &orderController{a} }

// seedEnds are the ways in which a stream ends, with the cause that its context has then.
var seedEnds = []struct {
	name  string
	cause error
	retry bool // the client is told when to come back
	end   func(t *testing.T, s *seedStream)
}{
	{"the generator ends", feed.ErrFinished, false, func(t *testing.T, s *seedStream) {
		id, err := s.app.hub.Finish(t.Context(), s.row.topic)
		if err != nil {
			t.Fatal(err)
		}
		s.ids["<close>"] = string(id)
	}},
	{"the client leaves", feed.ErrClientGone, false, func(_ *testing.T, s *seedStream) { s.leave() }},
	{"the server shuts down", feed.ErrShutdown, true, func(t *testing.T, s *seedStream) {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		if err := s.server.Config.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown of the server: %v", err)
		}
	}},
	{"the hub shuts down", feed.ErrShutdown, true, func(t *testing.T, s *seedStream) {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		if err := s.app.hub.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown of the hub: %v", err)
		}
	}},
}

func TestSeed(t *testing.T) {
	for _, row := range seedRows {
		t.Run(row.name, func(t *testing.T) {
			switch {
			case row.mount != "":
				err := ginsse.Mount(gin.New(), row.routes(&seedApp{}))
				if err == nil || err.Error() != row.mount {
					t.Errorf("Mount: %v\nwant %s", err, row.mount)
				}
			case row.topic == "":
				s := openSeed(t, row)
				s.expectRest(t, row.body)
				s.expectReturn(t)
			default:
				for _, end := range seedEnds {
					t.Run(end.name, func(t *testing.T) {
						s := openSeed(t, row)
						s.expect(t, row.body)
						if row.generator {
							receive(t, s.app.subscribed)
						}
						s.publish(t, "<live>", row.publish)
						s.expect(t, row.live)
						end.end(t, s)
						switch {
						case end.retry:
							s.expectRetry(t, shutdownRetry)
							s.expectRest(t, "")
						case errors.Is(end.cause, feed.ErrFinished):
							if row.finish != "" {
								s.expectRetry(t, closeRetry)
							}
							s.expectRest(t, row.finish)
						}
						s.expectReturn(t)
						if row.aborted {
							if cause := receive(t, s.app.aborted); !errors.Is(cause, end.cause) {
								t.Errorf("cause %v, want %v", cause, end.cause)
							}
						}
					})
				}
			}
		})
	}
}

// seedStream is a row's answer, read byte by byte.
type seedStream struct {
	row    seedRow
	app    *seedApp
	server *httptest.Server
	body   io.ReadCloser
	leave  context.CancelFunc
	ids    map[string]string
}

// openSeed mounts a row on a server that ends its streams when it shuts down, sends the request,
// and checks the status, the headers and a stream's prelude.
func openSeed(t *testing.T, row seedRow) *seedStream {
	t.Helper()
	app := &seedApp{hub: newHub(t), subscribed: make(chan struct{}, 1), aborted: make(chan error, 1), returned: make(chan handlerEnd, 1)}
	engine := gin.New()
	engine.Use(app.observe)
	mount(t, engine, row.routes(app))

	ctx, cancel := context.WithCancelCause(context.Background())
	server := httptest.NewUnstartedServer(engine)
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.Config.RegisterOnShutdown(func() { cancel(feed.ErrShutdown) })
	server.Start()
	t.Cleanup(server.Close)

	s := &seedStream{row: row, app: app, server: server, ids: map[string]string{}}
	if row.topic != "" {
		s.publish(t, "<before>", hub.Message{Data: []byte("before")})
	}
	headers := make([]string, len(row.request))
	for i, text := range row.request {
		headers[i] = s.fill(text)
	}
	st := open(t, server.Client(), server.URL+row.target, headers...)
	s.body, s.leave = st.Body, st.leave
	if st.StatusCode != row.status {
		t.Errorf("status %d, want %d", st.StatusCode, row.status)
	}
	for name, want := range row.headers {
		if got := st.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if st.Header.Get("Content-Type") == "text/event-stream; charset=utf-8" {
		s.expect(t, ": ok\n")
		s.expectRetry(t, firstRetry)
	}
	return s
}

func (s *seedStream) publish(t *testing.T, name string, m hub.Message) {
	t.Helper()
	id, err := s.app.hub.Publish(t.Context(), s.row.topic, m)
	if err != nil {
		t.Fatal(err)
	}
	s.ids[name] = string(id)
}

// fill puts the ids that are known into a text.
func (s *seedStream) fill(text string) string {
	for name, id := range s.ids {
		text = strings.ReplaceAll(text, name, id)
	}
	return text
}

// expect reads as many bytes as are wanted, no more, and stops at the first that is another.
func (s *seedStream) expect(t *testing.T, want string) {
	t.Helper()
	want = s.fill(want)
	got := make([]byte, len(want))
	for n := 0; n < len(want); {
		more, err := s.body.Read(got[n:])
		if n += more; string(got[:n]) != want[:n] || err != nil && n < len(want) {
			t.Fatalf("read %q, %v\nwant %q", got[:n], err, want)
		}
	}
}

// Reconnection times, in milliseconds: at first 2 s or up to half as much again, at random; at a
// shutdown they are spread wider.
var (
	firstRetry    = regexp.MustCompile(`^(2\d{3}|3000)\n$`)
	shutdownRetry = regexp.MustCompile(`^([2-7]\d{3}|8000)\n$`)
	closeRetry    = regexp.MustCompile(`^([6-8]\d{4}|90000)\n$`) // a minute, and half as long again
)

// expectRetry reads a reconnection time.
func (s *seedStream) expectRetry(t *testing.T, want *regexp.Regexp) {
	t.Helper()
	s.expect(t, "retry: ")
	got := make([]byte, 1)
	for n := 0; ; n++ {
		if _, err := io.ReadFull(s.body, got[n:]); err != nil {
			t.Fatalf("retry: %q, %v", got, err)
		}
		if got[n] == '\n' {
			break
		}
		got = append(got, 0)
	}
	if !want.Match(got) {
		t.Fatalf("retry: %q", got)
	}
}

// expectRest checks what comes until a clean end.
func (s *seedStream) expectRest(t *testing.T, want string) {
	t.Helper()
	s.expect(t, want)
	if rest, err := io.ReadAll(s.body); len(rest) > 0 || err != nil {
		t.Errorf("and then %q, %v", rest, err)
	}
}

// expectReturn checks that the deferred function had run when the Gin handler returned, once, and
// that only a refusal is an error. That no subscription is left is checked by the hub's Shutdown
// at the end of the test.
func (s *seedStream) expectReturn(t *testing.T) {
	t.Helper()
	end, want := receive(t, s.app.returned), 0
	if s.row.generator {
		want = 1
	}
	if end.cleanups != want {
		t.Errorf("the handler returned after %d deferred calls, want %d", end.cleanups, want)
	}
	if isRefused := s.row.headers["Cache-Control"] == "no-store"; len(end.errors) > 0 != isRefused {
		t.Errorf("c.Errors %v", end.errors)
	}
}
