package ginsse

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// Description is what a mounted route offers, as plain data; it marshals to JSON.
type Description struct {
	Method     string      `json:"method"`               // GET
	Path       string      `json:"path"`                 // with groups' prefixes, in Gin's notation
	Kind       string      `json:"kind"`                 // "feed" or "generator"
	Topics     []string    `json:"topics,omitempty"`     // templates; none if a function names them
	Computed   bool        `json:"computed,omitempty"`   // a function names the feed's topics
	Snapshot   bool        `json:"snapshot,omitempty"`   // the feed has one, as JSON too
	Parameters []Parameter `json:"parameters,omitempty"` // in the order of the fields
	Events     []string    `json:"events,omitempty"`     // as declared with Route.Events
}

// Parameter is one parameter of a Description.
type Parameter struct {
	In       string `json:"in"`              // "path", "query" or "header"
	Name     string `json:"name"`            // as the client writes it
	Type     string `json:"type"`            // Go's name, such as int64; of a Ref the key's
	Required bool   `json:"required"`        // a request without it is answered 400
	Model    string `json:"model,omitempty"` // Go's name for the type that a Ref loads
}

// Describe returns the routes of this package that were mounted on an engine and its groups, by
// controllers of any depth, sorted by path. It leaves out other routes. The caller owns the
// result. It is safe for concurrent use, but not while routes are added.
func Describe(engine *gin.Engine) []Description {
	var all []Description
	ours := reflect.ValueOf(new(handler).handle).Pointer()
	for _, route := range engine.Routes() {
		if route.Method != http.MethodGet || reflect.ValueOf(route.HandlerFunc).Pointer() != ours {
			continue
		}
		p := &probe{}
		route.HandlerFunc(&gin.Context{Writer: p})
		all = append(all, p.found.clone())
	}
	slices.SortFunc(all, func(a, b Description) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// handler is the Gin handler of a route, whatever the type of its parameters. Its method is the
// one function by which Describe knows a route again, so that no list has to be kept beside the
// engine's own.
type handler struct {
	serve       gin.HandlerFunc
	description Description
}

func (h *handler) handle(g *gin.Context) {
	if p, ok := g.Writer.(*probe); ok {
		p.found = &h.description
		return
	}
	h.serve(g)
}

// probe stands in a Gin context for the writer when a handler is asked what it is. No request has
// one.
type probe struct {
	gin.ResponseWriter
	found *Description
}

func (d Description) clone() Description {
	d.Topics, d.Parameters, d.Events = slices.Clone(d.Topics), slices.Clone(d.Parameters), slices.Clone(d.Events)
	return d
}

// describe returns the description of a route that was checked.
func (e *endpoint[P]) describe(whole string) Description {
	d := Description{Method: http.MethodGet, Path: whole, Kind: "feed", Topics: e.templates, Computed: e.topics != nil, Snapshot: e.snapshot != nil, Events: e.events}
	if e.handle != nil {
		d.Kind = "generator"
	}
	params := reflect.TypeFor[P]()
	for _, f := range e.binder.fields {
		p := Parameter{In: f.in, Name: f.name, Required: f.required}
		switch typ := params.FieldByIndex(f.index).Type; {
		case f.model != nil:
			p.Type, p.Model = f.model.key.String(), f.model.value.String()
		case typ.Kind() == reflect.Pointer:
			p.Type = typ.Elem().String() // the pointer only says that it is optional
		default:
			p.Type = typ.String()
		}
		d.Parameters = append(d.Parameters, p)
	}
	return d.clone()
}

// checkEvents holds the declared event types against the rules of what can be sent: for a feed
// those of hub.Publish, for a generator those of sse.AppendEvent.
func checkEvents(types []string, feed bool) error {
	var errs []error
	for i, t := range types {
		var err error
		if feed {
			err = hub.CheckType(t)
		} else {
			_, err = sse.AppendEvent(nil, sse.Event{Type: t, Data: ""})
		}
		switch {
		case t == "":
			errs = append(errs, errors.New(`an event type is empty; events without a type are called "message"`))
		case err != nil:
			errs = append(errs, fmt.Errorf("event type %q: %w", t, err))
		case slices.Contains(types[:i], t):
			errs = append(errs, fmt.Errorf("event type %q is declared twice", t))
		}
	}
	return errors.Join(errs...)
}
