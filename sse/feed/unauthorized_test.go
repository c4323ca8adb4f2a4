package feed

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// TestUnauthorized: a 401 names the scheme that the error names, from wherever it comes, and no
// other status does.
func TestUnauthorized(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	secret := errors.New("secret")
	bearer := Unauthorized("Bearer", secret)
	isCause(t, bearer, secret)
	equal(t, "text", bearer.Error(), "feed: Unauthorized: secret")
	with := func(err error) func(f *Feed) {
		return func(f *Feed) {
			f.Hello = func(context.Context) (sse.Event, error) { return sse.Event{}, err }
		}
	}
	for name, tc := range map[string]struct {
		of     error
		change func(*Feed)
		code   int
		want   []string
	}{
		"named":              {bearer, nil, 401, []string{"Bearer"}},
		"with parameters":    {Unauthorized(`Basic realm="tickets, all"`, nil), nil, 401, []string{`Basic realm="tickets, all"`}},
		"line ends":          {Unauthorized("Bearer\r\nX-Forged: 1", nil), nil, 401, []string{"Bearer  X-Forged: 1"}},
		"of a Hello":         {nil, with(bearer), 401, []string{"Bearer"}},
		"not named":          {Status(401, nil), nil, 401, nil},
		"behind another one": {Status(403, bearer), nil, 403, nil},
	} {
		s := server(t, HandlerFunc(func(*http.Request) (Feed, error) {
			f := Of(h, "t")
			if tc.change != nil {
				tc.change(&f)
			}
			return f, tc.of
		}, Options{Logger: quiet()}))
		c := connect(t, s.Client(), s.URL, "")
		equal(t, name, c.StatusCode, tc.code)
		equal(t, name, strings.Join(c.Header.Values("WWW-Authenticate"), "|"), strings.Join(tc.want, "|"))
		equal(t, name, c.Header.Get("X-Forged"), "")
		equal(t, name, c.rest(t), `{"error":"`+strings.ToLower(http.StatusText(tc.code))+`"}`)
	}
}
