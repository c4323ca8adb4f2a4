package ginsse_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// texts reads n events and counts their data: topics have no order among each other.
func (s *stream) texts(t testing.TB, n int) map[string]int {
	t.Helper()
	got := make(map[string]int)
	for range n {
		e, err := s.Decode()
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		got[e.Text()]++
	}
	return got
}

// TestTopics holds that one stream has the messages of all topics that templates name, each once,
// also of a topic that two of them name, and that its cursor holds all places.
func TestTopics(t *testing.T) {
	h := newHub(t)
	s := newServer(t, engine(t, ginsse.SSE[pairParams]("/:a").Options(quiet).Topics(h, "t/{a}", "t/{b}", "u/{a}/{b}", "notices", "notices")))
	for url, topics := range map[string][]string{
		"/1?b=2": {"t/1", "t/2", "u/1/2", "notices"},
		"/3?b=3": {"t/3", "u/3/3", "notices"},
	} {
		st := open(t, s.Client(), s.URL+url)
		if got := st.texts(t, 1); got[""] != 1 {
			t.Errorf("%s: instead of a checkpoint came %v", url, got)
		}
		want := make(map[string]int)
		for _, topic := range topics {
			publish(t, h, topic, topic)
			want[topic] = 1
		}
		publish(t, h, "t/9", "of another stream")
		if got := st.texts(t, len(topics)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", url, got, want)
		}
		cursor := st.LastEventID()
		st.leave()
		publish(t, h, topics[1], "more")
		st = open(t, s.Client(), s.URL+url, "Last-Event-ID", cursor)
		if got := st.texts(t, 1); got["more"] != 1 {
			t.Errorf("%s: after %s came %v", url, cursor, got)
		}
		st.leave()
	}
}

// TestTopicsFunc holds that a function names the topics after the guards, for each connection
// anew, and that a topic that is new to the client begins where the route says.
func TestTopicsFunc(t *testing.T) {
	h := newHub(t)
	names := []string{"a", "a"}
	guarded := false
	r := engine(t, ginsse.SSE[ticketParams]("/:ticket").Options(quiet).
		TopicsFunc(h, func(c *ginsse.Context[ticketParams]) ([]string, error) {
			if !guarded || c.Params.Ticket != 7 {
				t.Errorf("guarded: %v, ticket %d", guarded, c.Params.Ticket)
			}
			return names, nil
		}).
		Guard(func(*ginsse.Context[ticketParams]) error { guarded = true; return nil }))
	s := newServer(t, r)
	first := publish(t, h, "a", "a1")
	st := open(t, s.Client(), s.URL+"/7")
	st.expect(t, "checkpoint|"+first+"|")
	st.leave()

	publish(t, h, "a", "a2")
	publish(t, h, "b", "before")
	names = []string{"b", "a"}
	st = open(t, s.Client(), s.URL+"/7", "Last-Event-ID", first)
	st.texts(t, 1) // what a bare place becomes of is package feed's business
	st.leave()
}

// TestTopicsRefuse holds that errors of the functions that name topics are answered like a
// guard's, and what a list without topics, or with a name that can be none, becomes.
func TestTopicsRefuse(t *testing.T) {
	h := newHub(t)
	for name, test := range map[string]struct {
		topics []string
		err    error
		code   int
		text   string
	}{
		"not found":       {nil, ginsse.ErrNotFound, 404, "not found"},
		"forbidden":       {[]string{"x"}, fmt.Errorf("%s: %w", canary, ginsse.ErrForbidden), 403, "forbidden"},
		"text of a guard": {nil, ginsse.Status(409, errors.New("of another year")), 409, "of another year"},
		"any other":       {nil, errors.New(canary), 500, "internal server error"},
		"parameter":       {nil, &ginsse.ParameterError{In: "path", Name: "x", Err: errors.New("is odd")}, 400, `path parameter "x": is odd`},
		"reserved":        {[]string{"good", "_headrace/revocations"}, nil, 404, "not found"},
		"empty name":      {[]string{""}, nil, 404, "not found"},
		"too long":        {[]string{strings.Repeat("x", 256)}, nil, 404, "not found"},
		"none":            {nil, nil, 500, "internal server error"},
		"none, not nil":   {[]string{}, nil, 500, "internal server error"},
	} {
		t.Run(name, func(t *testing.T) {
			o := quiet
			o.OnEnd = func(feed.End) { t.Error("a stream was begun") }
			var left []*gin.Error
			r := gin.New()
			r.Use(func(c *gin.Context) { c.Next(); left = c.Errors })
			mount(t, r, ginsse.SSE[none]("/x").Options(o).TopicsFunc(h, func(*ginsse.Context[none]) ([]string, error) { return test.topics, test.err }))
			w := get(r, "/x", "Accept", "text/event-stream")
			isRefusal(t, w, test.code, test.text)
			if len(left) != 1 || strings.Contains(w.Body.String(), canary) {
				t.Errorf("c.Errors %v, body %s", left, w.Body)
			}
		})
	}
	t.Run("more than a cursor holds", func(t *testing.T) {
		var many []string
		for i := range 300 {
			many = append(many, fmt.Sprint("topic ", i))
		}
		var left []*gin.Error
		r := gin.New()
		r.Use(func(c *gin.Context) { c.Next(); left = c.Errors })
		mount(t, r, ginsse.SSE[none]("/x").Options(quiet).Topics(h, many...))
		isRefusal(t, get(r, "/x"), 500, "internal server error")
		if len(left) != 1 || !errors.Is(left[0], feed.ErrTooManyTopics) {
			t.Errorf("c.Errors %v", left)
		}
	})
}

