package memory

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
)

func init() { backends.Register("memory", Open) }

// Open is the backends.Opener of memory://. Each call returns a new, empty backend. The URL has
// neither user, host nor path; the query parameters are those of Options:
//
//	messages=5000   MaxMessages
//	bytes=4MiB      MaxBytes
//	age=1h          MaxAge
//	forever=true    KeepForever
//	keys=10m        KeyWindow
//	total=1GiB      MaxTotalBytes
//	retain=a/:9::1h Retention; see backends.ParseRetention. It may be repeated.
func Open(_ context.Context, u *url.URL, q *backends.Query) (hub.Backend, error) {
	if u.User != nil || u.Host != "" || u.Path != "" || u.Opaque != "" {
		return nil, fmt.Errorf("%w: memory:// has neither user, host nor path", backends.ErrURL)
	}
	o, err := options(q)
	if err != nil {
		return nil, err
	}
	return New(o), nil
}

func options(q *backends.Query) (Options, error) {
	o := Options{
		MaxMessages:   q.Int("messages", 0, 1),
		MaxBytes:      q.Bytes("bytes", 0, 1),
		MaxAge:        q.Duration("age", 0, 1),
		KeepForever:   q.Bool("forever", false),
		KeyWindow:     q.Duration("keys", 0, 1),
		MaxTotalBytes: q.Bytes("total", 0, 1),
	}
	var err error
	o.Retention, err = backends.ParseRetention(q.Strings("retain"))
	return o, errors.Join(q.Err(), err)
}
