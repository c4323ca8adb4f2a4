package middleware

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/CAFxX/httpcompression"
	"github.com/NYTimes/gziphandler"
	chi "github.com/go-chi/chi/v5/middleware"
	"github.com/gorilla/handlers"
	"github.com/klauspost/compress/gzhttp"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// wrap is what middleware for net/http is.
type wrap = func(http.Handler) http.Handler

// must returns middleware, or panics: its options are constants.
func must[F ~func(http.Handler) H, H http.Handler](f F, err error) wrap {
	if err != nil {
		panic(err)
	}
	return func(next http.Handler) http.Handler { return f(next) }
}

// writer is middleware that puts a response writer before the handler, and has it do what is left
// to do behind it.
func writer(wrap func(http.ResponseWriter) (_ http.ResponseWriter, finish func())) wrap {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			wrapped, finish := wrap(w)
			defer finish()
			next.ServeHTTP(wrapped, r)
		})
	}
}

// both is middleware behind other middleware.
func both(outer, inner wrap) wrap {
	return func(next http.Handler) http.Handler { return outer(inner(next)) }
}

// wrappers are middleware through which a stream must be readable, with the encoding that it has.
var wrappers = []struct {
	name, encoding string
	wrap           wrap
}{
	{"gzhttp", "gzip", must(gzhttp.NewWrapper())},
	{"gzhttp from 10 kB", "gzip", must(gzhttp.NewWrapper(gzhttp.MinSize(10_000)))},
	{"gzhttp of JSON", "", must(gzhttp.NewWrapper(gzhttp.ContentTypes([]string{"application/json"})))},
	{"httpcompression", "identity", must(httpcompression.DefaultAdapter())},
	{"httpcompression from 10 kB", "identity", must(httpcompression.DefaultAdapter(httpcompression.MinSize(10_000)))},
	{"httpcompression of all", "gzip", must(httpcompression.DefaultAdapter(httpcompression.MinSize(0)))},
	{"gziphandler", "identity", gziphandler.GzipHandler},
	{"gziphandler from 10 kB", "identity", must(gziphandler.NewGzipLevelAndMinSize(gzip.BestSpeed, 10_000))},
	{"gziphandler of all", "gzip", must(gziphandler.NewGzipLevelAndMinSize(gzip.BestSpeed, 0))},
	{"chi", "", chi.Compress(5)},
	{"chi of event streams", "gzip", chi.Compress(5, "text/event-stream")},
	{"chi, logged", "gzip", both(logger, chi.Compress(5, "text/event-stream"))},
	{"chi behind a logger", "gzip", both(chi.Compress(5, "text/event-stream"), logger)},
	{"gorilla", "gzip", handlers.CompressHandler},
	{"gorilla, logged", "gzip", both(func(next http.Handler) http.Handler { return handlers.LoggingHandler(io.Discard, next) }, handlers.CompressHandler)},
	{"gziphandler behind a logger", "identity", both(gziphandler.GzipHandler, logger)},
	{"gziphandler before a counter", "identity", both(gziphandler.GzipHandler, counter)},
	{"two of them", "identity", both(gziphandler.GzipHandler, must(httpcompression.DefaultAdapter()))},
	{"decides at Write", "gzip", writer(func(w http.ResponseWriter) (http.ResponseWriter, func()) {
		z := &decidesAtWrite{ResponseWriter: w}
		return z, func() { _ = z.gz.Close() }
	})},
	{"decides at Flush", "gzip", writer(func(w http.ResponseWriter) (http.ResponseWriter, func()) {
		z := &decidesAtFlush{ResponseWriter: w}
		return z, func() { _ = z.FlushError(); _ = z.gz.Close() }
	})},
	{"counts", "", counter},
	{"has a Flush that does nothing", "", writer(func(w http.ResponseWriter) (http.ResponseWriter, func()) {
		return idle{w}, func() {}
	})},
}

// logger has a writer that counts, with Unwrap and Flush.
func logger(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(chi.NewWrapResponseWriter(w, r.ProtoMajor), r)
	})
}

// counter has a writer that counts, with Unwrap and without Flush.
var counter = writer(func(w http.ResponseWriter) (http.ResponseWriter, func()) {
	return &counts{ResponseWriter: w}, func() {}
})

type counts struct {
	http.ResponseWriter
	n int
}

func (w *counts) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *counts) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n += n
	return n, err
}

// decidesAtWrite compresses from its first Write on, and has a Flush for writers that do not.
type decidesAtWrite struct {
	http.ResponseWriter
	gz *gzip.Writer
}

func (w *decidesAtWrite) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *decidesAtWrite) WriteHeader(int)             {}
func (w *decidesAtWrite) Write(p []byte) (int, error) {
	if w.gz == nil {
		w.Header().Set("Content-Encoding", "gzip")
		w.gz = gzip.NewWriter(w.ResponseWriter)
	}
	return w.gz.Write(p)
}