// TestTopicsMountErrors holds that mistakes with topics and with the functions of feeds show at
// Mount, with the route's name.
func TestTopicsMountErrors(t *testing.T) {
	h := newHub(t)
	route := func() *ginsse.Route[ticketParams] { return ginsse.SSE[ticketParams]("/:ticket") }
	type ctx = *ginsse.Context[ticketParams]
	handle := func(ctx) seq { return events() }
	names := func(ctx) ([]string, error) { return nil, nil }
	hello := func(ctx) (sse.Event, error) { return sse.Event{}, nil }
	snapshot := func(ctx) (any, error) { return nil, nil }
	filter := func(ctx, string, *hub.Message) bool { return true }
	mapping := func(ctx, string, *hub.Message) []sse.Event { return nil }
	const handleAlone = "Hello, Snapshot, Filter and Map are for topics"
	for name, test := range map[string]struct {
		route *ginsse.Route[ticketParams]
		want  string
	}{
		"no topics":                        {route().Topics(h), "Topics are none"},
		"a bad one of several":             {route().Topics(h, "good/{ticket}", "{nobody}"), "{nobody} is no parameter"},
		"a reserved one":                   {route().Topics(h, "good", "_headrace/x"), `"_headrace/x"`},
		"an empty one":                     {route().Topics(h, "good", ""), `topic ""`},
		"nil hub":                          {route().Topics(nil, "x"), "hub is nil"},
		"nil hub for a function":           {route().TopicsFunc(nil, names), "hub is nil"},
		"nil function":                     {route().TopicsFunc(h, nil), "function is nil"},
		"topics twice":                     {route().Topics(h, "x").Topics(h, "y"), "more than one"},
		"topics and topic":                 {route().Topic(h, "x").Topics(h, "y"), "more than one"},
		"topics and function":              {route().Topics(h, "x").TopicsFunc(h, names), "more than one"},
		"topics and handle":                {route().Topics(h, "x").Handle(handle), "more than one"},
		"handle with hello":                {route().Handle(handle).Hello(hello), handleAlone},
		"handle with snapshot":             {route().Snapshot(snapshot).Handle(handle), handleAlone},
		"handle with filter":               {route().Handle(handle).Filter(filter), handleAlone},
		"handle with map":                  {route().Map(mapping).Handle(handle), handleAlone},
		"snapshot alone":                   {route().Snapshot(snapshot), "needs a Topic"},
		"a bad CORS":                       {route().Topic(h, "x").CORS(ginsse.CORS{Origins: []string{"https://app.example.com/"}}), "feed: CORS.Origins[0]"},
		"CORS for everybody, with cookies": {route().Handle(handle).CORS(ginsse.CORS{Origins: []string{"*"}, Credentials: true}), "feed: CORS.Credentials"},
	} {
		r := gin.New()
		err := ginsse.Mount(r.Group("/api"), test.route, ginsse.SSE[none]("/good").Topic(h, "x"))
		if err == nil || !strings.HasPrefix(err.Error(), "ginsse: route GET /api/:ticket: ") || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "/good") {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
		if n := len(r.Routes()); n != 2 { // GET and HEAD
			t.Errorf("%s: %d routes are mounted, want the good one", name, n)
		}
	}
}

// TestNilFunctions holds that a nil Hello, Snapshot, Filter or Map is none, also one that takes
// back another.
func TestNilFunctions(t *testing.T) {
	h := newHub(t)
	id := publish(t, h, "x", "x")
	r := engine(t, ginsse.SSE[none]("/x").Options(quiet).Topic(h, "x").
		Snapshot(func(*ginsse.Context[none]) (any, error) { panic("taken back") }).
		Hello(nil).Snapshot(nil).Filter(nil).Map(nil),
		ginsse.SSE[none]("/y").Options(quiet).Handle(func(*ginsse.Context[none]) seq { return events(sse.Event{Data: "y"}) }).
			Hello(nil).Snapshot(nil).Filter(nil).Map(nil))
	s := newServer(t, r)
	st := open(t, s.Client(), s.URL+"/x")
	st.expect(t, "checkpoint|"+id+"|")
	st.expect(t, "|"+publish(t, h, "x", "more")+"|more")
	open(t, s.Client(), s.URL+"/y").expect(t, "||y")
	if w := get(r, "/x", "Accept", "application/json"); w.Code != http.StatusNotAcceptable {
		t.Errorf("a document: %d", w.Code)
	}
	if d := ginsse.Describe(r); d[0].Snapshot || d[1].Snapshot {
		t.Errorf("described as %+v", d)
	}
}

