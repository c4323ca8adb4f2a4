package middleware

import (
	"errors"
	"io"
	"iter"
	"net/http"
	"testing"
	"time"

	gingzip "github.com/gin-contrib/gzip"
	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// TestGzipGeneratorFails holds that an error, a bad event and a panic break the connection off
// behind compression too, and show nothing of themselves.
func TestGzipGeneratorFails(t *testing.T) {
	const canary = "s3cret"
	secret := errors.New(canary)
	for name, test := range map[string]struct {
		f     func(yield func(sse.Event, error) bool)
		cause error
		panic bool
	}{
		"error":          {func(yield func(sse.Event, error) bool) { yield(sse.Event{}, secret) }, secret, false},
		"error and data": {func(yield func(sse.Event, error) bool) { yield(sse.Event{Data: canary}, secret) }, secret, false},
		"line end in id": {func(yield func(sse.Event, error) bool) { yield(sse.Event{ID: "1\r" + canary, Data: "x"}, nil) }, sse.ErrInvalid, false},
		"no JSON":        {func(yield func(sse.Event, error) bool) { yield(sse.Event{Data: func() {}}, nil) }, feed.ErrFailed, false},
		"panic":          {func(func(sse.Event, error) bool) { panic(canary) }, nil, true},
		"abort":          {func(func(sse.Event, error) bool) { panic(http.ErrAbortHandler) }, nil, true},
	} {
		for _, place := range places {
			t.Run(name+"/"+place.name, func(t *testing.T) {
				ended := make(chan []*gin.Error, 1)
				recovered := make(chan any, 1)
				r := gin.New()
				r.Use(gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, v any) { recovered <- v; c.AbortWithStatus(http.StatusInternalServerError) }))
				r.Use(gingzip.Gzip(place.level))
				r.Use(func(c *gin.Context) {
					defer func() { ended <- c.Errors }()
					c.Next()
				})
				cleaned := false
				var end feed.End
				o := quiet
				o.OnEnd = func(e feed.End) { end = e }
				route := ginsse.SSE[struct{}]("/x").Options(o).Handle(func(*ginsse.Context[struct{}]) iter.Seq2[sse.Event, error] {
					return func(yield func(sse.Event, error) bool) {
						defer func() { cleaned = true }()
						if yield(sse.Event{Data: "first"}, nil) {
							test.f(yield)
						}
					}
				})
				if err := ginsse.Mount(r, route); err != nil {
					t.Fatal(err)
				}
				d := open(t, place.serve(t, r), "/x")
				expect(t, d, "||first")
				e, err := d.Decode()
				told := err == nil && e.Type == "stream-error" && e.ID == "" && e.Text() == "{}"
				if told {
					_, err = d.Decode()
				}
				if err == nil || err == io.EOF {
					t.Errorf("the stream ended with %v, like a clean one", err)
				}
				if !told {
					t.Error("the event stream-error did not come")
				}
				left := receive(t, ended)
				if !cleaned {
					t.Error("the deferred function has not run")
				}
				if test.panic {
					if !errors.Is(end.Cause, feed.ErrPanicked) {
						t.Errorf("cause %v", end.Cause)
					}
					// Gin's recovery keeps http.ErrAbortHandler to itself.
					if name == "panic" && receive(t, recovered) != canary {
						t.Error("the panic did not go on to gin.Recovery")
					}
				} else if len(left) != 1 || !errors.Is(left[0], test.cause) || !errors.Is(end.Cause, feed.ErrFailed) {
					t.Errorf("c.Errors %v, cause %v", left, end.Cause)
				}
			})
		}
	}
}

// receive waits for a value that must come.
func receive[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	timeout := time.NewTimer(deadline)
	defer timeout.Stop()
	select {
	case v = <-c:
	case <-timeout.C:
		t.Fatal("it did not come")
	}
	return v
}
