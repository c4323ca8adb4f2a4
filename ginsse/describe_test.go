package ginsse_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// desk is a controller that mounts another one in a group of its own.
type desk struct{ h *hub.Hub }

type deskParams struct {
	Org    string
	Ticket ginsse.Ref[*ticket]
	Parent ginsse.Ref[echoed] `query:"parent,required"`
	Limit  *int               `query:"limit"`
	Labels []string           `query:"label"`
	Wait   time.Duration      `header:"X-Wait,required"`
}

func (d desk) Routes(r gin.IRouter) error {
	r.GET("/plain", func(*gin.Context) {})
	return errors.Join(
		ginsse.Mount(r.Group("/tickets"), ginsse.SSE[deskParams]("/:ticket/events").
			Use(func(*gin.Context) {}).
			Models(ginsse.ModelOf(byID), echo[string]()).
			Events("created", "moved").Events("deleted").
			Topic(d.h, "orgs/{org}/tickets/{ticket}")),
		ginsse.Mount(r,
			ginsse.SSE[struct{ Org string }]("/computed").TopicFunc(d.h, func(*ginsse.Context[struct{ Org string }]) (string, error) { return "x", nil }),
			ginsse.SSE[struct{ Org string }](`/a\:b`).Events("tick", "close").Handle(func(*ginsse.Context[struct{ Org string }]) seq { return events() }),
		))
}

const described = `[
	{"method": "GET", "path": "/orgs/:org/a\\:b", "kind": "generator", "parameters": [{"in": "path", "name": "org", "type": "string", "required": true}],
		"events": ["tick", "close"]},
	{"method": "GET", "path": "/orgs/:org/computed", "kind": "feed", "computed": true, "parameters": [{"in": "path", "name": "org", "type": "string", "required": true}]},
	{"method": "GET", "path": "/orgs/:org/tickets/:ticket/events", "kind": "feed", "topics": ["orgs/{org}/tickets/{ticket}"], "parameters": [
		{"in": "path", "name": "org", "type": "string", "required": true},
		{"in": "path", "name": "ticket", "type": "int64", "required": true, "model": "*ginsse_test.ticket"},
		{"in": "query", "name": "parent", "type": "string", "required": true, "model": "ginsse_test.echoed"},
		{"in": "query", "name": "limit", "type": "int", "required": false},
		{"in": "query", "name": "label", "type": "[]string", "required": false},
		{"in": "header", "name": "X-Wait", "type": "time.Duration", "required": true}],
		"events": ["created", "moved", "deleted"]},
	{"method": "GET", "path": "/x", "kind": "feed", "topics": ["x"]}
]`

// TestDescribe holds that the description of an engine has every route of this package, by
// whichever controller and group, and none else, before and after it has served; and that asking
// runs nothing.
func TestDescribe(t *testing.T) {
	h := newHub(t)
	r := gin.New()
	ran := false
	r.Use(func(*gin.Context) { ran = true })
	var topic string
	mount(t, r.Group("/orgs/:org"), desk{h})
	mount(t, r, ginsse.SSE[none]("/x").Options(lookOnly(&topic)).Guard(func(*ginsse.Context[none]) error { ran = true; return nil }).Topic(h, "x"))
	if err := ginsse.Mount(r, ginsse.SSE[none]("/bad")); err == nil {
		t.Error("the bad route was mounted")
	}
	r.GET("/other", func(*gin.Context) { ran = true })
	r.POST("/x", func(*gin.Context) { ran = true })

	var want any
	if err := json.Unmarshal([]byte(described), &want); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		text, err := json.Marshal(ginsse.Describe(r))
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %s, %v", text, err)
		}
	}
	check()
	if ran {
		t.Error("something of a route ran")
	}
	if w := get(r, "/x"); w.Code != http.StatusOK || topic != "x" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// What a caller does with its list is its own affair.
	mine := ginsse.Describe(r)
	mine[2].Events[0], mine[2].Parameters[0].Name = "changed", "changed"
	var all sync.WaitGroup
	for range 4 {
		all.Go(check)
	}
	all.Wait()
	if got := ginsse.Describe(gin.New()); len(got) != 0 {
		t.Errorf("an empty engine has %+v", got)
	}
}

// TestEvents holds that the types a feed declares are those that hub.Publish takes, those of a
// generator what an event can have, and that others are errors at Mount.
func TestEvents(t *testing.T) {
	h := newHub(t)
	for typ, want := range map[string]struct{ feed, generator bool }{
		"created":                {true, true},
		"ticket.moved/é":         {true, true},
		" ":                      {true, true},
		"message":                {true, true},
		"x-gap":                  {true, true},
		"gaps":                   {true, true},
		strings.Repeat("x", 255): {true, true},
		strings.Repeat("x", 256): {false, true},
		"gap":                    {false, true},
		"checkpoint":             {false, true},
		"snapshot":               {false, true},
		"stream-error":           {false, true},
		"torn":                   {false, true},
		"close":                  {false, true},
		"open":                   {false, true},
		"error":                  {false, true},
		"blob;base64":            {false, true},
		";base64":                {false, true},
		"a\tb":                   {false, true},
		"a\u0085b":               {false, true},
		"a\xff":                  {false, true},
		"a\nb":                   {false, false},
		"a\rb":                   {false, false},
		"a\x00":                  {false, false},
	} {
		_, err := h.Publish(t.Context(), "x", hub.Message{Type: typ})
		if (err == nil) != want.feed || err != nil && !errors.Is(err, hub.ErrType) {
			t.Errorf("%q: Publish: %v", typ, err)
		}
		if _, err := sse.AppendEvent(nil, sse.Event{Type: typ, Data: "x"}); (err == nil) != want.generator {
			t.Errorf("%q: AppendEvent: %v", typ, err)
		}
		feed := ginsse.Mount(gin.New(), ginsse.SSE[none]("/x").Events("good", typ).Topic(h, "x"))
		byFunc := ginsse.Mount(gin.New(), ginsse.SSE[none]("/x").Events("good", typ).TopicFunc(h, func(*ginsse.Context[none]) (string, error) { return "", nil }))
		generator := ginsse.Mount(gin.New(), ginsse.SSE[none]("/x").Handle(func(*ginsse.Context[none]) seq { return events() }).Events("good", typ))
		if (feed == nil) != want.feed || (byFunc == nil) != want.feed || (generator == nil) != want.generator {
			t.Errorf("%q: feed: %v, by a function: %v, generator: %v", typ, feed, byFunc, generator)
		}
		if feed != nil && (!strings.Contains(feed.Error(), "ginsse: route GET /x: event type ") || strings.Contains(feed.Error(), "good")) {
			t.Errorf("%q: error %v", typ, feed)
		}
	}
	for name, types := range map[string][]string{"empty": {""}, "declared twice": {"a", "b", "a"}} {
		if err := ginsse.Mount(gin.New(), ginsse.SSE[none]("/x").Events(types...).Topic(h, "x")); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: error %v", types, err)
		}
	}
}
