package feed

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// opaque and mute are writers that delegate by hand, with nothing but what streams need.
type opaque struct{ w http.ResponseWriter }

func (w opaque) Header() http.Header         { return w.w.Header() }
func (w opaque) WriteHeader(code int)        { w.w.WriteHeader(code) }
func (w opaque) Write(p []byte) (int, error) { return w.w.Write(p) }
func (w opaque) FlushError() error           { return http.NewResponseController(w.w).Flush() }

type mute struct{ w http.ResponseWriter }

func (w mute) Header() http.Header         { return w.w.Header() }
func (w mute) WriteHeader(code int)        { w.w.WriteHeader(code) }
func (w mute) Write(p []byte) (int, error) { return w.w.Write(p) }
func (w mute) Flush()                      { w.w.(http.Flusher).Flush() }

// TestServerTimeout: a stream that the server's WriteTimeout cuts off, because middleware hides
// deadlines, is not said to have been left by its client, and is warned of once.
func TestServerTimeout(t *testing.T) {
	for name, hide := range map[string]func(http.ResponseWriter) http.ResponseWriter{
		"tells of errors": func(w http.ResponseWriter) http.ResponseWriter { return &opaque{w} },
		"tells nothing":   func(w http.ResponseWriter) http.ResponseWriter { return &mute{w} },
	} {
		t.Run(name, func(t *testing.T) {
			warned.Clear()
			var log bytes.Buffer
			o := Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Heartbeat: 4 * time.Second}
			bothVersions(t, func(t *testing.T, http2 bool) {
				h := newHub(t, nil, hub.Options{})
				onEnd, end := ends()
				o.OnEnd = onEnd
				of := make(chan error, 1) // a generator's context
				errs := make(chan error, 1)
				client, stop := memServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/feed" {
						errs <- Serve(hide(w), r, Of(h, "t"), o)
						return
					}
					errs <- Generate(hide(w), r, func(ctx context.Context) iter.Seq2[sse.Event, error] {
						return func(func(sse.Event, error) bool) {
							<-ctx.Done()
							of <- context.Cause(ctx)
						}
					}, o)
				}), http2, func(s *http.Server) { s.WriteTimeout = 10 * time.Second })
				defer stop()
				for _, path := range []string{"/feed", "/generator"} {
					begin := time.Now()
					c := connect(t, client, "http://memory"+path, "")
					go func() { _, _ = io.Copy(io.Discard, c.r) }()
					e := <-end
					isCause(t, e.Cause, ErrServerTimeout)
					isCause(t, e.Cause, ErrWriteFailed)
					isCause(t, <-errs, ErrServerTimeout)
					if path == "/generator" {
						if cause := <-of; !errors.Is(cause, ErrWriteFailed) || errors.Is(cause, ErrClientGone) {
							t.Errorf("the generator's context ended with %v", cause)
						}
					}
					if took := time.Since(begin); took < 10*time.Second || took > 15*time.Second {
						t.Errorf("%s ended after %v", path, took)
					}
					c.leave()
				}

				c := connect(t, client, "http://memory/feed", "")
				go func() { _, _ = io.Copy(io.Discard, c.r) }()
				time.Sleep(5 * time.Second)
				c.leave()
				isCause(t, (<-end).Cause, ErrClientGone)
				isCause(t, <-errs, ErrClientGone)
			})
			if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "Unwrap") {
				t.Errorf("%d warnings: %s", n, &log)
			}
		})
	}
}

// TestNoServerTimeout: whoever has deadlines, or no WriteTimeout, is not warned of.
func TestNoServerTimeout(t *testing.T) {
	for name, tc := range map[string]struct {
		timeout time.Duration
		wrap    func(http.ResponseWriter) http.ResponseWriter
	}{
		"the server's":    {time.Second, func(w http.ResponseWriter) http.ResponseWriter { return w }},
		"a wrapped one":   {time.Second, func(w http.ResponseWriter) http.ResponseWriter { return wrapped{w} }},
		"without timeout": {0, func(w http.ResponseWriter) http.ResponseWriter { return &opaque{w} }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				warned.Clear()
				var log bytes.Buffer
				h := newHub(t, nil, hub.Options{})
				onEnd, end := ends()
				o := Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), OnEnd: onEnd}
				client, stop := memServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_ = Serve(tc.wrap(w), r, Of(h, "t"), o)
				}), false, func(s *http.Server) { s.WriteTimeout = tc.timeout })
				defer stop()
				c := connect(t, client, "http://memory/", "")
				go func() { _, _ = io.Copy(io.Discard, c.r) }()
				time.Sleep(20 * time.Second)
				c.leave()
				isCause(t, (<-end).Cause, ErrClientGone)
				if log.Len() > 0 {
					t.Errorf("the log says %s", &log)
				}
			})
		})
	}
}

// TestDeadlineBehindHiddenOne: a deadline of the request's context stays a rotation where the
// writer hides deadlines from the server.
func TestDeadlineBehindHiddenOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := errors.New("own")
		h := newHub(t, nil, hub.Options{})
		onEnd, end := ends()
		errs := make(chan error, 1)
		client, stop := memServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeoutCause(r.Context(), time.Second, own)
			defer cancel()
			errs <- Serve(&opaque{w}, r.WithContext(ctx), Of(h, "t"), Options{Logger: quiet(), OnEnd: onEnd})
		}), false, func(s *http.Server) { s.WriteTimeout = time.Minute })
		defer stop()
		c := connect(t, client, "http://memory/", "")
		if _, err := io.Copy(io.Discard, c.r); err != nil {
			t.Error(err)
		}
		isCause(t, (<-end).Cause, ErrRotated)
		isCause(t, <-errs, nil)
	})
}
