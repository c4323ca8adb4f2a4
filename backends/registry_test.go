package backends_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
)

// stub is a backend that only tells whether it was closed.
type stub struct {
	hub.Backend
	closed bool
}

func (s *stub) Close() error {
	s.closed = true
	return nil
}

func opener(b hub.Backend) backends.Opener {
	return func(_ context.Context, _ *url.URL, q *backends.Query) (hub.Backend, error) { return b, q.Err() }
}

func TestOpen(t *testing.T) {
	var r backends.Registry
	want := &stub{}
	var got *url.URL
	r.Register("x-test", func(_ context.Context, u *url.URL, q *backends.Query) (hub.Backend, error) {
		got = u
		return want, q.Err()
	})
	b, err := r.Open(t.Context(), "X-Test://user:pw@h1:1,h2:2/name")
	if err != nil || b != hub.Backend(want) {
		t.Fatalf("Open: %v, %v", b, err)
	}
	if pw, _ := got.User.Password(); got.Host != "h1:1,h2:2" || got.Path != "/name" || pw != "pw" {
		t.Errorf("the opener got %q, %q", got.Host, got.Path)
	}
}

func TestOpenErrors(t *testing.T) {
	var r backends.Registry
	r.Register("b", opener(&stub{}))
	r.Register("a", opener(&stub{}))
	for _, tc := range []struct {
		url  string
		is   error
		want string
	}{
		{"c://", backends.ErrScheme, `backends: unknown scheme "c" (registered: a, b)`},
		{"redis://h", backends.ErrScheme, `backends: unknown scheme "redis": it needs import _ "github.com/headrace/headrace/backends/redisstream"`},
		{"rediss://h", backends.ErrScheme, `backends/redisstream"`},
		{"redis+sentinel://h", backends.ErrScheme, `backends/redisstream"`},
		{"redis+cluster://h", backends.ErrScheme, `backends/redisstream"`},
		{"valkey://h", backends.ErrScheme, `backends/redisstream"`},
		{"miniredis://", backends.ErrScheme, `backends/redisstream/embedded"`},
		{"memory://", backends.ErrScheme, `backends/memory"`},
		{"", backends.ErrURL, "scheme and ://"},
		{"a:", backends.ErrURL, "scheme and ://"},
		{"user:pw@host", backends.ErrURL, "scheme and ://"},
		{"a://h#f", backends.ErrURL, "fragment"},
		{"a://h/x@y", backends.ErrURL, "must be escaped"},
		{"a://h:port/", backends.ErrURL, "cannot be read"},
		{"a://h/?x=%zz", backends.ErrURL, "query"},
		{"a://h/?x=1;y=2", backends.ErrURL, "query"},
		{"a://h/?x=1", backends.ErrParameter, "backends: invalid parameter: x is unknown (there are none)"},
	} {
		b, err := r.Open(t.Context(), tc.url)
		if b != nil || !errors.Is(err, tc.is) || !strings.Contains(fmt.Sprint(err), tc.want) {
			t.Errorf("Open(%q): %v, %v, want %q", tc.url, b, err, tc.want)
		}
	}
}

func TestOpenUnknownWhenEmpty(t *testing.T) {
	var r backends.Registry
	if _, err := r.Open(t.Context(), "x://"); !strings.Contains(fmt.Sprint(err), "registered: none") {
		t.Error(err)
	}
}

// An opener that does not look at its query lets no misspelt parameter pass, and does not leak
// what it opened.
func TestOpenChecksTheQueryItself(t *testing.T) {
	var r backends.Registry
	b := &stub{}
	r.Register("a", func(context.Context, *url.URL, *backends.Query) (hub.Backend, error) { return b, nil })
	if _, err := r.Open(t.Context(), "a://?x=1"); !errors.Is(err, backends.ErrParameter) || !b.closed {
		t.Errorf("%v, closed: %v", err, b.closed)
	}
}

func TestOpenPassesTheOpenersErrorOn(t *testing.T) {
	var r backends.Registry
	want := errors.New("refused")
	r.Register("a", func(context.Context, *url.URL, *backends.Query) (hub.Backend, error) { return nil, want })
	if _, err := r.Open(t.Context(), "a://"); err != want {
		t.Error(err)
	}
}

