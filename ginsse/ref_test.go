package ginsse_test

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
)

type ticket struct{ ID int64 }

type refParams struct{ Ticket ginsse.Ref[*ticket] }

type refContext = ginsse.Context[refParams]

// byID knows the tickets up to 99.
func byID(_ context.Context, id int64) (*ticket, error) {
	if id > 99 {
		return nil, fmt.Errorf("ticket %d: %w", id, ginsse.ErrNotFound)
	}
	return &ticket{id}, nil
}

// getTicket is a guard that returns the error of Get unchanged.
func getTicket(c *refContext) error {
	_, err := c.Params.Ticket.Get(c.Context())
	return err
}

// TestRefNames holds which path parameter a Ref stands for, and that a tag wins.
func TestRefNames(t *testing.T) {
	type byTag struct {
		Ticket ginsse.Ref[*ticket] `path:"ticketRef"`
		Other  string              `path:"ticket"`
	}
	type beside struct {
		Ticket    ginsse.Ref[*ticket] `path:"ticket"`
		TicketRef string
	}
	type page struct {
		Parent ginsse.Ref[*ticket]
	}
	type embedded struct {
		page
		Ticket ginsse.Ref[*ticket]
	}
	type elsewhere struct {
		Q ginsse.Ref[*ticket] `query:"q,required"`
		H ginsse.Ref[*ticket] `header:"X-Ticket,required"`
	}
	for name, test := range map[string]func(*testing.T) string{
		"same name":         refKeys[refParams]("/:ticket", "/7"),
		"capital":           refKeys[refParams]("/:Ticket", "/7"),
		"with Ref":          refKeys[refParams]("/:ticketRef", "/7"),
		"with ref":          refKeys[refParams]("/:ticket_ref", "/7"),
		"as a number":       refKeys[refParams]("/:ticket", "/007"),
		"tag to Ref":        refKeys[byTag]("/:ticketRef/:ticket", "/7/8"),
		"tag beside Ref":    refKeys[beside]("/:ticket/:ticketRef", "/7/8"),
		"embedded":          refKeys[embedded]("/:ticketRef/:parent", "/7/8"),
		"query and header":  refKeys[elsewhere]("/x", "/x?q=07", "X-Ticket", "8"),
		"in a group's path": refKeys[refParams]("/a/:ticket/b", "/a/7/b"),
	} {
		t.Run(name, func(t *testing.T) {
			if got := test(t); !strings.HasPrefix(got, "7") {
				t.Errorf("keys %s", got)
			}
		})
	}
}

