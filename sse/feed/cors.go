package feed

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CORS lets pages of other origins read streams: with EventSource, also withCredentials, and with
// fetch. The zero value lets none.
//
// It does not authorise. Only browsers heed it, and after the fact: a request of an origin that
// is not listed still reaches the handler, cookies included, and the browser keeps the answer
// from the page. Authorise as if it were not there.
type CORS struct {
	// Origins are the origins that may read, each as browsers write it, such as
	// "https://app.example.com"; or "*" alone for every origin, which excludes Credentials.
	// Default none.
	Origins []string
	// Credentials says that the listed origins' requests may carry cookies, and HTTP
	// authentication, of this one.
	Credentials bool
	// Headers are further request headers that fetch may send, besides Last-Event-ID,
	// Authorization, Cache-Control, Content-Type and Accept.
	Headers []string
	// MaxAge is how long browsers may keep a preflight's answer, in whole seconds. Default 10
	// min, at most 24 h; what is longer counts as that.
	MaxAge time.Duration
}

// CORSError says which field of a CORS cannot be as it is. It does not hold the value.
type CORSError struct {
	Field  string // such as "Origins[1]"
	Reason string
}

// Error implements error.
func (e *CORSError) Error() string { return fmt.Sprintf("feed: CORS.%s %s", e.Field, e.Reason) }

// Check returns a *CORSError for each field and element that is wrong, joined, or nil. Call it
// when the program starts: a CORS that fails Check allows no origin anything.
func (c CORS) Check() error {
	var errs []error
	report := func(field, reason string) {
		if reason != "" {
			errs = append(errs, &CORSError{Field: field, Reason: reason})
		}
	}
	for i, origin := range c.Origins {
		field := fmt.Sprintf("Origins[%d]", i)
		switch {
		case origin != "*":
			report(field, faultOfOrigin(origin))
		case len(c.Origins) > 1:
			report(field, "is *, which must be the only one")
		case c.Credentials:
			report("Credentials", "cannot be where Origins is *: name the origins")
		}
	}
	for i, name := range c.Headers {
		field := fmt.Sprintf("Headers[%d]", i)
		switch {
		case name == "*":
			report(field, "is *: name the headers")
		case !isToken(name):
			report(field, "is no name of a header")
		}
	}
	return errors.Join(errs...)
}

