package ginsse_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// TestOrder holds that a request passes the group's middleware, the route's, binding, guards and
// then the topic, and unwinds backwards.
func TestOrder(t *testing.T) {
	var steps []string
	step := func(name string) gin.HandlerFunc {
		return func(c *gin.Context) {
			steps = append(steps, name)
			c.Next()
			steps = append(steps, "/"+name)
		}
	}
	guard := func(name string) func(*ginsse.Context[ticketParams]) error {
		return func(*ginsse.Context[ticketParams]) error {
			steps = append(steps, name)
			return nil
		}
	}
	var topic string
	o := lookOnly(&topic)
	onEnd := o.OnEnd
	o.OnEnd = func(e feed.End) {
		onEnd(e)
		steps = append(steps, "stream")
	}
	r := gin.New()
	r.Use(step("engine"))
	group := r.Group("/g", step("group"))
	mount(t, group, ginsse.SSE[ticketParams]("/:ticket").Options(o).
		Guard(guard("first guard"), guard("second guard")).
		Use(step("first use"), step("second use")).
		Use(step("third use")).
		Guard(guard("third guard")).
		TopicFunc(newHub(t), func(*ginsse.Context[ticketParams]) (string, error) {
			steps = append(steps, "topic")
			return "x", nil
		}))
	for target, want := range map[string]string{
		"/g/7": "engine, group, first use, second use, third use, first guard, second guard, third guard, topic, stream, /third use, /second use, /first use, /group, /engine",
		"/g/x": "engine, group, first use, second use, third use, /third use, /second use, /first use, /group, /engine",
	} {
		steps = nil
		get(r, target)
		if got := strings.Join(steps, ", "); got != want {
			t.Errorf("%s\n got %s\nwant %s", target, got, want)
		}
	}
}

// TestGuardStatuses holds that what a guard returns is a real status with a JSON body, of a feed
// and of a generator, and nothing of the stream is begun.
func TestGuardStatuses(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.1:5432: password " + canary)
	for name, test := range map[string]struct {
		err  error
		code int
		text string
	}{
		"unauthorized":              {ginsse.ErrUnauthorized, 401, "unauthorized"},
		"forbidden":                 {ginsse.ErrForbidden, 403, "forbidden"},
		"not found":                 {ginsse.ErrNotFound, 404, "not found"},
		"wrapped":                   {fmt.Errorf("store at 10.0.0.1: %w", ginsse.ErrNotFound), 404, "not found"},
		"status":                    {ginsse.Status(http.StatusTooManyRequests, errors.New("three streams are enough")), 429, "three streams are enough"},
		"status of the server":      {ginsse.Status(http.StatusServiceUnavailable, nil), 503, "Service Unavailable"},
		"least":                     {ginsse.Status(400, nil), 400, "Bad Request"},
		"most":                      {ginsse.Status(599, errors.New("x")), 599, "x"},
		"no status of an error":     {ginsse.Status(200, secret), 500, "internal server error"},
		"no status at all":          {ginsse.Status(0, nil), 500, "internal server error"},
		"a redirect":                {ginsse.Status(302, secret), 500, "internal server error"},
		"beyond":                    {ginsse.Status(600, secret), 500, "internal server error"},
		"any other":                 {secret, 500, "internal server error"},
		"context":                   {context.Canceled, 500, "internal server error"},
		"a parameter, found late":   {&ginsse.ParameterError{In: "path", Name: "ticket", Err: errors.New("is not of this year")}, 400, `path parameter "ticket": is not of this year`},
		"text with markup and ends": {ginsse.Status(403, errors.New("<b>\"\r\nx")), 403, "<b>\"\r\nx"},
	} {
		t.Run(name, func(t *testing.T) {
			for kind, route := range map[string]*ginsse.Route[none]{
				"feed":      ginsse.SSE[none]("/x").Topic(newHub(t), "x"),
				"generator": ginsse.SSE[none]("/x").Handle(func(*ginsse.Context[none]) seq { t.Error("the generator was started"); return events() }),
			} {
				o := quiet
				o.OnEnd = func(feed.End) { t.Error("a stream was begun") }
				route.Options(o).Guard(
					func(*ginsse.Context[none]) error { return nil },
					func(*ginsse.Context[none]) error { return test.err },
					func(*ginsse.Context[none]) error { t.Error("the next guard ran"); return nil })
				r := gin.New()
				var left []*gin.Error
				r.Use(func(c *gin.Context) {
					c.Next()
					left = c.Errors
					if !c.IsAborted() {
						t.Error("not aborted")
					}
				})
				mount(t, r, route)
				w := get(r, "/x", "Accept", "text/event-stream")
				if temporary := test.code == 429 || test.code == 503; temporary {
					// An EventSource would never come back from the status.
					if w.Code != 200 || !strings.HasPrefix(w.Body.String(), ": ok\nretry: ") {
						t.Errorf("%s: an EventSource: %d %q", kind, w.Code, w.Body)
					}
					if w = get(r, "/x"); w.Header().Get("Retry-After") == "" {
						t.Errorf("%s: no Retry-After", kind)
					}
				}
				isRefusal(t, w, test.code, test.text)
				if strings.Contains(w.Body.String(), "10.0.0.1") || strings.Contains(w.Body.String(), canary) {
					t.Errorf("%s: the body says too much: %s", kind, w.Body)
				}
				if len(left) != 1 || !errors.Is(left[0], test.err) {
					t.Errorf("%s: c.Errors: %v", kind, left)
				}
			}
		})
	}
}