// refKeys returns the parameters of a request as text, a Ref by its key and what it loads.
func refKeys[P any](path, target string, headers ...string) func(*testing.T) string {
	return func(t *testing.T) (keys string) {
		r := engine(t, ginsse.SSE[P](path).Options(quiet).Models(ginsse.ModelOf(byID)).Handle(func(c *ginsse.Context[P]) seq {
			v := reflect.ValueOf(c.Params)
			for _, sf := range reflect.VisibleFields(v.Type()) {
				if sf.Type != reflect.TypeFor[ginsse.Ref[*ticket]]() {
					continue
				}
				ref := v.FieldByIndex(sf.Index).Interface().(ginsse.Ref[*ticket])
				if got, err := ref.Get(c.Context()); err != nil || fmt.Sprint(got.ID) != ref.Key() {
					t.Errorf("%s: key %q, model %+v, %v", sf.Name, ref.Key(), got, err)
				}
				if sf.Name == "Ticket" || sf.Name == "Q" {
					keys = ref.Key() + keys
				} else {
					keys += ref.Key()
				}
			}
			return events()
		}))
		if w := get(r, target, headers...); w.Code != http.StatusOK {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		return keys
	}
}

type plainStruct struct{ ginsse.Ref[*ticket] }

// TestRefMountErrors holds that each mistake with references and models is an error at Mount that
// names the route, and nothing is mounted.
func TestRefMountErrors(t *testing.T) {
	route := func(path string, models ...ginsse.Model) *ginsse.Route[refParams] {
		return ginsse.SSE[refParams](path).Models(models...).Handle(func(*refContext) seq { return events() })
	}
	model := ginsse.ModelOf(byID)
	for name, test := range map[string]struct {
		route ginsse.Controller
		path  string
		want  []string
		not   string
	}{
		"no model":             {route("/:ticket"), "/:ticket", []string{"field Ticket", "Ref[*", "Models"}, "no field"},
		"model of another":     {route("/:ticket", ginsse.ModelOf(func(context.Context, int64) (ticket, error) { return ticket{}, nil })), "/:ticket", []string{"field Ticket", "no model"}, "no field"},
		"two models":           {route("/:ticket", model, ginsse.ModelOf(func(context.Context, string) (*ticket, error) { return nil, nil })), "/:ticket", []string{"two models *ginsse_test.ticket"}, ""},
		"two models, two adds": {route("/:ticket", model).Models(model), "/:ticket", []string{"two models"}, ""},
		"two models, unused":   {ginsse.SSE[none]("/x").Models(model, model).Handle(func(*ginsse.Context[none]) seq { return events() }), "/x", []string{"two models"}, ""},
		"nil function":         {route("/:ticket", ginsse.ModelOf[int64, *ticket](nil)), "/:ticket", []string{"*ginsse_test.ticket", "nil"}, ""},
		"empty model":          {route("/:ticket", ginsse.Model{}), "/:ticket", []string{"ModelOf"}, ""},
		"key that cannot be":   {route("/:ticket", ginsse.ModelOf(func(context.Context, []byte) (*ticket, error) { return nil, nil })), "/:ticket", []string{"*ginsse_test.ticket", "key", "[]uint8"}, ""},
		"key that is a pointer": {route("/:ticket", ginsse.ModelOf(func(context.Context, *int) (*ticket, error) { return nil, nil })), "/:ticket",
			[]string{"key", "*int"}, ""},
		"key that is not decoded": {route("/:ticket", ginsse.ModelOf(func(context.Context, complex128) (*ticket, error) { return nil, nil })), "/:ticket",
			[]string{"key cannot be a complex128"}, ""},
		"key without a text": {route("/:ticket", ginsse.ModelOf(func(context.Context, opaque) (*ticket, error) { return nil, nil })), "/:ticket",
			[]string{"key", "opaque", "MarshalText"}, ""},

		"two candidates":      {route("/:ticket/:ticketRef", model), "/:ticket/:ticketRef", []string{"field Ticket", `"ticket" "ticketRef"`, "path tag"}, ""},
		"two of the Ref kind": {route("/:ticketRef/:ticket_ref", model), "/:ticketRef/:ticket_ref", []string{"field Ticket", "path tag"}, ""},
		"no candidate":        {route("/:ticketID", model), "/:ticketID", []string{"field Ticket matches no path parameter"}, ""},
		"Ref in a field's name": {ginsse.SSE[struct{ TicketRef ginsse.Ref[*ticket] }]("/:ticket").Models(model).Topic(newHub(t), "x"), "/:ticket",
			[]string{"field TicketRef matches no path parameter"}, ""},
		"two fields": {ginsse.SSE[struct {
			Ticket    ginsse.Ref[*ticket]
			TicketRef string
		}]("/:ticketRef").Models(model).Topic(newHub(t), "x"), "/:ticketRef", []string{`"ticketRef"`, "two fields", "Ticket and TicketRef"}, ""},
		"ordinary field with Ref": {ginsse.SSE[struct{ Ticket string }]("/:ticketRef").Topic(newHub(t), "x"), "/:ticketRef", []string{"field Ticket matches no path parameter"}, ""},
		"optional query": {ginsse.SSE[struct {
			Ticket ginsse.Ref[*ticket] `query:"ticket"`
		}]("/x").Models(model).Topic(newHub(t), "x"), "/x", []string{"field Ticket", "query", "required"}, ""},
		"optional header": {ginsse.SSE[struct {
			Ticket ginsse.Ref[*ticket] `header:"Ticket"`
		}]("/x").Models(model).Topic(newHub(t), "x"), "/x", []string{"field Ticket", "header", "required"}, ""},
		"list": {ginsse.SSE[struct {
			Ticket []ginsse.Ref[*ticket] `query:"ticket,required"`
		}]("/x").Models(model).Topic(newHub(t), "x"), "/x", []string{"field Ticket", "cannot be"}, ""},
		"pointer": {ginsse.SSE[struct {
			Ticket *ginsse.Ref[*ticket] `query:"ticket"`
		}]("/x").Models(model).Topic(newHub(t), "x"), "/x", []string{"field Ticket", "cannot be"}, ""},
		"embedded Ref":       {ginsse.SSE[plainStruct]("/x").Models(model).Topic(newHub(t), "x"), "/x", []string{"field Ref", "embedded"}, ""},
		"Ref in a struct":    {ginsse.SSE[struct{ Ticket plainStruct }]("/:ticket").Models(model).Topic(newHub(t), "x"), "/:ticket", []string{"field Ticket", "cannot be"}, ""},
		"Preload of nothing": {ginsse.SSE[none]("/x").Models(model).Preload().Topic(newHub(t), "x"), "/x", []string{"Preload", "no Ref"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := gin.New()
			err := ginsse.Mount(r.Group("/api"), test.route)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(test.want, "ginsse: route GET /api"+test.path+": ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q:\n%v", want, err)
				}
			}
			if test.not != "" && strings.Contains(err.Error(), test.not) {
				t.Errorf("the error has %q:\n%v", test.not, err)
			}
			if len(r.Routes()) > 0 {
				t.Error("it is mounted")
			}
		})
	}
}