func (w *decidesAtWrite) Flush() {
	if w.gz != nil {
		_ = w.gz.Flush()
	}
	w.ResponseWriter.(http.Flusher).Flush()
}

// decidesAtFlush holds what is written until it is flushed for the first time.
type decidesAtFlush struct {
	http.ResponseWriter
	held bytes.Buffer
	gz   *gzip.Writer
}

func (w *decidesAtFlush) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *decidesAtFlush) WriteHeader(int)             {}
func (w *decidesAtFlush) Write(p []byte) (int, error) { return w.held.Write(p) }
func (w *decidesAtFlush) FlushError() error {
	if w.gz == nil {
		w.Header().Set("Content-Encoding", "gzip")
		w.gz = gzip.NewWriter(w.ResponseWriter)
	}
	if _, err := w.held.WriteTo(w.gz); err != nil {
		return err
	}
	if err := w.gz.Flush(); err != nil {
		return err
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

type idle struct{ http.ResponseWriter }

func (idle) Flush() {}

// onBoth serves a handler over both versions of HTTP.
func onBoth(t *testing.T, handler http.Handler, test func(t *testing.T, s *httptest.Server, errors *lines)) {
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			var written lines
			s := httptest.NewUnstartedServer(handler)
			s.Config.ErrorLog = log.New(&written, "", 0)
			if place.http2 {
				s.EnableHTTP2 = true
				s.StartTLS()
			} else {
				s.Start()
			}
			t.Cleanup(s.Close)
			test(t, s, &written)
		})
	}
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// request asks for a stream as an EventSource does, with gzip, and torn says whether it may hold
// half an event.
func request(t *testing.T, s *httptest.Server, path string, torn bool) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "gzip")
	if torn {
		req.Header.Set("Cache-Control", "no-cache")
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// decode takes the encoding off that a response states.
func decode(t *testing.T, resp *http.Response) *sse.Decoder {
	t.Helper()
	if got := resp.Header.Get("Content-Encoding"); got != "gzip" {
		return sse.NewDecoder(resp.Body)
	}
	plain, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return sse.NewDecoder(plain)
}

// silent is quiet, and no heartbeat pushes anything out.
func silent(l *slog.Logger) feed.Options {
	return feed.Options{Logger: cmp.Or(l, quiet.Logger), Heartbeat: 2 * deadline}
}

// TestWrappers holds that the streams that the handler writes are readable behind middleware that
// compresses: the head comes before the first message, each message comes before the next is there,
// and the end is clean.
func TestWrappers(t *testing.T) {
	for _, w := range wrappers {
		for _, torn := range []bool{false, true} {
			name := w.name
			if torn {
				name += ", torn"
			}
			t.Run(name, func(t *testing.T) {
				h := newHub(t)
				mux := http.NewServeMux()
				mux.Handle("/feed/{topic}", w.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_ = feed.Serve(w, r, feed.Of(h, r.PathValue("topic")), silent(nil))
				})))
				send := make(chan string)
				mux.Handle("/events", w.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					stream, err := sse.Respond(w, r)
					for err == nil {
						text := <-send
						if text == "" {
							return
						}
						err = stream.Send(sse.Event{Data: text})
					}
					t.Error(err)
				})))
				onBoth(t, mux, func(t *testing.T, s *httptest.Server, errors *lines) {
					topic := strings.ReplaceAll(t.Name(), "/", "-")
					resp := request(t, s, "/feed/"+topic, torn)
					if got := resp.Header.Get("Content-Encoding"); resp.StatusCode != http.StatusOK || got != w.encoding {
						t.Errorf("status %d, Content-Encoding %q, want %q", resp.StatusCode, got, w.encoding)
					}
					d := decode(t, resp)
					if e, err := d.Decode(); err != nil || e.Type != "checkpoint" {
						t.Fatalf("%+v, %v", e, err)
					}
					for _, text := range []string{"a", strings.Repeat("b", 100_000), "c"} {
						id, err := h.Publish(t.Context(), topic, hub.Message{Data: []byte(text)})
						if err != nil {
							t.Fatal(err)
						}
						expect(t, d, "|"+string(id)+"|"+text)
					}
					if _, err := h.Finish(t.Context(), topic); err != nil {
						t.Fatal(err)
					}
					if e, err := d.Decode(); err != nil || e.Type != "close" {
						t.Fatalf("%+v, %v", e, err)
					}
					expectEnd(t, d)

					resp = request(t, s, "/events", torn) // comes back before anything is sent
					d = decode(t, resp)
					for _, text := range []string{"a", "b"} {
						send <- text
						if e, err := d.Decode(); err != nil || e.Text() != text {
							t.Fatalf("%+v, %v", e, err)
						}
					}
					send <- ""
					expectEnd(t, d)
					if got := errors.String(); got != "" {
						t.Errorf("the server's log: %s", got)
					}
				})
			})
		}
	}
}
