package ginsse_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// follow prints the first events of a stream, as a browser would get them.
func follow(handler http.Handler, path string, events int) {
	server := httptest.NewServer(handler)
	defer server.Close()
	response, err := http.Get(server.URL + path)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	for event, err := range sse.Read(response.Body) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(strings.TrimSpace(event.Type + " " + event.Text()))
		if events--; events == 0 {
			return
		}
	}
}

// A feed: clients follow the topic that the template names, in order and without loss.
func Example() {
	backend := memory.New(memory.Options{})
	defer backend.Close()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()

	type ticketParams struct {
		Ticket int64 // :ticket
	}
	r := gin.New()
	err = ginsse.Mount(r,
		ginsse.SSE[ticketParams]("/tickets/:ticket/events").
			Options(ginsse.Options{Start: hub.Earliest()}).
			Topic(h, "tickets/{ticket}"),
	)
	if err != nil {
		log.Fatal(err)
	}

	for _, status := range []string{"open", "assigned"} {
		if _, err := h.Publish(context.Background(), "tickets/7", hub.Message{Type: "status", Data: []byte(status)}); err != nil {
			log.Fatal(err)
		}
	}
	follow(r, "/tickets/7/events", 2)
	// Output:
	// status open
	// status assigned
}

// A feed with a Snapshot: clients get the state first, then its changes. The same URL has the
// state as JSON.
func ExampleRoute_Snapshot() {
	backend := memory.New(memory.Options{})
	defer backend.Close()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()

	type stockParams struct {
		Item string // :item
	}
	stock := map[string]int{"apples": 7}
	count := func(c *ginsse.Context[stockParams]) (any, error) {
		n, ok := stock[c.Params.Item]
		if !ok {
			return nil, ginsse.ErrNotFound
		}
		return gin.H{"left": n}, nil
	}
	r := gin.New()
	if err := ginsse.Mount(r, ginsse.SSE[stockParams]("/stock/:item").Snapshot(count).Topic(h, "stock/{item}")); err != nil {
		log.Fatal(err)
	}

	for _, target := range []string{"/stock/apples", "/stock/pears"} {
		w := httptest.NewRecorder()
		request := httptest.NewRequest(http.MethodGet, target, nil)
		request.Header.Set("Accept", "application/json")
		r.ServeHTTP(w, request)
		fmt.Println(w.Code, w.Body)
	}
	follow(r, "/stock/apples", 1)
	// Output:
	// 200 {"left":7}
	// 404 {"error":"not found"}
	// snapshot {"left":7}
}

// Several topics on one stream, and of them what one user may see.
func ExampleRoute_Topics() {
	backend := memory.New(memory.Options{})
	defer backend.Close()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()

	type roomParams struct {
		Room string // :room
		User string `query:"user"`
	}
	r := gin.New()
	err = ginsse.Mount(r,
		ginsse.SSE[roomParams]("/rooms/:room/events").
			Options(ginsse.Options{Start: hub.Earliest()}).
			Topics(h, "rooms/{room}", "notices").
			Filter(func(c *ginsse.Context[roomParams], _ string, m *hub.Message) bool {
				to := m.Headers["to"]
				return to == "" || to == c.Params.User
			}).
			Map(func(_ *ginsse.Context[roomParams], topic string, m *hub.Message) []sse.Event {
				return []sse.Event{{Type: topic, Data: string(m.Data)}}
			}),
	)
	if err != nil {
		log.Fatal(err)
	}

	for _, m := range []hub.Message{
		{Data: []byte("for bob"), Headers: map[string]string{"to": "bob"}},
		{Data: []byte("for ann"), Headers: map[string]string{"to": "ann"}},
		{Data: []byte("for all")},
	} {
		if _, err := h.Publish(context.Background(), "rooms/kitchen", m); err != nil {
			log.Fatal(err)
		}
	}
	follow(r, "/rooms/kitchen/events?user=ann", 3)
	// Output:
	// checkpoint
	// rooms/kitchen for ann
	// rooms/kitchen for all
}

// A generator: clients are sent what it yields.
func ExampleRoute_Handle() {
	type countParams struct {
		From int `query:"from"`
	}
	countdown := func(c *ginsse.Context[countParams]) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) {
			defer fmt.Println("cleaned up")
			for n := c.Params.From; n > 0; n-- {
				if !yield(sse.Event{Type: "count", Data: n}, nil) {
					return // the client is gone
				}
			}
		}
	}
	r := gin.New()
	if err := ginsse.Mount(r, ginsse.SSE[countParams]("/countdown").Handle(countdown)); err != nil {
		log.Fatal(err)
	}

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/countdown?from=2", nil))
	for event, err := range sse.Read(w.Body) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event.Type, event.Text())
	}
	// Output:
	// cleaned up
	// count 2
	// count 1
}