// TestRefLazy holds that a model is loaded when it is asked for and once per request, by whoever
// asks, and that each request loads its own.
func TestRefLazy(t *testing.T) {
	var loads atomic.Int64
	load := func(ctx context.Context, id int64) (*ticket, error) {
		loads.Add(1)
		return byID(ctx, id)
	}
	pass := func(*refContext) error { return nil }
	forbid := func(*refContext) error { return ginsse.ErrForbidden }
	var topic string
	for name, test := range map[string]struct {
		guards  []func(*refContext) error
		preload bool
		want    int64
	}{
		"nobody asks":               {nil, false, 0},
		"a guard refuses":           {[]func(*refContext) error{forbid, getTicket}, true, 0},
		"one guard":                 {[]func(*refContext) error{getTicket}, false, 1},
		"three guards":              {[]func(*refContext) error{getTicket, pass, getTicket, getTicket}, false, 1},
		"preload":                   {nil, true, 1},
		"a guard, and preload":      {[]func(*refContext) error{getTicket}, true, 1},
		"a guard asks, one refuses": {[]func(*refContext) error{getTicket, forbid}, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			route := ginsse.SSE[refParams]("/:ticket").Options(lookOnly(&topic)).Guard(test.guards...).Models(ginsse.ModelOf(load)).Topic(newHub(t), "tickets/{ticket}")
			if test.preload {
				route.Preload()
			}
			r := engine(t, route)
			for range 2 {
				loads.Store(0)
				get(r, "/7")
				if n := loads.Load(); n != test.want {
					t.Errorf("%d loads, want %d", n, test.want)
				}
			}
		})
	}
}

// TestRefStatuses holds what a request is answered when its key is malformed or its model does
// not load: by a guard that returns the error of Get unchanged, by Preload, by the function that
// names the topic; and that no stream is begun.
func TestRefStatuses(t *testing.T) {
	load := func(ctx context.Context, id int64) (*ticket, error) {
		switch id {
		case 1:
			return nil, ginsse.ErrNotFound
		case 2:
			return nil, nil // as some stores say it
		case 3:
			return nil, errors.New("password " + canary)
		case 4:
			// The value beside an error is nobody's.
			return &ticket{4}, ginsse.Status(http.StatusGone, errors.New("it was deleted"))
		}
		return byID(ctx, id)
	}
	h := newHub(t)
	o := quiet
	o.ExpireAt = time.Unix(1, 0) // should a stream begin, it ends
	base := func() *ginsse.Route[refParams] {
		return ginsse.SSE[refParams]("/:ticket").Options(o).Models(ginsse.ModelOf(load))
	}
	started := func(*refContext) seq {
		t.Error("the generator was started")
		return events()
	}
	byTopic := func(c *refContext) (string, error) { return "x", getTicket(c) }
	routes := map[string]*gin.Engine{
		"guard":   engine(t, base().Guard(getTicket).Topic(h, "tickets/{ticket}")),
		"preload": engine(t, base().Preload().Handle(started)),
		"topic":   engine(t, base().TopicFunc(h, byTopic)),
	}
	for target, want := range map[string]struct {
		code int
		text string
	}{
		"/1":                   {404, "not found"},
		"/2":                   {404, "not found"},
		"/3":                   {500, "internal server error"},
		"/4":                   {410, "it was deleted"},
		"/100":                 {404, "not found"},
		"/x":                   {400, `path parameter "ticket": must be a whole number`},
		"/9223372036854775808": {400, `path parameter "ticket": is out of range`},
	} {
		for kind, r := range routes {
			t.Run(kind+target, func(t *testing.T) { isRefusal(t, get(r, target), want.code, want.text) })
		}
	}
}

