package feed

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/headrace/headrace/sse/feed/internal/cursor"
	"github.com/headrace/headrace/sse/feed/internal/direct"
)

// serveDocument answers a request for the snapshot alone.
func serveDocument(q *request, f Feed) error {
	h := q.w.Header()
	setDocument(h)
	if q.r.Method == http.MethodHead {
		q.w.WriteHeader(http.StatusOK)
		return nil
	}
	ctx := q.r.Context()
	s, err := q.open(f, setOf(f), latest(f))
	if err != nil {
		return q.unavailable(err)
	}
	state, err := func() (any, error) {
		defer s.close() // before the answer is written, which may take as long as the client wants
		return load(ctx, q.o.SnapshotTimeout, "snapshot", f.Snapshot)
	}()
	if err == nil && ctx.Err() != nil {
		err = ctx.Err() // perhaps the right to the state was revoked
	}
	if err != nil {
		return q.unready(err)
	}
	body, err := encodeState(state)
	if err != nil {
		return q.unready(fmt.Errorf("snapshot: %w", err))
	}
	h.Set("Last-Event-ID", s.cursor())
	h.Set("Content-Length", strconv.Itoa(len(body)))
	return writeDocument(q.w, body, q.o.WriteTimeout)
}

// setDocument sets the headers of a document.
func setDocument(h http.Header) {
	h.Set("Content-Type", documentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

// setOf returns what the cursors of a feed are made with, nil for a feed of one topic.
func setOf(f Feed) *cursor.Set {
	if len(f.Topics) == 1 {
		return nil
	}
	return cursor.New(f.Topics)
}

func writeDocument(w http.ResponseWriter, body []byte, timeout time.Duration) error {
	rc := http.NewResponseController(w)
	for len(body) > 0 {
		piece := body[:min(len(body), direct.PieceBytes)]
		_ = rc.SetWriteDeadline(time.Now().Add(timeout)) // writers without deadlines are for tests
		if _, err := w.Write(piece); err != nil {
			return fmt.Errorf("%w: %w", ErrWriteFailed, err)
		}
		body = body[len(piece):]
	}
	// The deadline of what the server still holds stays.
	return nil
}

// encodeState returns a snapshot as a JSON document. Text that goes into a stream as it is goes
// into the document as it is too when it is JSON, and as a string otherwise.
func encodeState(state any) ([]byte, error) {
	switch text := state.(type) {
	case []byte:
		state = string(text)
	case string:
	default:
		return json.Marshal(state)
	}
	if text := state.(string); json.Valid([]byte(text)) {
		return []byte(text), nil
	}
	return json.Marshal(state)
}