// Handler returns a handler that does for each request what Apply does, and passes what is no
// preflight to next. It copies c. A pattern for it on an http.ServeMux must match OPTIONS, too,
// for fetch with a cursor; one that begins with GET does not.
func (c CORS) Handler(next http.Handler) http.Handler {
	p := c.policy()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.apply(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

// Apply sets the response headers that tell the browser whether the page that asks may read the
// answer. Call it before anything is written to w. If the request is a preflight, Apply answers
// it, with 204 whether the origin is listed or not, and returns true: there is nothing left to
// do.
//
// It decides alone: it replaces or deletes an Access-Control-Allow-Origin or -Credentials that
// others have set before. It adds to Vary, and Last-Event-ID, Retry-After and Heartbeat-Interval to
// Access-Control-Expose-Headers. A CORS that fails Check allows no origin anything. Apply is safe
// for concurrent use.
func (c CORS) Apply(w http.ResponseWriter, r *http.Request) (preflight bool) {
	return c.policy().apply(w, r)
}

const (
	defaultMaxAge = 10 * time.Minute
	longestMaxAge = 24 * time.Hour
)

// requestHeaders are those that clients of streams send.
const requestHeaders = "Last-Event-ID, Authorization, Cache-Control, Content-Type, Accept"

// corsPolicy is a CORS that has been checked, as requests need it.
type corsPolicy struct {
	origins     []string // none if the check failed
	every       bool
	credentials bool
	headers     string
	maxAge      string
}

func (c CORS) policy() corsPolicy {
	if c.Check() != nil {
		return corsPolicy{}
	}
	age := min(positive(c.MaxAge, defaultMaxAge), longestMaxAge)
	return corsPolicy{
		origins:     slices.Clone(c.Origins),
		every:       slices.Contains(c.Origins, "*"),
		credentials: c.Credentials,
		headers:     strings.Join(append([]string{requestHeaders}, c.Headers...), ", "),
		maxAge:      strconv.FormatInt(int64(age/time.Second), 10),
	}
}

func (p corsPolicy) apply(w http.ResponseWriter, r *http.Request) (preflight bool) {
	h := w.Header()
	preflight = r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
	// Also where there is none: a cache must not give that answer to a page.
	addToList(h, "Vary", "Origin")
	if preflight {
		addToList(h, "Vary", "Access-Control-Request-Method")
		addToList(h, "Vary", "Access-Control-Request-Headers")
	}
	h.Del("Access-Control-Allow-Origin")
	h.Del("Access-Control-Allow-Credentials")
	if allowed := p.allowed(r.Header.Values("Origin")); allowed != "" {
		h.Set("Access-Control-Allow-Origin", allowed)
		if p.credentials {
			h.Set("Access-Control-Allow-Credentials", "true")
		}
		if preflight {
			h.Set("Access-Control-Allow-Methods", "GET, HEAD")
			h.Set("Access-Control-Allow-Headers", p.headers)
			h.Set("Access-Control-Max-Age", p.maxAge)
		} else {
			for _, name := range []string{"Last-Event-ID", "Retry-After", "Heartbeat-Interval"} {
				addToList(h, "Access-Control-Expose-Headers", name)
			}
		}
	}
	if preflight {
		w.WriteHeader(http.StatusNoContent)
	}
	return preflight
}

// allowed returns the Access-Control-Allow-Origin for a request's headers Origin, or "". It never
// is the request's own string unless that is listed.
func (p corsPolicy) allowed(origins []string) string {
	switch {
	case len(origins) != 1 || origins[0] == "":
		return "" // browsers send one
	case p.every:
		return "*"
	case slices.Contains(p.origins, origins[0]):
		return origins[0]
	}
	return ""
}

// addToList adds an element to a header that is a list, unless the list has it, or "*".
func addToList(h http.Header, name, element string) {
	for _, line := range h.Values(name) {
		for e := range strings.SplitSeq(line, ",") {
			if e = strings.Trim(e, " \t"); e == "*" && name == "Vary" || strings.EqualFold(e, element) {
				return
			}
		}
	}
	h.Add(name, element)
}

// faultOfOrigin says what keeps a string from being an origin as browsers write it, or "". It is
// strict because origins are compared as strings: one written otherwise would never match, and
// nobody would know why.
func faultOfOrigin(origin string) string {
	scheme, authority, ok := strings.Cut(origin, "://")
	switch {
	case origin == "null":
		return "is null, which every sandboxed page is"
	case !ok:
		return "is not of the form scheme://host or scheme://host:port"
	case strings.ContainsAny(authority, "/?#"):
		return "has more than a scheme, a host and a port: a path, perhaps a slash at its end"
	case strings.Contains(authority, "@"):
		return "has user information"
	case origin != strings.ToLower(origin):
		return "has upper case, which browsers do not write"
	case !isScheme(scheme):
		return "has a malformed scheme"
	}
	host, port, hasPort := authority, "", false
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		host, port, hasPort = authority[:i], authority[i+1:], true
	}
	switch {
	case host == "":
		return "has no host"
	case !isHost(host):
		return "has a host that browsers do not write like this: names are in ASCII and without wildcards, addresses in their canonical form"
	case hasPort && !isPort(port):
		return "has a malformed port"
	case scheme == "https" && port == "443", scheme == "http" && port == "80":
		return "names the scheme's default port, which browsers leave out"
	}
	return ""
}

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
)

func isScheme(s string) bool {
	return s != "" && 'a' <= s[0] && s[0] <= 'z' && consistsOf(s, lower+digits+"+-.")
}

func isHost(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		// Browsers write the last half of an IPv4-mapped address otherwise than netip, and can
		// well be given the IPv4 address.
		return ok && err == nil && addr.Is6() && !addr.Is4In6() && addr.Zone() == "" && addr.String() == inner
	}
	labels := strings.Split(strings.TrimSuffix(s, "."), ".")
	for _, label := range labels {
		if label == "" || !consistsOf(label, lower+digits+"-_") {
			return false
		}
	}
	if !isNumber(labels[len(labels)-1]) {
		return true
	}
	addr, err := netip.ParseAddr(s) // what ends in a number is an IPv4 address to browsers
	return err == nil && addr.String() == s
}

// isNumber reports whether browsers take a label for a number, octal and hexadecimal ones included.
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return consistsOf(hex, digits+"abcdef")
	}
	return consistsOf(label, digits)
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && s == strconv.FormatUint(n, 10)
}

// isToken reports whether a string is a token of HTTP.
func isToken(s string) bool {
	return s != "" && consistsOf(s, lower+upper+digits+"!#$%&'*+-.^_`|~")
}

func consistsOf(s, characters string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return !strings.ContainsRune(characters, c) }) < 0
}
