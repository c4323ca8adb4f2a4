package embedded

import (
	"errors"
	"testing"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/backendtest"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func open(t testing.TB, url string) hub.Backend {
	t.Helper()
	b, err := backends.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestConformance(t *testing.T) {
	for _, mode := range []string{"pubsub", "xread"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			at := "miniredis://" + mode + "?follow=" + mode
			backendtest.Run(t, backendtest.Config{
				New:  func(t testing.TB) hub.Backend { return open(t, at) },
				Peer: func(t testing.TB, _ hub.Backend) hub.Backend { return open(t, at) },
				Reopen: func(t testing.TB, b hub.Backend) hub.Backend {
					again := open(t, at) // first: the server goes with the last backend
					_ = b.Close()
					return again
				},
				Trim: func(t testing.TB, b hub.Backend, topic string) {
					if err := b.(*backend).Client().XTrimMaxLen(t.Context(), "headrace:{"+topic+"}", 0).Err(); err != nil {
						t.Fatal(err)
					}
				},
			})
		})
	}
}

// TestForeignEntriesArriveAtOnce tells follow=xread from the default: nobody announces what
// another program adds.
func TestForeignEntriesArriveAtOnce(t *testing.T) {
	b := open(t, "miniredis://?follow=xread&prefix=app:")
	defer b.Close()
	h, err := hub.New(b, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(t.Context()) }()
	sub, err := h.Subscribe(t.Context(), "t", hub.Latest())
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if _, err := h.Publish(t.Context(), "t", hub.Message{Data: []byte("first")}); err != nil {
		t.Fatal(err)
	}
	if err := b.(*backend).Client().Do(t.Context(), "XADD", "app:{t}", "*", "n", "1").Err(); err != nil {
		t.Fatal(err)
	}
	want := []string{"first", `{"n":"1"}`}
	for m, err := range sub.All() {
		if err != nil || string(m.Data) != want[0] {
			t.Fatalf("%q, %v, want %q", m.Data, err, want[0])
		}
		if want = want[1:]; len(want) == 0 {
			break
		}
	}
}

func TestServersAreShared(t *testing.T) {
	a, b, c := open(t, "miniredis://shared"), open(t, "miniredis://shared"), open(t, "miniredis://")
	defer c.Close()
	publish := func(to hub.Backend) {
		t.Helper()
		if _, err := to.Publish(t.Context(), "t", hub.Message{Data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	count := func(of hub.Backend) int {
		t.Helper()
		p, err := of.Read(t.Context(), "t", "", 10)
		if err != nil {
			t.Fatal(err)
		}
		return len(p.Messages)
	}
	publish(a)
	if count(b) != 1 || count(c) != 0 {
		t.Errorf("%d messages at the same name, %d at none", count(b), count(c))
	}
	_ = a.Close()
	_ = a.Close()
	publish(b)
	if count(b) != 2 {
		t.Error("closing one backend ended the server of the other")
	}
	_ = b.Close()
	d := open(t, "miniredis://shared")
	defer d.Close()
	if count(d) != 0 {
		t.Error("the server outlived its last backend")
	}
}

func TestOpenRefuses(t *testing.T) {
	for url, want := range map[string]error{
		"miniredis://u:p@x": backends.ErrURL, "miniredis://x/1": backends.ErrURL, "miniredis://x:1": backends.ErrURL,
		"miniredis://?nonsense=1": backends.ErrParameter, "miniredis://?maxlen=0": backends.ErrParameter,
		"miniredis://?follow=poll": backends.ErrParameter, "miniredis://?read_timeout=soon": backends.ErrParameter,
	} {
		if b, err := backends.Open(t.Context(), url); !errors.Is(err, want) {
			if err == nil {
				_ = b.Close()
			}
			t.Errorf("%s: %v, want %v", url, err, want)
		}
	}
	if len(servers) != 0 {
		t.Errorf("%d servers are left", len(servers))
	}
}