// TestHello holds that each connection begins with the event, one that resumes too, and that it
// leaves the client's cursor alone.
func TestHello(t *testing.T) {
	h := newHub(t)
	r := gin.New()
	r.Use(func(c *gin.Context) { snapshotUser.Set(c, "ann") })
	mount(t, r, ginsse.SSE[ticketParams]("/:ticket").Options(quiet).Topic(h, "{ticket}").
		Hello(func(c *ginsse.Context[ticketParams]) (sse.Event, error) {
			user, _ := snapshotUser.Get(c.Context())
			return sse.Event{Type: "welcome", ID: "mine", Data: gin.H{"user": user, "ticket": c.Params.Ticket}}, nil
		}))
	s := newServer(t, r)
	id := publish(t, h, "7", "x")
	const hello = `{"ticket":7,"user":"ann"}`
	st := open(t, s.Client(), s.URL+"/7")
	st.expect(t, "welcome||"+hello, "checkpoint|"+id+"|")
	for _, cursor := range []string{id, foreign} {
		again := open(t, s.Client(), s.URL+"/7", "Last-Event-ID", cursor)
		if e, err := again.Decode(); err != nil || e.Type != "welcome" || e.Text() != hello {
			t.Errorf("%s: %+v, %v", cursor, e, err)
		}
		if got := again.LastEventID(); got != "" {
			t.Errorf("%s: the event made the cursor %q", cursor, got)
		}
		again.leave()
	}
	for _, typ := range []string{"snapshot", "gap", "close", "checkpoint", "stream-error", "torn", "error", "a\nb"} {
		r := engine(t, ginsse.SSE[none]("/x").Options(quiet).Topic(h, "x").
			Hello(func(*ginsse.Context[none]) (sse.Event, error) { return sse.Event{Type: typ, Data: "x"}, nil }))
		isRefusal(t, get(r, "/x"), 500, "internal server error")
	}
}