func TestRegisterPanics(t *testing.T) {
	var r backends.Registry
	r.Register("a", opener(nil))
	for _, tc := range []struct {
		scheme string
		open   backends.Opener
		want   string
	}{
		{"a", opener(nil), `scheme "a" is already registered`},
		{"", opener(nil), "malformed scheme"},
		{"A", opener(nil), "malformed scheme"},
		{"1a", opener(nil), "malformed scheme"},
		{"a://", opener(nil), "malformed scheme"},
		{"b", nil, "no opener"},
	} {
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.Contains(p, tc.want) {
					t.Errorf("Register(%q): panic %q, want %q", tc.scheme, p, tc.want)
				}
			}()
			r.Register(tc.scheme, tc.open)
		}()
	}
}

func TestSchemes(t *testing.T) {
	var r backends.Registry
	for _, s := range []string{"b", "c+d", "a"} {
		r.Register(s, opener(nil))
	}
	if got := r.Schemes(); !slices.Equal(got, []string{"a", "b", "c+d"}) {
		t.Error(got)
	}
}

// Whatever is wrong with a URL, no error shows the password, the user or a value.
func TestErrorsKeepSecrets(t *testing.T) {
	const secret = "canary"
	var r backends.Registry
	r.Register("known", func(_ context.Context, _ *url.URL, q *backends.Query) (hub.Backend, error) {
		q.String("password", "")
		q.String("master", "")
		q.Int("int", 0, 0)
		q.Bytes("bytes", 0, 0)
		q.Duration("duration", 0, 0)
		q.Bool("bool", false)
		q.Enum("enum", "", "x", "y")
		return nil, errors.Join(q.Err(), errors.New("opened"))
	})
	var urls []string
	for _, scheme := range []string{"known", "other", "redis", "1", "kn own", ""} {
		for _, user := range []string{"u:%s@", ":%s@", "%s@", "%s:pw@", "u:a/%s@", "u:a?%s@", "u:a?%s=1@", "u:a#%s@", "u:%s%%zz@", "u:%s\x7f@", "u:%s @", "u:a@%s@", "u:[%s@", "u:a:%s@"} {
			for _, rest := range []string{"host", "host:port", "host:99999999", "[::1", "host/0", "host/%zz", "ho st", "host?x=1", "host?x=1;y", "h1:1,h2:2/0", ""} {
				urls = append(urls, scheme+"://"+strings.Replace(user, "%s", secret, 1)+rest, scheme+":"+strings.Replace(user, "%s", secret, 1)+rest)
			}
		}
	}
	for _, query := range []string{
		"password=%s&password=%s", "int=%s", "bytes=%s", "duration=%s", "bool=%s", "enum=%s", "x=%s", "int=1&int=%s",
		"%s%%zz", "a;%s", "x=%%zz%s", "A%s=1", "%s!=1", "x=%s&%s@=1",
	} {
		urls = append(urls, "known://h?"+strings.ReplaceAll(query, "%s", secret))
	}
	for _, u := range urls {
		_, err := r.Open(t.Context(), u)
		if err == nil {
			t.Errorf("Open(%q): no error", u)
			continue
		}
		for _, s := range []string{fmt.Sprint(err), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", errors.Unwrap(err))} {
			if strings.Contains(s, secret) {
				t.Errorf("Open(%q): %s", u, s)
			}
		}
	}
}

func FuzzOpenKeepsSecrets(f *testing.F) {
	var r backends.Registry
	r.Register("a", func(_ context.Context, _ *url.URL, q *backends.Query) (hub.Backend, error) {
		q.Int("n", 0, 0)
		return nil, errors.Join(q.Err(), errors.New("opened"))
	})
	f.Add("a", "", "host/0?n=1")
	f.Add("a:p", "/w", "h1:1,h2:2")
	f.Fuzz(func(t *testing.T, before, after, rest string) {
		const secret = "canary"
		if strings.Contains(before, "://") {
			return
		}
		_, err := r.Open(t.Context(), "a://"+before+secret+after+"@"+rest)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Error(err)
		}
	})
}