// TestAnswered holds that whatever has answered by itself, correctly aborted or not, is not
// followed by a stream.
func TestAnswered(t *testing.T) {
	const body = `{"no":"entry"}`
	answer := func(c *gin.Context) { c.Data(http.StatusForbidden, "application/json", []byte(body)) }
	abort := func(c *gin.Context) { c.Abort(); answer(c) }
	asGuard := func(f gin.HandlerFunc) func(*ginsse.Context[none]) error {
		return func(c *ginsse.Context[none]) error {
			f(c.Gin())
			return nil
		}
	}
	started := func(*ginsse.Context[none]) seq {
		t.Error("the generator was started")
		return events(sse.Event{Data: "secret"})
	}
	generator := func() *ginsse.Route[none] { return ginsse.SSE[none]("/x").Options(quiet).Handle(started) }
	for name, route := range map[string]*ginsse.Route[none]{
		"guard aborts":                  generator().Guard(asGuard(abort)),
		"guard forgets to abort":        generator().Guard(asGuard(answer)),
		"guard answers and refuses too": generator().Guard(func(c *ginsse.Context[none]) error { answer(c.Gin()); return ginsse.ErrForbidden }),
		"middleware aborts":             generator().Use(abort),
		"middleware forgets to abort":   generator().Use(answer),
		"topic function answers": ginsse.SSE[none]("/x").Options(quiet).TopicFunc(newHub(t), func(c *ginsse.Context[none]) (string, error) {
			answer(c.Gin())
			return "x", nil
		}),
	} {
		t.Run(name, func(t *testing.T) {
			w := get(engine(t, route.Guard(func(*ginsse.Context[none]) error {
				if strings.HasPrefix(name, "topic") {
					return nil
				}
				t.Error("the next guard ran")
				return nil
			})), "/x")
			if w.Code != http.StatusForbidden || w.Body.String() != body {
				t.Errorf("%d %q", w.Code, w.Body)
			}
		})
	}
}

// TestGuardPanics holds that a panic before the stream is like any other handler's: gin.Recovery
// answers 500.
func TestGuardPanics(t *testing.T) {
	r := gin.New()
	r.Use(gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, v any) { c.String(http.StatusInternalServerError, "%v", v) }))
	mount(t, r, ginsse.SSE[none]("/x").Options(quiet).Guard(func(*ginsse.Context[none]) error { panic("boom") }).Topic(newHub(t), "x"))
	if w := get(r, "/x"); w.Code != http.StatusInternalServerError || w.Body.String() != "boom" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

type contextKey struct{}

// TestContext holds what guards, the topic function and the generator see of the request: values
// of middleware, parameters, the request with its context.
func TestContext(t *testing.T) {
	seen := make(map[string]string)
	look := func(where string, c *ginsse.Context[ticketParams]) {
		cursor, ok := c.LastEventID()
		seen[where] = fmt.Sprint(c.Gin().GetString("user"), " ", c.Params.Ticket, " ", c.Request().Header.Get("X-A"), " ", c.Context().Value(contextKey{}), " ", cursor, " ", ok)
	}
	use := func(c *gin.Context) {
		c.Set("user", "ann")
		c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), contextKey{}, "of middleware"))
	}
	guards := []func(*ginsse.Context[ticketParams]) error{
		func(c *ginsse.Context[ticketParams]) error {
			look("guard", c)
			c.Params.Ticket++
			g := c.Gin()
			g.Request = g.Request.WithContext(context.WithValue(g.Request.Context(), contextKey{}, "of a guard"))
			return nil
		},
		func(c *ginsse.Context[ticketParams]) error { look("second guard", c); return nil },
	}
	var topic string
	r := engine(t,
		ginsse.SSE[ticketParams]("/feed/:ticket").Options(lookOnly(&topic)).Use(use).Guard(guards...).
			TopicFunc(newHub(t), func(c *ginsse.Context[ticketParams]) (string, error) { look("topic", c); return "x", nil }),
		ginsse.SSE[ticketParams]("/generator/:ticket").Options(quiet).Use(use).Guard(guards...).
			Handle(func(c *ginsse.Context[ticketParams]) seq {
				look("handler", c)
				return func(func(sse.Event, error) bool) { look("generator", c) }
			}))
	get(r, "/feed/7", "X-A", "b", "Last-Event-ID", "9-0")
	get(r, "/generator/7", "X-A", "b", "Last-Event-ID", "9-0")
	for where, want := range map[string]string{
		"guard":        "ann 7 b of middleware 9-0 true",
		"second guard": "ann 8 b of a guard 9-0 true",
		"topic":        "ann 8 b of a guard 9-0 true",
		"handler":      "ann 8 b of a guard 9-0 true",
		"generator":    "ann 8 b of a guard 9-0 true",
	} {
		if seen[where] != want {
			t.Errorf("the %s sees %q, want %q", where, seen[where], want)
		}
	}
}

