package ginsse

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/sse/feed"
)

// silence keeps middleware from writing behind an answer: what it wrote would be part of the
// stream, or a line in the server's log for each client. Where the connection was taken over from
// the server, net/http even panics at a flush.
func silence(g *gin.Context) {
	switch {
	case !g.Writer.Written():
	case feed.TakenOver(g.Writer):
		g.Writer = silent{g.Writer, http.ErrHijacked}
	default:
		g.Writer = silent{g.Writer, errAnswered}
	}
}

var errAnswered = errors.New("ginsse: the response is over")

// silent tells what was written, and drops the rest.
type silent struct {
	gin.ResponseWriter
	err error
}

// Unwrap is for http.ResponseController.
func (w silent) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write implements io.Writer.
func (w silent) Write([]byte) (int, error) { return 0, w.err }

// WriteString implements io.StringWriter.
func (w silent) WriteString(string) (int, error) { return 0, w.err }

// WriteHeader implements http.ResponseWriter.
func (silent) WriteHeader(int) {}

// WriteHeaderNow implements gin.ResponseWriter.
func (silent) WriteHeaderNow() {}

// Flush implements http.Flusher.
func (silent) Flush() {}
