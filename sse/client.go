package sse

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ErrContentType means that a server answered 200 with something else than an
// event stream.
var ErrContentType = errors.New("sse: the response is not text/event-stream")

// ErrIdle is the reason of a reconnection after [Client.IdleTimeout].
var ErrIdle = errors.New("sse: no bytes within the idle timeout")

// A StatusError is an answer other than 200.
type StatusError struct {
	Code int // the HTTP status
	// RetryAfter is what the header of that name asks for; 0 when it is absent.
	RetryAfter time.Duration
}

// Error names the status.
func (e *StatusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("sse: status %d %s", e.Code, http.StatusText(e.Code)))
}

// finalStatus is what decides where [Client.FinalStatus] is not set: the same request may succeed
// later after those that it excepts.
func finalStatus(code int) bool {
	switch code {
	case http.StatusTooManyRequests, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	}
	return true
}

// A Client follows a stream over reconnections. Its fields are its
// configuration: it never writes to them, so one Client may be used by several
// goroutines as long as nobody else does.
type Client struct {
	// URL is where the stream is. It is requested with GET, unless NewRequest is
	// set.
	URL string

	// Header is added to the requests for URL.
	Header http.Header

	// NewRequest makes the request of each connection, for what URL and Header
	// cannot say, such as a token that changes. Its error ends the stream. The
	// client adds Accept, Cache-Control and Last-Event-ID to what it returns.
	NewRequest func(ctx context.Context) (*http.Request, error)

	// HTTPClient does the requests; nil means [http.DefaultClient]. Its Timeout is
	// not used, because it would cut every stream.
	HTTPClient *http.Client

	// LastEventID is what the first connection states; empty states nothing.
	LastEventID string

	// Cursor, if set, keeps the last event ID over restarts of the process. A stream
	// with an empty LastEventID begins with what is loaded. An ID is saved when the
	// events up to it have been handled, that is, when the loop's body has come to
	// its end: then before the client waits for more, and when the stream or the
	// connection ends. So a process that dies gets again what it has handled since,
	// and so does one that leaves the loop get the event that it left at, unless it
	// ranges on. An error of the store ends the stream.
	Cursor CursorStore

	// MinBackoff is the wait before a reconnection while the server has not
	// stated one, and the least wait after a failure; 0 means 1 second.
	MinBackoff time.Duration

	// MaxBackoff bounds the wait after repeated failures, which doubles from one
	// to the next; 0 means 30 seconds. A connection that was open for so long ends
	// a row of failures. A longer wait that the server asks for is kept, up to one
	// hour. Jitter comes on top. [Stream.All] says what a failure is.
	MaxBackoff time.Duration

	// NoJitter makes waits exact. By default each is longer by a random part of up
	// to its half, so that clients of a server that went away do not come back all
	// at once.
	NoJitter bool

	// IdleTimeout ends a connection on which no byte, heartbeats and the response
	// header included, has arrived for so long, and reconnects. It finds dead
	// connections that report no error. 0 means three of the heartbeats that the
	// response states in its header Heartbeat-Interval, in seconds, as those of
	// package feed do, and at least 1 second; where none are stated, and until the
	// response is there, there is no timeout then. One of hours is as good as none.
	IdleTimeout time.Duration

	// MaxEventSize is that of [Decoder]: 0 means [DefaultMaxEventSize], and
	// [math.MaxInt] no bound.
	MaxEventSize int

	// FinalStatus reports whether an answer ends the stream. It is asked about each
	// status but 200. After one that is not final, 204 included, the client waits
	// and connects again. Nil means that all are final but 429, 502, 503 and 504.
	// It runs on the goroutine that ranges over the stream.
	FinalStatus func(code int) bool

	// The hooks run on the goroutine that ranges over the stream, in the order of
	// what they tell of. Nil ones are left out.

	// OnOpen is called for each connection, with the header of the response, when
	// it is known to be a stream.
	OnOpen func(header http.Header)

	// OnComment is called for each comment, heartbeats included, with its text
	// behind the colon and one space.
	OnComment func(text string)

	// OnRetry is called for each reconnection time that the server states, as it
	// states it.
	OnRetry func(wait time.Duration)

	// OnReconnect is called before each wait with the reason, nil for a clean end
	// of the stream or after [Stream.Restart], and the wait.
	OnReconnect func(reason error, wait time.Duration)
}

