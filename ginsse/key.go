package ginsse

import (
	"context"

	"github.com/gin-gonic/gin"
)

// Key is a typed slot of a request: middleware or a guard sets it, later guards, load functions
// and the handler get it. Two Keys with the same name are two slots. A
// Key is safe for concurrent use.
type Key[T any] struct{ name string }

// slot keeps a value of T apart from no value, also when T is an interface and the value nil.
type slot[T any] struct{ value T }

// NewKey returns a new Key. The name is for people, in logs. Keys are package variables:
//
//	var user = ginsse.NewKey[*User]("user")
func NewKey[T any](name string) *Key[T] { return &Key[T]{name} }

// Set sets the slot in a request, from here on; in a guard c is Context.Gin(). The latest value
// counts. The value is in the context of c.Request, which Set replaces: a context taken before
// does not have it. Do not call Set once the stream has begun.
func (k *Key[T]) Set(c *gin.Context, value T) {
	c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), k, slot[T]{value}))
}

// Get returns the slot's value, and whether it was set. ctx is the request's context or one made
// from it: Context.Context() in a guard or handler, ctx in a load function. A *gin.Context will
// do too, and one made from it.
func (k *Key[T]) Get(ctx context.Context) (value T, ok bool) {
	s, ok := ctx.Value(k).(slot[T])
	if !ok {
		// A Gin context looks into its request's only when the engine is told to.
		if g, isGin := ctx.Value(gin.ContextKey).(*gin.Context); isGin && g.Request != nil {
			s, ok = g.Request.Context().Value(k).(slot[T])
		}
	}
	return s.value, ok
}

// String returns the name.
func (k *Key[T]) String() string { return k.name }
