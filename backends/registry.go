// Package backends opens backends by URL, so that one configuration value chooses where messages
// live:
//
//	b, err := backends.Open(ctx, "memory://?messages=5000&age=1h")
//
// A backend's package registers its schemes when it is imported; package backends/all imports
// those that belong to headrace.
//
// No error of this package contains a user name, a password, the URL or the value of a parameter.
package backends

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/headrace/headrace/hub"
)

// Errors of Open, found with errors.Is.
var (
	// ErrURL means that the URL is malformed, or has a part that its scheme has no use for.
	ErrURL = errors.New("backends: malformed URL")
	// ErrScheme means that no backend is registered for the scheme.
	ErrScheme = errors.New("backends: unknown scheme")
	// ErrParameter means that a query parameter is unknown, repeated or malformed.
	ErrParameter = errors.New("backends: invalid parameter")
)

// Opener opens the backend that a URL describes. It takes the query's parameters from q and not
// from u, and returns q.Err() before it connects to anything. Its errors must not contain the
// URL: it may hold a password.
type Opener func(ctx context.Context, u *url.URL, q *Query) (hub.Backend, error)

// Registry maps schemes to openers. The zero Registry is empty and ready for use. All methods may
// be called concurrently.
type Registry struct {
	mu      sync.RWMutex
	openers map[string]Opener
}

var global Registry

// Register adds an opener for a scheme to the registry that Open uses. It is meant to be called
// while packages are initialized, and panics when the scheme is malformed or already registered,
// or when open is nil.
func Register(scheme string, open Opener) { global.Register(scheme, open) }

// Open opens the backend that a URL describes. ctx bounds the opening only. The error is ErrURL,
// ErrScheme, ErrParameter, or the backend's own.
func Open(ctx context.Context, rawURL string) (hub.Backend, error) { return global.Open(ctx, rawURL) }

// Schemes returns the registered schemes, sorted.
func Schemes() []string { return global.Schemes() }

// Register adds an opener for a scheme. It panics like the function of that name.
func (r *Registry) Register(scheme string, open Opener) {
	if !validScheme(scheme) {
		panic(fmt.Sprintf("backends: Register: malformed scheme %q", scheme))
	}
	if open == nil {
		panic(fmt.Sprintf("backends: Register: no opener for scheme %q", scheme))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.openers[scheme]; ok {
		panic(fmt.Sprintf("backends: Register: scheme %q is already registered", scheme))
	}
	if r.openers == nil {
		r.openers = make(map[string]Opener)
	}
	r.openers[scheme] = open
}

// Schemes returns the registered schemes, sorted.
func (r *Registry) Schemes() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	schemes := make([]string, 0, len(r.openers))
	for s := range r.openers {
		schemes = append(schemes, s)
	}
	slices.Sort(schemes)
	return schemes
}

// Open opens the backend that a URL describes, like the function of that name.
func (r *Registry) Open(ctx context.Context, rawURL string) (hub.Backend, error) {
	u, q, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	open := r.openers[u.Scheme]
	r.mu.RUnlock()
	if open == nil {
		return nil, r.unknown(u.Scheme)
	}
	b, err := open(ctx, u, q)
	if err != nil {
		return nil, err
	}
	// An opener that forgets to ask must not make a misspelt parameter pass.
	if err := q.Err(); err != nil {
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

func (r *Registry) unknown(scheme string) error {
	if path, ok := firstParty[scheme]; ok {
		return fmt.Errorf(`%w %q: it needs import _ %q`, ErrScheme, scheme, path)
	}
	known := "none"
	if s := r.Schemes(); len(s) > 0 {
		known = strings.Join(s, ", ")
	}
	return fmt.Errorf("%w %q (registered: %s)", ErrScheme, scheme, known)
}

const module = "github.com/headrace/headrace/backends/"

// firstParty names the package to import for each scheme of headrace's own backends.
var firstParty = map[string]string{
	"memory":          module + "memory",
	"redis":           module + "redisstream",
	"rediss":          module + "redisstream",
	"redis+sentinel":  module + "redisstream",
	"rediss+sentinel": module + "redisstream",
	"redis+cluster":   module + "redisstream",
	"rediss+cluster":  module + "redisstream",
	"valkey":          module + "redisstream",
	"valkeys":         module + "redisstream",
	"unix":            module + "redisstream",
	"miniredis":       module + "redisstream/embedded",
}

// parse splits a URL and its query. The errors of package url quote what they did not like, so
// none of them is passed on.
func parse(rawURL string) (*url.URL, *Query, error) {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	scheme = strings.ToLower(scheme)
	if !ok || !validScheme(scheme) {
		return nil, nil, fmt.Errorf("%w: it must begin with a scheme and ://", ErrURL)
	}
	// The usual mistake is a password with one of / ? # in it. What is left of it would be taken
	// for a path, a parameter or a fragment, and end up in messages that show those.
	if i := strings.IndexAny(rest, "/?#"); i >= 0 && strings.Contains(rest[i:], "@") {
		return nil, nil, fmt.Errorf("%w: there is an @ after the host: within a user name or password / ? # must be escaped, elsewhere the @", ErrURL)
	}
	if strings.Contains(rest, "#") {
		return nil, nil, fmt.Errorf("%w: it must not have a fragment; # is written %%23", ErrURL)
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: user, host, port or path cannot be read", ErrURL)
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the query cannot be read", ErrURL)
	}
	return u, &Query{values: values, asked: make(map[string]bool)}, nil
}

// validScheme reports whether s is a scheme as in RFC 3986, in lower case.
func validScheme(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z':
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return s != ""
}
