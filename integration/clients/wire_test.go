package clients

import (
	"bytes"
	"net"
	"net/http"
	"strings"

	"github.com/headrace/headrace/sse"
)

// connKey is the key of a request's connection in its context.
type connKey struct{}

// wire is the response writer below a feed. It sees the frames, and can do to them and to the
// connection what networks do.
type wire struct {
	http.ResponseWriter
	site   *site
	conn   net.Conn
	cursor string
}

// watch wraps the handler of the feed.
func (s *site) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		held := s.held
		s.mu.Unlock()
		if held != nil {
			select {
			case <-held:
			case <-r.Context().Done():
				return
			}
		}
		if s.asked != nil {
			s.asked(r)
		}
		cursor, _ := sse.LastEventID(r)
		status := 0
		s.change(func() {
			switch {
			case r.URL.Query().Get("token") != r.Header.Get("Authorization"):
				status = http.StatusUnauthorized
			case cursor != "":
				status, s.refuse = s.refuse, 0
			}
			if status != 0 {
				s.visits = append(s.visits, visit{cursor, status})
			}
		})
		if status != 0 {
			http.Error(w, http.StatusText(status), status)
			return
		}
		conn, _ := r.Context().Value(connKey{}).(net.Conn)
		below := &wire{ResponseWriter: w, site: s, conn: conn, cursor: cursor}
		s.change(func() { s.open[below] = true })
		defer s.change(func() { delete(s.open, below) })
		next.ServeHTTP(below, r)
	})
}

// Unwrap is for http.ResponseController.
func (w *wire) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush implements http.Flusher: a writer that changes what is written, and has none, is not
// trusted.
func (w *wire) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// WriteHeader notes the status.
func (w *wire) WriteHeader(status int) {
	w.site.change(func() { w.site.visits = append(w.site.visits, visit{w.cursor, status}) })
	w.ResponseWriter.WriteHeader(status)
}

// Write writes whole frames, as they come from a feed.
func (w *wire) Write(p []byte) (int, error) {
	rest := p
	for len(rest) > 0 {
		frame := first(rest)
		rest = rest[len(frame):]
		if string(frame) == sse.Heartbeat {
			w.site.change(func() { w.site.heartbeats++ })
		}
		if w.site.fault != nil {
			frame = w.site.fault(frame)
		}
		if keep, torn := w.torn(frame); torn {
			_, _ = w.ResponseWriter.Write(frame[:keep])
			_ = http.NewResponseController(w.ResponseWriter).Flush()
			// If the client says what it reads, it reads this: otherwise chance decides whether the
			// break comes first.
			_ = w.site.wait("it had read so far", func() bool {
				return w.site.read == "" || strings.HasSuffix(w.site.read, string(frame[:keep]))
			})
			_ = w.conn.Close()
			return len(p), nil
		}
		if _, err := w.ResponseWriter.Write(frame); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// torn reports whether the connection is to break in this frame, and after how many bytes. It keeps
// the client away then.
func (w *wire) torn(frame []byte) (keep int, torn bool) {
	s := w.site
	s.change(func() {
		if torn = s.tear != nil && bytes.Contains(frame, []byte("data: <li>")); torn {
			keep, s.tear = s.tear(frame), nil
			s.held = make(chan struct{})
		}
	})
	return keep, torn
}

// first returns the first frame: a heartbeat, the prelude, or an event with its blank line.
func first(p []byte) []byte {
	for _, prefix := range []string{sse.Heartbeat, ": ok\n", "retry: "} {
		if bytes.HasPrefix(p, []byte(prefix)) {
			return p[:bytes.IndexByte(p, '\n')+1]
		}
	}
	if i := bytes.Index(p, []byte("\n\n")); i >= 0 {
		return p[:i+2]
	}
	return p
}

// cut closes the connections of all streams and keeps clients away, until release.
func (s *site) cut() {
	s.hold()
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.open {
		_ = w.conn.Close()
	}
}
