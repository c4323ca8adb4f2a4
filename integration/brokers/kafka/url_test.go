package kafka

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/headrace/headrace/backends"
)

func TestURLErrors(t *testing.T) {
	for raw, want := range map[string]error{
		"kafka://u:secret@127.0.0.1:1?group=web":       backends.ErrParameter, // no consumer group that instances could share
		"kafka://u:secret@127.0.0.1:1?offset=oldest":   backends.ErrParameter,
		"kafka://u:secret@127.0.0.1:1?tls=1":           backends.ErrParameter,
		"kafka://u:secret@127.0.0.1:1?probe_every=1ms": backends.ErrParameter,
		"kafka://u:secret@127.0.0.1:1?prefix=a/":       backends.ErrParameter,
		"kafka://u:secret@127.0.0.1:1?prefix=a--b":     backends.ErrParameter,
		"kafka://u:secret@127.0.0.1:1?prefix=a-":       backends.ErrParameter,
		"kafka://u:secret@127.0.0.1:1?prefix=.a":       backends.ErrParameter,
		"kafka://u:secret@127.0.0.1:1/topic":           backends.ErrURL,
		"kafka://u:secret@127.0.0.1:1,:9092":           backends.ErrURL,
	} {
		b, err := backends.Open(t.Context(), raw)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", raw, err, want)
		}
		if b != nil {
			t.Errorf("%s: a backend beside an error", raw)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the password is in the error: %v", raw, err)
		}
	}
}

func TestNoBroker(t *testing.T) {
	_, err := backends.Open(t.Context(), "kafka://u:secret@127.0.0.1:1")
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.HasPrefix(err.Error(), "kafka: ") {
		t.Errorf("%v", err)
	}
}

func TestBrokers(t *testing.T) {
	for raw, want := range map[string][]string{
		"kafka://a":         {"a:9092"},
		"kafka://u:p@a,b:1": {"a:9092", "b:1"},
		"kafka://[::1]":     {"[::1]:9092"},
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := brokers(u); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", raw, got, err, want)
		}
	}
}