// Guards decide before the first byte, so that their answers are real statuses.
func ExampleRoute_Guard() {
	type roomParams struct {
		Room string // :room
		User string `query:"user"`
	}
	members := map[string]string{"ann": "kitchen"}
	isMember := func(c *ginsse.Context[roomParams]) error {
		switch room, known := members[c.Params.User]; {
		case !known:
			return ginsse.ErrUnauthorized
		case room != c.Params.Room:
			return ginsse.Status(http.StatusForbidden, errors.New("members only"))
		}
		return nil
	}
	greet := func(c *ginsse.Context[roomParams]) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) { yield(sse.Event{Data: "hello " + c.Params.User}, nil) }
	}
	r := gin.New()
	if err := ginsse.Mount(r, ginsse.SSE[roomParams]("/rooms/:room/events").Guard(isMember).Handle(greet)); err != nil {
		log.Fatal(err)
	}

	for _, target := range []string{"/rooms/kitchen/events", "/rooms/cellar/events?user=ann", "/rooms/kitchen/events?user=ann"} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
		fmt.Println(w.Code, w.Header().Get("Content-Type"))
	}
	// Output:
	// 401 application/json
	// 403 application/json
	// 200 text/event-stream; charset=utf-8
}

// A reference is a parameter that loads its model, here from a map, when a guard asks for it.
func ExampleRef() {
	type article struct{ author, text string }
	articles := map[int64]*article{7: {author: "ann", text: "Rivers"}}
	byID := func(_ context.Context, id int64) (*article, error) {
		if a, ok := articles[id]; ok {
			return a, nil
		}
		return nil, ginsse.ErrNotFound
	}
	user := ginsse.NewKey[string]("user")
	auth := func(c *gin.Context) { user.Set(c, c.Query("user")) }

	type articleParams struct {
		Article ginsse.Ref[*article] // :article, :Article or :articleRef
	}
	isAuthor := func(c *ginsse.Context[articleParams]) error {
		a, err := c.Params.Article.Get(c.Context())
		if err != nil {
			return err
		}
		if name, _ := user.Get(c.Context()); name != a.author {
			return ginsse.ErrForbidden
		}
		return nil
	}
	send := func(c *ginsse.Context[articleParams]) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) {
			a, err := c.Params.Article.Get(c.Context()) // is there already
			if err != nil {
				yield(sse.Event{}, err)
				return
			}
			yield(sse.Event{Data: a.text}, nil)
		}
	}
	r := gin.New()
	err := ginsse.Mount(r,
		ginsse.SSE[articleParams]("/articles/:article/events").
			Use(auth).
			Guard(isAuthor).
			Models(ginsse.ModelOf(byID)).
			Handle(send),
	)
	if err != nil {
		log.Fatal(err)
	}

	for _, target := range []string{"/articles/x/events", "/articles/8/events", "/articles/7/events?user=bob", "/articles/7/events?user=ann"} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
		fmt.Println(target, w.Code)
	}
	follow(r, "/articles/7/events?user=ann", 1)
	// Output:
	// /articles/x/events 400
	// /articles/8/events 404
	// /articles/7/events?user=bob 403
	// /articles/7/events?user=ann 200
	// Rivers
}

// What was mounted can be listed, for a page about an API or a test of it.
func ExampleDescribe() {
	type clockParams struct {
		Every time.Duration `query:"every"`
	}
	r := gin.New()
	err := ginsse.Mount(r.Group("/api"),
		ginsse.SSE[clockParams]("/clock").
			Events("tick").
			Handle(func(*ginsse.Context[clockParams]) iter.Seq2[sse.Event, error] { return nil }),
	)
	if err != nil {
		log.Fatal(err)
	}

	text, err := json.MarshalIndent(ginsse.Describe(r), "", "  ")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
	// Output:
	// [
	//   {
	//     "method": "GET",
	//     "path": "/api/clock",
	//     "kind": "generator",
	//     "parameters": [
	//       {
	//         "in": "query",
	//         "name": "every",
	//         "type": "time.Duration",
	//         "required": false
	//       }
	//     ],
	//     "events": [
	//       "tick"
	//     ]
	//   }
	// ]
}

// What is wrong with a route shows when it is mounted, not when the first client comes.
func ExampleMount() {
	r := gin.New()
	err := ginsse.Mount(r.Group("/api"),
		ginsse.SSE[struct{}]("/tickets/:ticket/events").
			Handle(func(*ginsse.Context[struct{}]) iter.Seq2[sse.Event, error] { return nil }),
	)
	fmt.Println(err)
	// Output:
	// ginsse: route GET /api/tickets/:ticket/events: path parameter "ticket" has no field in struct {}
}
