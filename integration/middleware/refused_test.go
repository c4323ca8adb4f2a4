package middleware

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// holds keeps what is written until the handler is done, and does not say so.
type holds struct {
	http.ResponseWriter
	held bytes.Buffer
	code int
}

func (w *holds) WriteHeader(code int)        { w.code = code }
func (w *holds) Write(p []byte) (int, error) { return w.held.Write(p) }
func (w *holds) finish() {
	w.ResponseWriter.WriteHeader(w.code)
	_, _ = w.held.WriteTo(w.ResponseWriter)
}

type holdsAndFlushes struct{ holds }

func (w *holdsAndFlushes) Flush() {}

type holdsAndUnwraps struct{ holds }

func (w *holdsAndUnwraps) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// compressesOnly has its head out before it is seen that nothing makes it flush.
type compressesOnly struct {
	http.ResponseWriter
	gz *gzip.Writer
}

func (w *compressesOnly) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *compressesOnly) WriteHeader(code int) {
	w.Header().Set("Content-Encoding", "gzip")
	w.ResponseWriter.WriteHeader(code)
	w.gz = gzip.NewWriter(w.ResponseWriter)
}
func (w *compressesOnly) Write(p []byte) (int, error) { return w.gz.Write(p) }

// TestRefused holds that behind middleware that cannot be flushed a stream is refused at once, to
// the client and in the log, and that what the middleware holds does not get behind the answer.
func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		wrap   wrap
		status int // 0: the connection breaks
	}{
		{"a Flush that does nothing", writer(func(w http.ResponseWriter) (http.ResponseWriter, func()) {
			z := &holdsAndFlushes{holds{ResponseWriter: w}}
			return z, z.finish
		}), http.StatusInternalServerError},
		{"no Flush", writer(func(w http.ResponseWriter) (http.ResponseWriter, func()) {
			z := &holds{ResponseWriter: w}
			return z, z.finish
		}), http.StatusInternalServerError},
		{"Unwrap and no Flush", writer(func(w http.ResponseWriter) (http.ResponseWriter, func()) {
			z := &holdsAndUnwraps{holds{ResponseWriter: w}}
			return z, z.finish
		}), http.StatusInternalServerError},
		{"behind a logger", both(logger, writer(func(w http.ResponseWriter) (http.ResponseWriter, func()) {
			z := &holdsAndFlushes{holds{ResponseWriter: w}}
			return z, z.finish
		})), http.StatusInternalServerError},
		{"compresses without Flush", writer(func(w http.ResponseWriter) (http.ResponseWriter, func()) {
			z := &compressesOnly{ResponseWriter: w}
			return z, func() { _ = z.gz.Close() }
		}), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHub(t)
			var said lines
			o := silent(slog.New(slog.NewTextHandler(&said, nil)))
			handlers := map[string]func(w http.ResponseWriter, r *http.Request) error{
				"/feed": func(w http.ResponseWriter, r *http.Request) error { return feed.Serve(w, r, feed.Of(h, "x"), o) },
				"/generator": func(w http.ResponseWriter, r *http.Request) error {
					return feed.Generate(w, r, func(context.Context) iter.Seq2[sse.Event, error] {
						t.Error("the generator was started")
						return func(func(sse.Event, error) bool) {}
					}, o)
				},
				"/respond": func(w http.ResponseWriter, r *http.Request) error {
					_, err := sse.Respond(w, r)
					return err
				},
			}
			mux := http.NewServeMux()
			answered := make(chan struct{}, 1) // the client may have its answer before the log has its line
			for path, handle := range handlers {
				mux.Handle(path, tc.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer func() { answered <- struct{}{} }()
					if err := handle(w, r); !errors.Is(err, sse.ErrNotFlushable) {
						t.Errorf("%s: %v", path, err)
					}
				})))
			}
			onBoth(t, mux, func(t *testing.T, s *httptest.Server, _ *lines) {
				for path := range handlers {
					if path == "/respond" && tc.name == "no Flush" {
						continue // nothing was written, and the answer is the caller's
					}
					said.reset()
					status, body, err := get(t, s, path)
					<-answered
					if tc.status == 0 && err == nil || tc.status != 0 && (err != nil || status != tc.status) {
						t.Errorf("%s: status %d, %v, want status %d", path, status, err, tc.status)
					}
					if err == nil && body != `{"error":"internal server error"}` {
						t.Errorf("%s: body %q", path, body)
					}
					if path != "/respond" && strings.Count(said.String(), "\n") != 1 || path != "/respond" && !strings.Contains(said.String(), "off this route") {
						t.Errorf("%s: the log says %q", path, said.String())
					}
				}
			})
		})
	}
}

// get returns an answer, or why there is no whole one.
func get(t *testing.T, s *httptest.Server, path string) (status int, body string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := s.Client().Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func (l *lines) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}