// Events is the sequence of [Stream.All] of a new stream.
func (c *Client) Events(ctx context.Context) iter.Seq2[Event, error] {
	return c.Stream(ctx).All()
}

// Stream prepares a stream that ends with ctx. It copies the configuration and
// does not connect: [Stream.All] does.
func (c *Client) Stream(ctx context.Context) *Stream {
	s := &Stream{ctx: ctx, client: *c}
	s.client.Header = c.Header.Clone()
	hc := http.DefaultClient
	if c.HTTPClient != nil {
		hc = c.HTTPClient
	}
	own := *hc
	own.Timeout = 0
	s.client.HTTPClient = &own
	if c.MinBackoff <= 0 {
		s.client.MinBackoff = time.Second
	}
	if c.MaxBackoff <= 0 {
		s.client.MaxBackoff = 30 * time.Second
	}
	if c.FinalStatus == nil {
		s.client.FinalStatus = finalStatus
	}
	s.backoff = backoff{least: s.client.MinBackoff, most: s.client.MaxBackoff, exact: c.NoJitter}
	s.lastID.Store(&s.client.LastEventID)
	s.stated, s.handled = s.client.LastEventID, s.client.LastEventID
	s.keeper.store = c.Cursor
	return s
}

// request makes the request of one connection.
func (c *Client) request(ctx context.Context, lastID string) (*http.Request, error) {
	req, err := c.newRequest(ctx)
	if err != nil {
		return nil, err
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "text/event-stream")
	}
	if req.Header.Get("Cache-Control") == "" {
		// As browsers do: a cache must not answer with a stream of before.
		req.Header.Set("Cache-Control", "no-cache")
	}
	if lastID != "" {
		// The one that the client was given: leaving it out would lose the
		// position without a word.
		if !portable(lastID) {
			return nil, errors.New("sse: the client's LastEventID has control characters or is too long, and cannot be sent")
		}
		req.Header.Set("Last-Event-ID", lastID)
	}
	return req, nil
}

// maxStated is the length of the longest last event ID that is stated: servers and proxies refuse
// requests with longer lines, and such a refusal would be final.
const maxStated = 8000

// portable reports whether a header can carry an ID.
func portable(id string) bool {
	return len(id) <= maxStated && !strings.ContainsFunc(id, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F })
}

func (c *Client) newRequest(ctx context.Context) (*http.Request, error) {
	if c.NewRequest != nil {
		req, err := c.NewRequest(ctx)
		if err != nil {
			return nil, fmt.Errorf("sse: new request: %w", err)
		}
		// The connection must end with ctx, whatever the request was made with,
		// and the caller's request is not ours to change.
		return req.Clone(ctx), nil
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme == "" || u.Host == "" {
		// The error of url.Parse repeats the URL, which may hold a token.
		return nil, errors.New("sse: the client's URL is not an absolute URL")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("sse: new request: %w", err)
	}
	for name, values := range c.Header {
		req.Header[name] = append([]string(nil), values...)
	}
	return req, nil
}

// refused says how a connection ends that is answered by a status other than 200.
func (c *Client) refused(resp *http.Response) ending {
	final := c.FinalStatus(resp.StatusCode)
	if final && resp.StatusCode == http.StatusNoContent {
		return ending{over: true}
	}
	return ending{final: final, err: &StatusError{
		Code:       resp.StatusCode,
		RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}}
}

// isStream reports whether an answer is an event stream.
func isStream(resp *http.Response) bool {
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(media), "text/event-stream")
}

// patience is how many heartbeats may fail to come before a connection counts as dead.
const patience = 3

// idle returns the timeout of a connection, 0 for none.
func (c *Client) idle(h http.Header) time.Duration {
	if c.IdleTimeout > 0 {
		return c.IdleTimeout
	}
	if interval := heartbeat(h); interval > 0 {
		// A network may hold up what is sent every few milliseconds for longer than three of these.
		return max(patience*interval, time.Second)
	}
	return 0
}

// heartbeat returns the interval of heartbeats that a response states, 0 for none. One of more
// than a day tells nothing.
func heartbeat(h http.Header) time.Duration {
	const most = 24 * time.Hour
	seconds, err := strconv.ParseFloat(strings.TrimSpace(h.Get("Heartbeat-Interval")), 64)
	if err != nil || !(seconds > 0 && seconds <= most.Seconds()) {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}

// retryAfter reads the header's two forms, seconds and a date.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}