// TestExpireAt holds that a stream ends cleanly at the earliest of the times that guards and
// options state.
func TestExpireAt(t *testing.T) {
	for name, test := range map[string]struct {
		option time.Duration // 0: not set, as for guards
		guards []time.Duration
		want   time.Duration
		cause  error
	}{
		"guard":                    {0, []time.Duration{3 * time.Second}, 3 * time.Second, feed.ErrExpired},
		"earliest first":           {0, []time.Duration{3 * time.Second, 5 * time.Second}, 3 * time.Second, feed.ErrExpired},
		"earliest last":            {0, []time.Duration{5 * time.Second, 3 * time.Second}, 3 * time.Second, feed.ErrExpired},
		"option earlier":           {2 * time.Second, []time.Duration{3 * time.Second}, 2 * time.Second, feed.ErrExpired},
		"option later":             {4 * time.Second, []time.Duration{3 * time.Second}, 3 * time.Second, feed.ErrExpired},
		"option alone":             {4 * time.Second, nil, 4 * time.Second, feed.ErrExpired},
		"past":                     {0, []time.Duration{-time.Second}, 0, feed.ErrExpired},
		"never, rotated otherwise": {0, []time.Duration{0}, time.Minute, feed.ErrRotated},
	} {
		for _, kind := range []string{"feed", "generator"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					begin := time.Now()
					at := func(d time.Duration) time.Time {
						if d == 0 {
							return time.Time{}
						}
						return begin.Add(d)
					}
					var end feed.End
					var seen error
					o := quiet
					o.ExpireAt, o.MaxLifetime, o.OnEnd = at(test.option), time.Minute, func(e feed.End) { end = e }
					route := ginsse.SSE[none]("/x").Options(o)
					for _, d := range test.guards {
						route.Guard(func(c *ginsse.Context[none]) error { c.ExpireAt(at(d)); return nil })
					}
					if kind == "feed" {
						route.Topic(newHub(t), "x")
					} else {
						route.Handle(func(c *ginsse.Context[none]) seq {
							return func(func(sse.Event, error) bool) {
								<-c.Context().Done()
								seen = context.Cause(c.Context())
							}
						})
					}
					var left []*gin.Error
					r := gin.New()
					r.Use(func(c *gin.Context) { c.Next(); left = c.Errors })
					mount(t, r, route)
					w := get(r, "/x")
					took := time.Since(begin)
					if test.cause == feed.ErrRotated {
						if took < test.want*4/5 || took > test.want*6/5 {
							t.Errorf("it took %v, want about %v", took, test.want)
						}
					} else if took > test.want || took < test.want*19/20 {
						t.Errorf("it took %v, want %v", took, test.want)
					}
					if !errors.Is(end.Cause, test.cause) || len(left) > 0 || w.Code != http.StatusOK {
						t.Errorf("cause %v, c.Errors %v, status %d; want a clean end", end.Cause, left, w.Code)
					}
					if strings.Contains(w.Body.String(), "stream-error") {
						t.Errorf("the client was told of an error: %q", w.Body)
					}
					if kind == "generator" && test.want > 0 && !errors.Is(seen, test.cause) {
						t.Errorf("the generator saw the cause %v", seen)
					}
				})
			})
		}
	}
}

// TestUseOnOneRoute holds that a route's middleware is its own.
func TestUseOnOneRoute(t *testing.T) {
	var ran []string
	route := func(path string) *ginsse.Route[none] {
		return ginsse.SSE[none](path).Options(quiet).Use(func(*gin.Context) { ran = append(ran, path) }).
			Handle(func(*ginsse.Context[none]) seq { return events() })
	}
	r := engine(t, route("/a"), route("/b"))
	r.GET("/c", func(*gin.Context) {})
	get(r, "/a")
	get(r, "/b")
	get(r, "/c")
	if !slices.Equal(ran, []string{"/a", "/b"}) {
		t.Errorf("middleware ran for %q", ran)
	}
}
