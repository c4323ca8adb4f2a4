package ginsse

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
)

// Controller is anything that adds its routes to a router. A *Route is one, and so is a struct of
// the application that mounts several, ordinary HTTP routes among them.
type Controller interface {
	// Routes adds the controller's routes to a router. Its error names the routes that could not
	// be added.
	Routes(gin.IRouter) error
}

// Mount adds the routes of controllers to a router: an engine, or a group, whose prefix and
// middleware count. It checks every route against the whole path. These are mistakes: a parameter
// without a field, a field without a parameter, two candidates for one, a type that cannot be a
// parameter, a Ref without a model, two models for one type, an unknown name in a topic template,
// an event type that cannot be sent, a route with no topic and no handler or with several, a path
// that Gin refuses. The error names each such route; the others are mounted. Call it before the
// server starts.
//
// A route is mounted for GET, for OPTIONS if it has a CORS, and for HEAD. If Gin refuses one of the
// first two, because the application has an OPTIONS /*path for example, there is no route for the
// other either. Where a route for HEAD is in the way, that one stays and answers; one that is added
// later makes Gin panic.
func Mount(r gin.IRouter, controllers ...Controller) error {
	var errs []error
	for _, c := range controllers {
		if c == nil {
			errs = append(errs, errors.New("ginsse: a controller is nil"))
			continue
		}
		errs = append(errs, c.Routes(r))
	}
	return errors.Join(errs...)
}

// Routes implements Controller.
func (r *Route[P]) Routes(router gin.IRouter) error {
	whole := r.path
	if group, ok := router.(interface{ BasePath() string }); ok {
		whole = joinPaths(group.BasePath(), r.path)
	}
	if err := r.mount(router, whole); err != nil {
		return fmt.Errorf("ginsse: route GET %s: %w", whole, err)
	}
	return nil
}

func (r *Route[P]) mount(router gin.IRouter, whole string) (err error) {
	e := &endpoint[P]{Route: *r}
	if err := r.check(); err != nil {
		return err
	}
	models, err := modelsByRef(r.models)
	if err != nil {
		return err
	}
	if e.binder, err = newBinder(reflect.TypeFor[P](), pathParameters(whole), models); err != nil {
		return err
	}
	if r.preload && !slices.ContainsFunc(e.binder.fields, func(f field) bool { return f.model != nil }) {
		return errors.New("it has Preload, and no Ref among its parameters")
	}
	e.names = r.topics
	if r.templates != nil {
		t, err := newTemplates(r.templates, e.binder, reflect.TypeFor[P]())
		if err != nil {
			return err
		}
		e.names = func(c *Context[P]) (names []string, err error) {
			v := reflect.ValueOf(&c.Params).Elem()
			names = make([]string, len(t))
			for i := 0; i < len(t) && err == nil; i++ {
				names[i], err = t[i].topic(v)
			}
			return names, err
		}
	}
	last := &handler{serve: e.serve, description: e.describe(whole)}
	return r.register(router, append(slices.Clone(r.use), last.handle))
}

// register adds a route to the router for each of its methods. When it returns an error there is
// nothing that a client could find.
func (r *Route[P]) register(router gin.IRouter, handlers []gin.HandlerFunc) (err error) {
	if r.cors != nil {
		cors := func(g *gin.Context) {
			if r.cors.Apply(g.Writer, g.Request) {
				g.Abort()
			}
		}
		handlers = slices.Insert(handlers, 0, cors)
		// First: Gin takes no route back, and one for OPTIONS is what shows least if GET is
		// refused.
		mounted := false
		defer func() { mounted = err == nil }()
		options := func(g *gin.Context) {
			if !mounted {
				g.AbortWithStatus(http.StatusNotFound)
				return
			}
			cors(g)
			if !g.IsAborted() {
				g.Header("Allow", "GET, HEAD, OPTIONS")
				g.Status(http.StatusNoContent)
			}
		}
		if err := add(router, http.MethodOptions, r.path, options); err != nil {
			return err
		}
	}
	if err := add(router, http.MethodGet, r.path, handlers...); err != nil {
		return err
	}
	// The application's own route for HEAD, if there is one, is what it had before.
	_ = add(router, http.MethodHead, r.path, handlers...)
	return nil
}

// add adds a route for one method to a router. Gin panics at a path that is malformed or conflicts
// with another one; that is the error.
func add(router gin.IRouter, method, path string, handlers ...gin.HandlerFunc) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("gin: %s: %v", method, p)
		}
	}()
	router.Handle(method, path, handlers...)
	return nil
}

// check looks for what is missing in the route itself.
func (r *Route[P]) check() error {
	if r.path != "" && r.path[0] != '/' {
		return errors.New("its path must begin with a slash")
	}
	for _, middleware := range r.use {
		if middleware == nil {
			return errors.New("a middleware is nil")
		}
	}
	for _, guard := range r.guards {
		if guard == nil {
			return errors.New("a guard is nil")
		}
	}
	if err := checkEvents(r.events, r.handle == nil); err != nil {
		return err
	}
	if r.options.Post {
		return errors.New("its Options have Post: a route has GET and HEAD only, so serve POST by a Gin route of your own with feed.Serve")
	}
	if r.cors != nil {
		if err := r.cors.Check(); err != nil {
			return err
		}
	}
	switch {
	case r.kinds == 0:
		return errors.New("it needs a Topic, Topics, a TopicFunc, TopicsFunc or a Handle")
	case r.kinds > 1:
		return errors.New("it has more than one of Topic, Topics, TopicFunc, TopicsFunc and Handle")
	case r.handle != nil && (r.hello != nil || r.snapshot != nil || r.filter != nil || r.mapping != nil):
		return errors.New("a Handle yields all of its events itself: Hello, Snapshot, Filter and Map are for topics")
	case r.handle != nil:
		return nil
	case r.templates == nil && r.topics == nil:
		return errors.New("its function is nil")
	case r.topics == nil && len(r.templates) == 0:
		return errors.New("its Topics are none")
	case r.hub == nil:
		return errors.New("its hub is nil")
	}
	return nil
}

// joinPaths joins a group's prefix and a path as Gin does.
func joinPaths(prefix, p string) string {
	if p == "" {
		return prefix
	}
	whole := path.Join(prefix, p)
	if strings.HasSuffix(p, "/") && !strings.HasSuffix(whole, "/") {
		whole += "/"
	}
	return whole
}

// pathParameters returns the names of a path's parameters, in order. A colon behind a backslash
// begins none.
func pathParameters(p string) (names []string) {
	for segment := range strings.SplitSeq(strings.ReplaceAll(p, `\:`, ""), "/") {
		if i := strings.IndexAny(segment, ":*"); i >= 0 {
			names = append(names, segment[i+1:])
		}
	}
	return names
}
