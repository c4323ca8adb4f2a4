package memory

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/hub"
)

func text(s string) hub.Message { return hub.Message{Data: []byte(s)} }

func publish(t testing.TB, b *Backend, topic string, m hub.Message) hub.ID {
	t.Helper()
	id, err := b.Publish(t.Context(), topic, m)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func read(t testing.TB, b *Backend, topic string, after hub.ID) (data []string, p hub.Page) {
	t.Helper()
	p, err := b.Read(t.Context(), topic, after, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range p.Messages {
		data = append(data, string(m.Data))
	}
	return data, p
}

// sink keeps what is delivered.
type sink struct {
	mu  sync.Mutex
	got []hub.Message
}

func (s *sink) Deliver(ms ...hub.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, ms...)
}
func (*sink) Broken(error)    {}
func (*sink) Restored(hub.ID) {}

func follow(t testing.TB, b *Backend, topic string, s hub.Sink) (tail hub.ID, stop func()) {
	t.Helper()
	tail, stop, err := b.Follow(t.Context(), topic, s)
	if err != nil {
		t.Fatal(err)
	}
	return tail, stop
}

func (b *Backend) topicCount() int {
	n := 0
	for i := range b.shards {
		n += len(b.shards[i].snapshot())
	}
	return n
}

func TestCloseStopsTheJanitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		publish(t, b, "t", text("a"))
		_, stop := follow(t, b, "t", &sink{})
		b.Close()
		stop() // arms, if it could
		if b.janitor.Stop() {
			t.Error("the timer was running after Close")
		}
		idle := New(Options{})
		idle.Close()
		idle.arm() // as by a Publish that was running
		if idle.janitor != nil {
			t.Error("the timer was started after Close")
		}
	})
}

func TestAfterClose(t *testing.T) {
	b := New(Options{})
	publish(t, b, "t", text("a"))
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := b.Publish(t.Context(), "t", text("b"))
	if !errors.Is(err, hub.ErrRejected) || !errors.Is(err, hub.ErrClosed) {
		t.Errorf("Publish: %v", err)
	}
	if _, err := b.Read(t.Context(), "t", "", 1); !errors.Is(err, hub.ErrClosed) {
		t.Errorf("Read: %v", err)
	}
	if _, _, err := b.Follow(t.Context(), "t", &sink{}); !errors.Is(err, hub.ErrClosed) {
		t.Errorf("Follow: %v", err)
	}
}

func TestDoneContext(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Publish(ctx, "t", text("b")); !errors.Is(err, hub.ErrRejected) || !errors.Is(err, context.Canceled) {
		t.Errorf("Publish: %v", err)
	}
	if _, err := b.Read(ctx, "t", "", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %v", err)
	}
	if _, _, err := b.Follow(ctx, "t", &sink{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Follow: %v", err)
	}
}

// A place has one spelling, and only places of this backend that exist are known.
func TestPlace(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	other := New(Options{})
	defer other.Close()
	for _, tc := range []struct {
		id   hub.ID
		want uint64
		ok   bool
	}{
		{b.id(0), 0, true},
		{b.id(7), 7, true},
		{b.id(8), 0, false},
		{other.id(7), 0, false},
		{hub.ID(b.epoch), 0, false},
		{hub.ID(b.epoch + "07"), 0, false},
		{hub.ID(b.epoch + "00"), 0, false},
		{hub.ID(b.epoch + "+7"), 0, false},
		{hub.ID(b.epoch + "-7"), 0, false},
		{hub.ID(b.epoch + "7 "), 0, false},
		{hub.ID(b.epoch + "0x7"), 0, false},
		{hub.ID(b.epoch + "18446744073709551616"), 0, false},
		{hub.ID(strings.ToUpper(b.epoch) + "7"), 0, false},
		{"7", 0, false},
		{"", 0, false},
	} {
		n, ok := b.place(tc.id, 7)
		if ok != tc.ok || ok && n != tc.want {
			t.Errorf("place(%q) = %d, %v, want %d, %v", tc.id, n, ok, tc.want, tc.ok)
		}
	}
}

// An ID is a place in the one sequence of the backend, so another topic's ID is answered exactly.
func TestIDOfAnotherTopic(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	publish(t, b, "t", text("a"))
	between := publish(t, b, "other", text("x"))
	publish(t, b, "t", text("b"))
	if got, p := read(t, b, "t", between); p.Gap || !slices.Equal(got, []string{"b"}) {
		t.Errorf("%q, gap: %v", got, p.Gap)
	}
}

// stopping is a sink that stops followers.
type stopping struct {
	sink
	stops []func()
}

func (s *stopping) Deliver(ms ...hub.Message) {
	s.sink.Deliver(ms...)
	for _, stop := range s.stops {
		stop()
	}
}

// Who is stopped while a message is delivered to others does not get it, and the others do.
func TestStopDuringDelivery(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	first, second, third := &stopping{}, &sink{}, &sink{}
	_, stopFirst := follow(t, b, "t", first)
	_, stopSecond := follow(t, b, "t", second)
	follow(t, b, "t", third)
	first.stops = []func(){stopFirst, stopSecond}
	publish(t, b, "t", text("a"))
	publish(t, b, "t", text("b"))
	if len(first.got) != 1 || len(second.got) != 0 || len(third.got) != 2 {
		t.Errorf("%d, %d and %d messages, want 1, 0 and 2", len(first.got), len(second.got), len(third.got))
	}
}

func TestStopArmsTheJanitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer b.Close()
		_, stop := follow(t, b, "t", &sink{})
		time.Sleep(time.Hour)
		stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := b.topicCount(); got != 0 {
			t.Errorf("%d topics are left", got)
		}
	})
}

func TestFinalIsOfItsIDOnly(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	final := publish(t, b, "t", hub.Message{Type: "close", Final: true})
	later := publish(t, b, "other", text("x"))
	if _, p := read(t, b, "t", final); !p.Final {
		t.Error("not Final at the final message")
	}
	if _, p := read(t, b, "t", later); p.Final {
		t.Error("Final at a place that is not the final message")
	}
}

func TestPageBytes(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	for range 5 {
		publish(t, b, "t", hub.Message{Data: make([]byte, hub.PageBytes/2+1)})
	}
	got, p := read(t, b, "t", "")
	if len(got) != 2 {
		t.Errorf("%d messages of half a page, want 2", len(got))
	}
	if got, _ := read(t, b, "t", p.Next); len(got) != 2 {
		t.Errorf("%d messages on the next page, want 2", len(got))
	}
	publish(t, b, "large", hub.Message{Data: make([]byte, 2*hub.PageBytes)})
	if got, _ := read(t, b, "large", ""); len(got) != 1 {
		t.Errorf("%d messages larger than a page, want 1", len(got))
	}
}

func TestIgnoredFields(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	s := &sink{}
	tail, _ := follow(t, b, "t", s)
	id := publish(t, b, "t", hub.Message{ID: "x", Prev: "y", Key: "key", Gap: true, Time: time.Unix(1, 0)})
	_, p := read(t, b, "t", "")
	for _, m := range append(p.Messages, s.got...) {
		if m.ID != id || m.Prev != tail || m.Key != "" || m.Gap || time.Since(m.Time) > time.Hour {
			t.Errorf("%+v", m)
		}
	}
}

func TestOptionsHaveDefaults(t *testing.T) {
	o := reflect.ValueOf(Options{}.withDefaults())
	for i := range o.NumField() {
		if f := o.Type().Field(i); f.Type.Kind() != reflect.Bool && f.Name != "Retention" && o.Field(i).IsZero() {
			t.Errorf("%s has no default", f.Name)
		}
	}
}
