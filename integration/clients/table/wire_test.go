package table

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"regexp"

	"github.com/headrace/headrace/sse"
)

// connKey is the key of a request's connection in its context.
type connKey struct{}

// errCut ends a stream that was cut.
var errCut = errors.New("the connection was cut")

var longRetry = regexp.MustCompile(`^retry: \d{5,}\n$`)

// wire is the response writer below a feed. It does to the frames and to the connection what
// networks do.
type wire struct {
	http.ResponseWriter
	site  *site
	conn  net.Conn
	visit int
	over  bool
	begun bool
	deaf  bool // the network swallows what is written
}

// watch wraps the handler of the feed.
func (s *site) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions {
			next.ServeHTTP(w, r)
			return
		}
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
		cursor, _ := sse.LastEventID(r)
		below := &wire{ResponseWriter: w, site: s}
		below.conn, _ = r.Context().Value(connKey{}).(net.Conn)
		status := 0
		s.change(func() {
			if status = s.refuse; status != 0 && s.times > 0 {
				if s.times--; s.times == 0 {
					s.refuse = 0
				}
			}
			below.visit = len(s.visits)
			s.visits = append(s.visits, visit{cursor, status})
			if status == 0 {
				s.open[below] = true
			}
		})
		if status != 0 {
			http.Error(w, http.StatusText(status), status)
			return
		}
		defer s.change(func() { delete(s.open, below) })
		defer func() {
			if v := recover(); v != nil && (!below.over || !s.clean) {
				panic(v)
			}
		}()
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
	w.site.change(func() { w.site.visits[w.visit].status = status })
	w.ResponseWriter.WriteHeader(status)
}

// Write writes frames as they come from a feed.
func (w *wire) Write(p []byte) (int, error) {
	s := w.site
	for rest := p; len(rest) > 0; {
		if w.over {
			return 0, errCut
		}
		frame := first(rest)
		rest = rest[len(frame):]
		isMessage := bytes.Contains(frame, []byte("\ndata:")) || bytes.HasPrefix(frame, []byte("data:"))
		isMessage = isMessage && !bytes.HasPrefix(frame, []byte("event: c")) && !bytes.HasPrefix(frame, []byte("event: gap"))
		cut, clean := -1, false
		s.change(func() {
			clean = s.clean
			if isMessage && s.cutAt != nil {
				if cut = min(*s.cutAt, len(frame)); cut < 0 {
					cut += len(frame)
				}
				s.cutAt = nil
				s.held = make(chan struct{})
			}
			if w.deaf {
				frame = nil
			}
		})
		if cut >= 0 {
			frame = frame[:cut]
		}
		if s.setup.bare && bytes.HasPrefix(frame, []byte("!\n")) {
			continue
		}
		if s.setup.soon && longRetry.Match(frame) {
			frame = []byte("retry: 10\n")
		}
		if err := w.put(frame); err != nil {
			return 0, err
		}
		if cut >= 0 {
			w.over = true
			if !clean {
				_ = w.conn.Close()
			}
			return 0, errCut
		}
	}
	if !w.begun {
		w.begun = true
		s.change(func() { s.begun++ })
	}
	return len(p), nil
}

func (w *wire) put(frame []byte) error {
	size := max(len(frame), 1)
	if w.site.setup.bytely {
		size = 1
	}
	for len(frame) > 0 {
		n := min(size, len(frame))
		if _, err := w.ResponseWriter.Write(frame[:n]); err != nil {
			return err
		}
		if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
			return err
		}
		frame = frame[n:]
	}
	return nil
}

// first returns the first frame: a comment, a stated time, or an event with its blank line.
func first(p []byte) []byte {
	if bytes.HasPrefix(p, []byte(":")) || bytes.HasPrefix(p, []byte("retry: ")) {
		return p[:bytes.IndexByte(p, '\n')+1]
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
