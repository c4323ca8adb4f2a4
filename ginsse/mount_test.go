package ginsse_test

import (
	"encoding"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
)

type none = struct{}

type ticketParams struct{ Ticket int64 }

// opaque can be decoded, and has no text of its own.
type opaque struct{ secret *string }

func (o *opaque) UnmarshalText(text []byte) error {
	s := string(text)
	o.secret = &s
	return nil
}

// TestMountErrors holds that each mistake in a route is an error at Mount that names the route by
// its whole path, that nothing of it is mounted, and that a good route beside it is.
func TestMountErrors(t *testing.T) {
	h := newHub(t)
	topic := func(*ginsse.Context[none]) (string, error) { return "x", nil }
	generator := func(*ginsse.Context[none]) seq { return events() }
	plain := func(path string) *ginsse.Route[none] { return ginsse.SSE[none](path) }
	tickets := func(path string) *ginsse.Route[ticketParams] { return ginsse.SSE[ticketParams](path) }
	for name, test := range map[string]struct {
		route ginsse.Controller
		path  string // whole
		want  []string
	}{
		"neither topic nor handler": {plain("/a"), "/api/a", []string{"Topic", "Handle"}},
		"topic and function":        {plain("/a").Topic(h, "x").TopicFunc(h, topic), "/api/a", []string{"more than one"}},
		"topic and handler":         {plain("/a").Topic(h, "x").Handle(generator), "/api/a", []string{"more than one"}},
		"POST":                      {plain("/a").Topic(h, "x").Options(ginsse.Options{Post: true}), "/api/a", []string{"Post", "feed.Serve"}},
		"two topics":                {plain("/a").Topic(h, "x").Topic(h, "y"), "/api/a", []string{"more than one"}},
		"two handlers":              {plain("/a").Handle(generator).Handle(generator), "/api/a", []string{"more than one"}},
		"nil hub":                   {plain("/a").Topic(nil, "x"), "/api/a", []string{"hub is nil"}},
		"nil hub for a function":    {plain("/a").TopicFunc(nil, topic), "/api/a", []string{"hub is nil"}},
		"nil topic function":        {plain("/a").TopicFunc(h, nil), "/api/a", []string{"function is nil"}},
		"nil handler":               {plain("/a").Handle(nil), "/api/a", []string{"function is nil"}},
		"nil middleware":            {plain("/a").Use(nil).Handle(generator), "/api/a", []string{"middleware", "nil"}},
		"nil guard":                 {plain("/a").Guard(nil).Handle(generator), "/api/a", []string{"guard", "nil"}},

		"parameters are no struct":    {ginsse.SSE[int]("/a").Topic(h, "x"), "/api/a", []string{"struct", "int"}},
		"parameters are a pointer":    {ginsse.SSE[*ticketParams]("/:ticket").Topic(h, "x"), "/api/:ticket", []string{"struct", "*ginsse_test.ticketParams"}},
		"parameters are an interface": {ginsse.SSE[any]("/a").Topic(h, "x"), "/api/a", []string{"struct"}},
		"parameter without a field":   {plain("/:ticket").Topic(h, "x"), "/api/:ticket", []string{`"ticket"`, "no field"}},
		"one of two without a field":  {tickets("/:ticket/:comment").Topic(h, "x"), "/api/:ticket/:comment", []string{`"comment"`}},
		"wildcard without a field":    {plain("/*rest").Topic(h, "x"), "/api/*rest", []string{`"rest"`}},
		"field without a parameter":   {tickets("/a").Topic(h, "x"), "/api/a", []string{"Ticket", "matches no path parameter"}},
		"tag without a parameter": {ginsse.SSE[struct {
			A string `path:"b"`
		}]("/:a").Topic(h, "x"), "/api/:a", []string{`"b"`, "does not have", `"a"`}},
		"two fields for a parameter": {ginsse.SSE[struct{ Ticket, TICKET string }]("/:ticket").Topic(h, "x"), "/api/:ticket", []string{"two fields", "Ticket", "TICKET"}},
		"a tag and a name for it": {ginsse.SSE[struct {
			Ticket string
			T      string `path:"ticket"`
		}]("/:ticket").Topic(h, "x"), "/api/:ticket", []string{"two fields", "Ticket and T"}},
		"two fields for a query": {ginsse.SSE[struct {
			A int `query:"q"`
			B int `query:"q"`
		}]("/a").Topic(h, "x"), "/api/a", []string{`query parameter "q"`, "A and B"}},
		"two fields for a header": {ginsse.SSE[struct {
			A int `header:"x-tenant"`
			B int `header:"X-Tenant"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"header", "A and B"}},
		"two parameters for a field": {ginsse.SSE[struct{ TicketID int }]("/:ticket_id/:ticketID").Topic(h, "x"), "/api/:ticket_id/:ticketID", []string{"TicketID", `"ticket_id" "ticketID"`}},
		"a parameter twice":          {tickets("/:ticket/x/:ticket").Topic(h, "x"), "/api/:ticket/x/:ticket", []string{`"ticket"`, "twice"}},
		"a parameter without a name": {plain("/:/x").Topic(h, "x"), "/api/:/x", nil},
		"tag with an unknown option": {ginsse.SSE[struct {
			A int `query:"a,requird"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A", `"requird"`}},
		"tag with a space": {ginsse.SSE[struct {
			A int `query:"a, required"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A", `" required"`}},
		"tag without a name": {ginsse.SSE[struct {
			A int `query:""`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A", "no name"}},
		"option without a name": {ginsse.SSE[struct {
			A int `header:",required"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A", "no name"}},
		"tag of another library": {ginsse.SSE[struct {
			A int `form:"a"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A", "needs a tag"}},
		"two tags": {ginsse.SSE[struct {
			A int `query:"a" header:"A"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A", "both"}},
		"tag on an unexported field": {ginsse.SSE[struct {
			a int `query:"a"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field a", "not exported"}},
		"tag on an embedded struct": {ginsse.SSE[struct {
			time.Time `query:"at"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field Time", "embedded"}},
		"embedded pointer": {ginsse.SSE[struct{ *page }]("/a").Topic(h, "x"), "/api/a", []string{"field page", "embedded"}},
		"embedded number":  {ginsse.SSE[struct{ level }]("/:level").Topic(h, "x"), "/api/:level", []string{"field level", "embedded"}},
		"map": {ginsse.SSE[struct {
			A map[string]string `query:"a"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A", "map[string]string"}},
		"struct": {ginsse.SSE[struct {
			A struct{} `query:"a"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A"}},
		"function": {ginsse.SSE[struct{ A func() }]("/:a").Topic(h, "x"), "/api/:a", []string{"field A"}},
		"interface": {ginsse.SSE[struct {
			A encoding.TextUnmarshaler `query:"a"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A"}},
		"complex number": {ginsse.SSE[struct {
			A complex128 `query:"a"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A"}},
		"pointer to a pointer": {ginsse.SSE[struct {
			A **int `query:"a"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A"}},
		"list of lists": {ginsse.SSE[struct {
			A [][]string `query:"a"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A"}},
		"list of pointers": {ginsse.SSE[struct {
			A []*int `query:"a"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A"}},
		"list of bytes": {ginsse.SSE[struct {
			A []byte `query:"a"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A", "[]uint8"}},
		"list in the path":    {ginsse.SSE[struct{ A []string }]("/:a").Topic(h, "x"), "/api/:a", []string{"field A"}},
		"pointer in the path": {ginsse.SSE[struct{ A *string }]("/:a").Topic(h, "x"), "/api/:a", []string{"field A", "pointer"}},
		"pointer that is required": {ginsse.SSE[struct {
			A *int `query:"a,required"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A", "pointer"}},
		"header that cannot be": {ginsse.SSE[struct {
			A string `header:"X Tenant"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A", `"X Tenant"`}},
		"header that is never there": {ginsse.SSE[struct {
			A string `header:"host"`
		}]("/a").Topic(h, "x"), "/api/a", []string{"field A", `"host"`}},
		"several mistakes, all are told": {ginsse.SSE[struct {
			A, B string
			C    func() `query:"c"`
		}]("/:x").Topic(h, "x"), "/api/:x",
			[]string{"field A", "field B", "field C", `"x"`}},

		"template with an unknown name":   {tickets("/:ticket").Topic(h, "tickets/{id}"), "/api/:ticket", []string{`"tickets/{id}"`, "{id}"}},
		"template in another letter case": {tickets("/:ticket").Topic(h, "tickets/{Ticket}"), "/api/:ticket", []string{"{Ticket}"}},
		"template with an optional name": {ginsse.SSE[struct {
			Q string `query:"q"`
		}]("/a").Topic(h, "t/{q}"), "/api/a", []string{"{q}", "absent"}},
		"template with a pointer": {ginsse.SSE[struct {
			Q *string `query:"q"`
		}]("/a").Topic(h, "t/{q}"), "/api/a", []string{"{q}", "absent"}},
		"template with a list": {ginsse.SSE[struct {
			Q []string `query:"q,required"`
		}]("/a").Topic(h, "t/{q}"), "/api/a", []string{"{q}", "several values"}},
		"template with an ambiguous name": {ginsse.SSE[struct {
			ID string
			Q  string `query:"id,required"`
		}]("/:id").Topic(h, "t/{id}"), "/api/:id", []string{"{id}", "path", "query"}},
		"template with a value of no text": {ginsse.SSE[struct{ A opaque }]("/:a").Topic(h, "t/{a}"), "/api/:a", []string{"{a}", "opaque"}},
		"template that joins two values":   {ginsse.SSE[struct{ A, B string }]("/:a/:b").Topic(h, "t/{a}-{b}"), "/api/:a/:b", []string{"{b}", "slash"}},
		"unclosed brace":                   {tickets("/:ticket").Topic(h, "t/{ticket"), "/api/:ticket", []string{"braces"}},
		"unopened brace":                   {tickets("/:ticket").Topic(h, "t/ticket}"), "/api/:ticket", []string{"braces"}},
		"braces the wrong way round":       {tickets("/:ticket").Topic(h, "t/}ticket{"), "/api/:ticket", []string{"braces"}},
		"braces in braces":                 {tickets("/:ticket").Topic(h, "t/{{ticket}}"), "/api/:ticket", []string{"{ticket"}},
		"empty braces":                     {tickets("/:ticket").Topic(h, "t/{}"), "/api/:ticket", []string{"{}"}},
		"empty template":                   {plain("/a").Topic(h, ""), "/api/a", []string{"empty"}},
		"reserved template":                {plain("/a").Topic(h, hub.ReservedPrefix+"x"), "/api/a", []string{"reserved"}},
		"control character in template":    {plain("/a").Topic(h, "a\nb"), "/api/a", []string{"control"}},
		"template that is too long":        {plain("/a").Topic(h, strings.Repeat("x", hub.MaxTopic+1)), "/api/a", []string{"255"}},

		"path without a slash":     {plain("a").Topic(h, "x"), "/api/a", []string{"slash"}},
		"path that is taken":       {plain("/taken").Topic(h, "x"), "/api/taken", []string{"gin", "already registered"}},
		"path that conflicts":      {ginsse.SSE[struct{ Other string }]("/items/:other").Topic(h, "x"), "/api/items/:other", []string{"gin", ":other"}},
		"two parameters a segment": {ginsse.SSE[struct{ A, B string }]("/:a:b").Topic(h, "x"), "/api/:a:b", nil},
		"wildcard not at the end":  {ginsse.SSE[struct{ A string }]("/*a/x").Topic(h, "x"), "/api/*a/x", []string{"gin"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := gin.New()
			group := r.Group("/api")
			group.GET("/taken", func(*gin.Context) {})
			group.GET("/items/:item", func(*gin.Context) {})
			err := ginsse.Mount(group, plain("/good/first").Handle(generator), test.route, plain("/good/second").Handle(generator))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(test.want, "ginsse: route GET "+test.path+": ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q:\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), "good") {
				t.Errorf("the error names a good route: %v", err)
			}
			if n := len(r.Routes()); n != 6 { // the good ones for GET and HEAD
				t.Errorf("%d routes are mounted: %+v", n, r.Routes())
			}
			for _, path := range []string{"/api/good/first", "/api/good/second", "/api/taken", "/api/items/x"} {
				if w := get(r, path); w.Code != http.StatusOK {
					t.Errorf("%s: %d", path, w.Code)
				}
			}
		})
	}
}

func TestMountNil(t *testing.T) {
	if err := ginsse.Mount(gin.New(), nil); err == nil || !strings.HasPrefix(err.Error(), "ginsse: ") {
		t.Errorf("error %v", err)
	}
	if err := ginsse.Mount(gin.New()); err != nil {
		t.Errorf("nothing to mount: %v", err)
	}
}

// TestMountWholePath holds that the prefixes of groups count: in the error, for parameters, and
// as Gin joins them.
func TestMountWholePath(t *testing.T) {
	type params struct {
		Org    string
		Ticket int
	}
	for name, test := range map[string]struct{ prefix, path, target string }{
		"prefix with a parameter": {"/orgs/:org", "/tickets/:ticket/events", "/orgs/acme/tickets/7/events"},
		"slash at its end":        {"/orgs/:org/", "/tickets/:ticket/", "/orgs/acme/tickets/7/"},
		"all in the prefix":       {"/orgs/:org/tickets/:ticket", "", "/orgs/acme/tickets/7"},
		"a slash more":            {"/orgs/:org/tickets/:ticket", "/", "/orgs/acme/tickets/7/"},
		"all in the path":         {"/", "/orgs/:org/:ticket", "/orgs/acme/7"},
	} {
		t.Run(name, func(t *testing.T) {
			var got params
			r := gin.New()
			mount(t, r.Group(test.prefix), ginsse.SSE[params](test.path).Options(quiet).Handle(func(c *ginsse.Context[params]) seq {
				got = c.Params
				return events()
			}))
			if w := get(r, test.target); w.Code != http.StatusOK || got != (params{"acme", 7}) {
				t.Errorf("%d, %+v", w.Code, got)
			}
		})
	}
	err := ginsse.Mount(gin.New().Group("/orgs/:org"), ginsse.SSE[ticketParams]("/:ticket").Handle(func(*ginsse.Context[ticketParams]) seq { return nil }))
	if err == nil || !strings.Contains(err.Error(), `GET /orgs/:org/:ticket: path parameter "org" has no field`) {
		t.Errorf("error %v", err)
	}
}

// TestMountEscapedColon holds that a colon that Gin takes for itself is no parameter.
func TestMountEscapedColon(t *testing.T) {
	r := engine(t, ginsse.SSE[ticketParams](`/tickets/:ticket/feed\:watch`).Options(quiet).Handle(func(*ginsse.Context[ticketParams]) seq { return events() }))
	if w := get(r.Handler(), "/tickets/7/x"); w.Code != http.StatusNotFound {
		t.Errorf("status %d", w.Code)
	}
}

// controller has an ordinary route beside a stream.
type controller struct{ h *hub.Hub }

func (c controller) Routes(r gin.IRouter) error {
	r.GET("/tickets", func(g *gin.Context) { g.String(http.StatusOK, "list") })
	return ginsse.Mount(r, ginsse.SSE[ticketParams]("/tickets/:ticket/events").Topic(c.h, "{ticket}"), ginsse.SSE[none]("/bad"))
}

// TestMountControllers holds that errors come through from controllers of controllers, and that
// one route can be mounted in several places.
func TestMountControllers(t *testing.T) {
	r := gin.New()
	err := ginsse.Mount(r.Group("/v1"), controller{newHub(t)})
	if err == nil || strings.Count(err.Error(), "ginsse: route") != 1 || !strings.Contains(err.Error(), "GET /v1/bad") {
		t.Errorf("error %v", err)
	}
	if w := get(r, "/v1/tickets"); w.Body.String() != "list" {
		t.Errorf("the ordinary route: %d %s", w.Code, w.Body)
	}
	route := ginsse.SSE[none]("/x").Options(quiet).Handle(func(*ginsse.Context[none]) seq { return events() })
	mount(t, r.Group("/a"), route)
	mount(t, r.Group("/b"), route)
	for _, path := range []string{"/a/x", "/b/x"} {
		if w := get(r, path); w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}