// TestFilter holds that a client gets what Filter lets through and no more, that it knows the
// topic and the parameters, that what was passed over is not asked for again, and that the end of
// a topic is not asked about.
func TestFilter(t *testing.T) {
	h := newHub(t)
	s := newServer(t, engine(t, ginsse.SSE[pairParams]("/:a").Options(quiet).Topics(h, "one", "two").
		Filter(func(c *ginsse.Context[pairParams], topic string, m *hub.Message) bool {
			if m.Final {
				t.Error("Filter was asked about the end")
			}
			return topic == c.Params.A && strings.Contains(string(m.Data), c.Params.B)
		})))
	st := open(t, s.Client(), s.URL+"/one?b=yes")
	st.texts(t, 1)
	publish(t, h, "two", "yes")
	publish(t, h, "one", "no")
	publish(t, h, "one", "yes 1")
	publish(t, h, "two", "yes")
	publish(t, h, "one", "yes 2")
	for _, want := range []string{"yes 1", "yes 2"} {
		if got := st.texts(t, 1); got[want] != 1 {
			t.Errorf("got %v, want %q", got, want)
		}
	}
	for _, topic := range []string{"one", "two"} {
		if _, err := h.Finish(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
	}
	e, err := st.Decode()
	if err != nil || e.Type != "close" || e.ID == "" {
		t.Fatalf("instead of the end: %+v, %v", e, err)
	}
	st.expectEnd(t, true)
	if again := open(t, s.Client(), s.URL+"/one?b=yes", "Last-Event-ID", e.ID); again.StatusCode != http.StatusNoContent {
		t.Errorf("who has read to the end: %d", again.StatusCode)
	}
}

// TestFilterAll holds that the end of a topic comes through a Filter that lets nothing pass and a
// Map that makes nothing.
func TestFilterAll(t *testing.T) {
	for name, change := range map[string]func(*ginsse.Route[none]) *ginsse.Route[none]{
		"filter": func(r *ginsse.Route[none]) *ginsse.Route[none] {
			return r.Filter(func(_ *ginsse.Context[none], _ string, m *hub.Message) bool { return m.Final })
		},
		"map": func(r *ginsse.Route[none]) *ginsse.Route[none] {
			return r.Map(func(_ *ginsse.Context[none], _ string, m *hub.Message) []sse.Event {
				if m.Final {
					return []sse.Event{{Data: "Map was asked about the end"}}
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			s := newServer(t, engine(t, change(ginsse.SSE[none]("/x").Options(quiet).Topic(h, "x"))))
			st := open(t, s.Client(), s.URL+"/x", "Last-Event-ID", publish(t, h, "x", "0"))
			for i := range 200 {
				publish(t, h, "x", fmt.Sprint(i))
			}
			id, err := h.Finish(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			for {
				e, err := st.Decode()
				if err != nil {
					t.Fatal(err)
				}
				if e.Type == "close" && e.ID == string(id) {
					break
				}
				if e.Type != "checkpoint" {
					t.Fatalf("%+v", e)
				}
			}
			st.expectEnd(t, true)
		})
	}
}

// TestMap holds that a message becomes the events that Map makes of it, the last one with its
// place, however many they are.
func TestMap(t *testing.T) {
	const many = 10_000
	h := newHub(t)
	ends := make(chan feed.End, 2)
	o := quiet
	o.OnEnd = func(e feed.End) { ends <- e }
	s := newServer(t, engine(t, ginsse.SSE[ticketParams]("/:ticket").Options(o).Topic(h, "{ticket}").
		Map(func(c *ginsse.Context[ticketParams], topic string, m *hub.Message) []sse.Event {
			if string(m.Data) != "many" {
				return []sse.Event{{Type: "one", ID: "mine", Data: gin.H{"ticket": c.Params.Ticket, "topic": topic, "data": string(m.Data)}}}
			}
			all := make([]sse.Event, many)
			for i := range all {
				all[i] = sse.Event{Type: "row", Data: i}
			}
			return all
		})))
	before := publish(t, h, "7", "before")
	id := publish(t, h, "7", "many")
	last := publish(t, h, "7", "last")
	for range 2 { // who is cut off in the middle gets all of them again
		st := open(t, s.Client(), s.URL+"/7", "Last-Event-ID", before)
		for i := range many - 1 {
			if e, err := st.Decode(); err != nil || e.Text() != fmt.Sprint(i) || e.Type != "row" || st.LastEventID() != "" {
				t.Fatalf("row %d: %+v, %v, cursor %q", i, e, err, st.LastEventID())
			}
		}
		st.expect(t, "row|"+id+"|"+fmt.Sprint(many-1), "one|"+last+`|{"data":"last","ticket":7,"topic":"7"}`)
		st.leave()
		if e := receive(t, ends); e.Events != many+1 {
			t.Errorf("%d events were counted", e.Events)
		}
	}
}

// TestMapRefused holds that an event that cannot be sent breaks the stream off, with the
// message's place unsaid.
func TestMapRefused(t *testing.T) {
	for name, bad := range map[string]sse.Event{
		"control event": {Type: "snapshot", Data: "x"}, "type with a line end": {Type: "a\nb", Data: "x"}, "data without a form": {Data: func() {}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			ends := make(chan feed.End, 1)
			o := quiet
			o.OnEnd = func(e feed.End) { ends <- e }
			s := newServer(t, engine(t, ginsse.SSE[none]("/x").Options(o).Topic(h, "x").
				Map(func(*ginsse.Context[none], string, *hub.Message) []sse.Event { return []sse.Event{{Data: "good"}, bad} })))
			before := publish(t, h, "x", "before")
			publish(t, h, "x", "x")
			st := open(t, s.Client(), s.URL+"/x", "Last-Event-ID", before)
			st.expect(t, "||good", "stream-error||{}")
			st.expectEnd(t, false)
			if e := receive(t, ends); !errors.Is(e.Cause, feed.ErrFailed) {
				t.Errorf("cause %v", e.Cause)
			}
		})
	}
}

// TestDescribeFeeds holds that a description has the templates of all topics, or says that a
// function names them, and whether there is a snapshot.
func TestDescribeFeeds(t *testing.T) {
	h := newHub(t)
	templates := []string{"tickets/{ticket}", "notices"}
	r := engine(t,
		ginsse.SSE[ticketParams]("/a/:ticket").Topics(h, templates...).Snapshot(func(*ginsse.Context[ticketParams]) (any, error) { return nil, nil }).
			CORS(ginsse.CORS{Origins: []string{"*"}}),
		ginsse.SSE[none]("/b").TopicsFunc(h, func(*ginsse.Context[none]) ([]string, error) { return nil, nil }))
	templates[0] = "changed"
	got, err := json.Marshal(ginsse.Describe(r))
	const want = `[{"method":"GET","path":"/a/:ticket","kind":"feed","topics":["tickets/{ticket}","notices"],"snapshot":true,` +
		`"parameters":[{"in":"path","name":"ticket","type":"int64","required":true}]},{"method":"GET","path":"/b","kind":"feed","computed":true}]`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}