// TestRefKeys holds that keys of all types are decoded as parameters are, that what cannot be
// decoded is 400 before anything is loaded, and that a template names the topic by the key's own
// text, escaped.
func TestRefKeys(t *testing.T) {
	h := newHub(t)
	var topic string
	for name, test := range map[string]struct {
		model            ginsse.Model
		target, key, bad string
	}{
		"number":               {echo[int64](), "/+07", "7", "/x"},
		"small":                {echo[uint8](), "/255", "255", "/256"},
		"string":               {echo[string](), "/a%25b", "a%25b", ""},
		"slash":                {echo[string](), "/a%2Fb", "a%2Fb", ""},
		"named":                {echo[handle](), "/ann", "ann", ""},
		"text":                 {echo[level](), "/high", "high", "/" + canary},
		"time":                 {echo[time.Time](), "/2026-01-02T03:04:05.000Z", "2026-01-02T03:04:05Z", "/today"},
		"no text for this one": {echo[secretText](), "", "", "/" + canary},
	} {
		t.Run(name, func(t *testing.T) {
			r := gin.New()
			r.UseRawPath = true
			var key string
			mount(t, r, ginsse.SSE[struct{ Ticket ginsse.Ref[echoed] }]("/:ticket").Options(lookOnly(&topic)).Models(test.model).
				Guard(func(c *ginsse.Context[struct{ Ticket ginsse.Ref[echoed] }]) error {
					key = c.Params.Ticket.Key()
					got, err := c.Params.Ticket.Get(c.Context())
					if string(got) != key {
						t.Errorf("loaded %q by the key %q", got, key)
					}
					return err
				}).Topic(h, "tickets/{ticket}/events"))
			if test.target != "" {
				if w := get(r, test.target); w.Code != http.StatusOK || hub.JoinTopic(key) != test.key || topic != "tickets/"+test.key+"/events" {
					t.Errorf("%d, key %q, topic %q, want %q", w.Code, key, topic, test.key)
				}
			}
			if test.bad != "" {
				key = ""
				w := get(r, test.bad)
				if w.Code != http.StatusBadRequest || key != "" || strings.Contains(w.Body.String(), canary) {
					t.Errorf("%d %s, a guard saw the key %q", w.Code, w.Body, key)
				}
			}
		})
	}
}

type handle string

// echoed is a model that is the text of its key.
type echoed string

func echo[K any]() ginsse.Model {
	return ginsse.ModelOf(func(_ context.Context, key K) (echoed, error) {
		if m, ok := any(&key).(encoding.TextMarshaler); ok {
			text, err := m.MarshalText()
			return echoed(text), err
		}
		return echoed(fmt.Sprint(key)), nil
	})
}

// TestRefNil holds which models count as none: nil pointers and interfaces, not empty lists.
func TestRefNil(t *testing.T) {
	type params struct {
		Pointer   ginsse.Ref[*int]
		Interface ginsse.Ref[error]
		List      ginsse.Ref[[]int]
		Number    ginsse.Ref[int]
	}
	got := make(map[string]error)
	r := engine(t, ginsse.SSE[params]("/:pointer/:interface/:list/:number").Options(quiet).
		Models(ginsse.ModelOf(zero[*int]), ginsse.ModelOf(zero[error]), ginsse.ModelOf(zero[[]int]), ginsse.ModelOf(zero[int])).
		Handle(func(c *ginsse.Context[params]) seq {
			_, got["pointer"] = c.Params.Pointer.Get(c.Context())
			_, got["interface"] = c.Params.Interface.Get(c.Context())
			_, got["list"] = c.Params.List.Get(c.Context())
			_, got["number"] = c.Params.Number.Get(c.Context())
			return events()
		}))
	get(r, "/a/b/c/d")
	want := map[string]error{"pointer": ginsse.ErrNotFound, "interface": ginsse.ErrNotFound, "list": nil, "number": nil}
	if !maps.Equal(got, want) {
		t.Errorf("errors %v", got)
	}
}

func zero[T any](context.Context, string) (v T, _ error) { return v, nil }

// TestModelsShared holds that one list of models does for many routes, whether they refer to all
// of them or not.
func TestModelsShared(t *testing.T) {
	models := []ginsse.Model{ginsse.ModelOf(byID), ginsse.ModelOf(zero[[]int])}
	generator := func(*ginsse.Context[none]) seq { return events() }
	r := engine(t,
		ginsse.SSE[none]("/none").Options(quiet).Models(models...).Handle(generator),
		ginsse.SSE[refParams]("/:ticket").Options(quiet).Models(models...).Preload().Handle(func(*refContext) seq { return events() }))
	for _, target := range []string{"/none", "/7"} {
		if w := get(r, target); w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}
