package feed

import (
	"log/slog"
	"time"

	"github.com/headrace/headrace/sse/feed/internal/session"
)

// report is what the end of a stream is told with.
type report struct {
	topics []string
	opened time.Time // the stream was
	why    string    // the connection was not taken over from the server; "" if it was
	logger *slog.Logger
	onEnd  func(End)
}

// ended tells the log, and OnEnd.
func (p *report) ended(r session.Result) {
	took := time.Since(p.opened)
	args := []any{"topics", p.topics, "cause", r.Cause, "events", r.Events, "bytes", r.Bytes, "duration", took}
	switch {
	case session.Clean(r.Cause):
		p.logger.Debug("headrace: stream closed", args...)
	case r.Aborted && r.AbortErr != nil:
		p.logger.Warn("headrace: stream failed, and the connection could not be aborted: the client takes it for a clean end", append(args, "err", r.AbortErr)...)
	case r.Aborted:
		p.logger.Warn("headrace: stream aborted", args...)
	default:
		p.logger.Debug("headrace: stream closed", args...)
	}
	if p.onEnd != nil {
		p.onEnd(End{Topics: p.topics, Cause: r.Cause, Events: r.Events, Bytes: r.Bytes, Direct: p.why == "", Why: p.why, Duration: took})
	}
}
