package nats

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/backends"
)

func TestURLErrors(t *testing.T) {
	for query, want := range map[string]error{
		"nats://u:secret@127.0.0.1:1?group=web":        backends.ErrParameter, // no consumer group that instances could share
		"nats://u:secret@127.0.0.1:1?durable=x":        backends.ErrParameter,
		"nats://u:secret@127.0.0.1:1?storage=tape":     backends.ErrParameter,
		"nats://u:secret@127.0.0.1:1?retention=1":      backends.ErrParameter,
		"nats://u:secret@127.0.0.1:1?probe_every=1ms":  backends.ErrParameter,
		"nats://u:secret@127.0.0.1:1?prefix=":          backends.ErrParameter,
		"nats://u:secret@127.0.0.1:1?prefix=a.":        backends.ErrParameter,
		"nats://u:secret@127.0.0.1:1?prefix=$JS":       backends.ErrParameter,
		"nats://u:secret@127.0.0.1:1?stream=a.b":       backends.ErrParameter,
		"nats://u:secret@127.0.0.1:1/topic":            backends.ErrURL,
		"nats://u:secret@127.0.0.1:1,:4222":            backends.ErrURL,
		"nats://u:secret@127.0.0.1:1,127.0.0.1:1?tls=": backends.ErrParameter,
	} {
		b, err := backends.Open(t.Context(), query)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", query, err, want)
		}
		if b != nil {
			t.Errorf("%s: a backend beside an error", query)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the password is in the error: %v", query, err)
		}
	}
}

func TestNoServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := backends.Open(ctx, "nats://u:secret@127.0.0.1:1")
	if err == nil || ctx.Err() != nil {
		t.Fatalf("%v", err)
	}
	if strings.Contains(err.Error(), "secret") || !strings.HasPrefix(err.Error(), "nats: ") {
		t.Errorf("%v", err)
	}
}

func TestServers(t *testing.T) {
	for in, want := range map[string]string{
		"nats://a":             "nats://a:4222",
		"nats://u:p%40w@a,b:1": "nats://u:p%40w@a:4222,nats://u:p%40w@b:1",
		"nats://token@[::1]":   "nats://token@[::1]:4222",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := servers(u); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
}
