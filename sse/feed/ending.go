package feed

// Ending is how streams end that their clients are to come back to: cleanly, as a response does
// that is complete, or by breaking the connection off.
//
// Some clients take a clean end for the end of everything, and are gone without a word: Datastar
// RC.5, r3labs/sse, sse.js, and fetch-event-source without the recipe of docs/clients.md. All of
// them come back after a connection over plain HTTP/1.1 that broke, and so does an EventSource. No
// message is lost: what was written last arrives, or comes again behind the client's cursor.
//
// What a broken connection costs: browsers and proxies note an error for each, and curl exits with
// 18. Over TLS of this server's own the client sees a record that cannot be verified, and over HTTP/2
// a stream that was reset by an internal error; what each browser's EventSource makes of those is
// not known. Caddy, and HAProxy over HTTP/2, make a clean end of it.
//
// A feed that is finished, and a generator that returns, end cleanly in any case. So does a stream
// whose response writer cannot break a connection off.
type Ending uint8

const (
	// CleanEnds has all of them end cleanly. It is the default: an EventSource, which most clients
	// are, comes back from a clean end whatever is between, and its user has no way to mend it if
	// it does not come back from another one. Who takes up another client can set another Ending.
	CleanEnds Ending = iota
	// BreakRotations breaks the connection off where nothing but time is over: at
	// Options.MaxLifetime, and at a deadline of the request's context. The other ends state another
	// reconnection time, which a connection that breaks may lose: they are clean.
	BreakRotations
	// BreakEnds breaks the connection off at an expiry, a revocation, a drain and a shutdown, too.
	// It is for clients that would otherwise not survive that a server is replaced.
	BreakEnds
)
