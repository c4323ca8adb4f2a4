package ginsse_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
)

// TestKeys holds that what the group's middleware, the route's, and guards set is there for all
// that come later, load function and generator among them, with its type, and not for those
// before.
func TestKeys(t *testing.T) {
	user, role, number := ginsse.NewKey[string]("user"), ginsse.NewKey[[]string]("role"), ginsse.NewKey[int]("number")
	var steps []string
	see := func(where string, ctx context.Context) {
		u, isUser := user.Get(ctx)
		r, isRole := role.Get(ctx)
		n, isNumber := number.Get(ctx)
		steps = append(steps, fmt.Sprint(where, ": ", u, " ", isUser, ", ", r, " ", isRole, ", ", n, " ", isNumber))
	}
	model := ginsse.ModelOf(func(ctx context.Context, id int64) (*ticket, error) {
		see("load", ctx)
		return byID(ctx, id)
	})
	r := gin.New()
	r.Use(func(c *gin.Context) {
		see("engine", c)
		user.Set(c, "ann")
		c.Next()
		see("after", c)
	})
	mount(t, r, ginsse.SSE[refParams]("/:ticket").Options(quiet).Models(model).
		Guard(func(c *refContext) error {
			see("guard", c.Context())
			number.Set(c.Gin(), 1)
			return nil
		}, func(c *refContext) error {
			see("second guard", c.Context())
			number.Set(c.Gin(), 2)
			return nil
		}).
		Preload().
		Use(func(c *gin.Context) {
			see("use", c.Request.Context())
			role.Set(c, []string{"admin"})
		}, func(c *gin.Context) { see("second use", c) }).
		Handle(func(c *refContext) seq {
			see("generator", c.Context())
			return events()
		}))
	want := []string{
		"engine:  false, [] false, 0 false",
		"use: ann true, [] false, 0 false",
		"second use: ann true, [admin] true, 0 false",
		"guard: ann true, [admin] true, 0 false",
		"second guard: ann true, [admin] true, 1 true",
		"load: ann true, [admin] true, 2 true",
		"generator: ann true, [admin] true, 2 true",
		"after: ann true, [admin] true, 2 true",
	}
	for range 2 { // the second request, which may get the same Gin context, begins with nothing
		steps = nil
		get(r, "/7")
		if !slices.Equal(steps, want) {
			t.Errorf("\n got %q\nwant %q", steps, want)
		}
	}
}

// TestKeysDoNotCollide holds that keys of one name, of the same type or another, are slots of
// their own, and that strings and Gin's own keys are none of them.
func TestKeysDoNotCollide(t *testing.T) {
	first, second, other := ginsse.NewKey[string]("user"), ginsse.NewKey[string]("user"), ginsse.NewKey[int]("user")
	r := gin.New()
	r.GET("/", func(c *gin.Context) {
		c.Set("user", "of gin")
		c.Set(second, "of gin")
		first.Set(c, "first")
		other.Set(c, 3)
		if v, ok := second.Get(c); ok || v != "" {
			t.Errorf("the second key has %q", v)
		}
		second.Set(c, "second")
		a, isFirst := first.Get(c)
		b, isSecond := second.Get(c)
		n, isOther := other.Get(c)
		if a != "first" || b != "second" || n != 3 || !isFirst || !isSecond || !isOther || c.GetString("user") != "of gin" {
			t.Errorf("%q %q %d, of Gin %q", a, b, n, c.GetString("user"))
		}
	})
	get(r, "/")
}

// TestKeyNil holds that a nil that was set is a value, and what was not set is none.
func TestKeyNil(t *testing.T) {
	pointer, inter, never := ginsse.NewKey[*ticket]("pointer"), ginsse.NewKey[error]("interface"), ginsse.NewKey[error]("never")
	r := gin.New()
	r.GET("/", func(c *gin.Context) {
		pointer.Set(c, nil)
		inter.Set(c, nil)
		if v, ok := pointer.Get(c); !ok || v != nil {
			t.Errorf("pointer %v, %v", v, ok)
		}
		if v, ok := inter.Get(c); !ok || v != nil {
			t.Errorf("interface %v, %v", v, ok)
		}
		if v, ok := never.Get(c); ok || v != nil {
			t.Errorf("never set: %v, %v", v, ok)
		}
		inter.Set(c, errors.ErrUnsupported)
		if v, _ := inter.Get(c); v != errors.ErrUnsupported {
			t.Errorf("set again: %v", v)
		}
	})
	get(r, "/")
}

type foreignKey struct{}

// TestKeyContexts holds from which contexts a slot is read: the request's, Gin's, and those made
// from either, whatever the engine's settings; any other has none.
func TestKeyContexts(t *testing.T) {
	user := ginsse.NewKey[string]("user")
	for _, fallback := range []bool{false, true} {
		r := gin.New()
		r.ContextWithFallback = fallback
		served := false
		r.GET("/", func(c *gin.Context) {
			served = true
			before := c.Request.Context()
			user.Set(c, "ann")
			fromGin, cancel := context.WithTimeout(c, time.Hour)
			defer cancel()
			for name, ctx := range map[string]context.Context{
				"request":           c.Request.Context(),
				"from the request":  context.WithValue(c.Request.Context(), foreignKey{}, 1),
				"without its end":   context.WithoutCancel(c.Request.Context()),
				"Gin":               c,
				"from Gin":          fromGin,
				"a copy of Gin's":   c.Copy(),
				"both, the request": context.WithValue(context.WithoutCancel(c), foreignKey{}, 1),
			} {
				if v, ok := user.Get(ctx); !ok || v != "ann" {
					t.Errorf("%s: %q, %v", name, v, ok)
				}
			}
			for name, ctx := range map[string]context.Context{"before": before, "another": context.Background(), "Gin's without a request": &gin.Context{}} {
				if v, ok := user.Get(ctx); ok || v != "" {
					t.Errorf("%s: %q, %v", name, v, ok)
				}
			}
		})
		if w := get(r, "/"); w.Code != http.StatusOK || !served {
			t.Errorf("status %d", w.Code)
		}
	}
	if user.String() != "user" {
		t.Errorf("name %q", user)
	}
}
