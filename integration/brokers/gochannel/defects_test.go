package gochannel

import (
	"errors"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/integration/brokers/brokertest"
)

// Without the blocking mode each message comes in a goroutine of its own, so in any order.
func TestOrder(t *testing.T) {
	const messages = 5000
	inversions := func(p *gochannel.GoChannel) (n int) {
		t.Helper()
		defer p.Close()
		got, err := p.Subscribe(t.Context(), "topic")
		if err != nil {
			t.Fatal(err)
		}
		failed := make(chan error, 1)
		go func() {
			for i := range messages {
				if err := p.Publish("topic", message.NewMessage("", message.Payload(strconv.Itoa(i)))); err != nil {
					failed <- err
					return
				}
			}
		}()
		last := -1
		for range messages {
			select {
			case m := <-got:
				m.Ack()
				i, err := strconv.Atoi(string(m.Payload))
				if err != nil {
					t.Fatal(err)
				}
				if i < last {
					n++
				}
				last = i
			case err := <-failed:
				t.Fatal(err)
			case <-time.After(20 * time.Second):
				t.Fatal("a message did not come within 20s")
			}
		}
		return n
	}
	if n := inversions(NewPubSub()); n > 0 {
		t.Errorf("%d of %d messages were overtaken", n, messages)
	}
	if n := inversions(gochannel.NewGoChannel(gochannel.Config{}, nil)); n == 0 {
		t.Error("Watermill's default keeps the order")
	}
}

// Without the blocking mode the goroutines of messages pile up behind a subscription that does not
// take them.
func TestStuckSubscription(t *testing.T) {
	const messages = 500
	grown := func(p *gochannel.GoChannel) int {
		t.Helper()
		if _, err := p.Subscribe(t.Context(), "topic"); err != nil {
			t.Fatal(err)
		}
		before := runtime.NumGoroutine()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range messages {
				if p.Publish("topic", message.NewMessage("", nil)) != nil {
					return
				}
			}
		}()
		// Either all messages are published, or publishing waits for the first.
		select {
		case <-done:
		case <-time.After(100 * time.Millisecond):
		}
		n := runtime.NumGoroutine() - before
		_ = p.Close()
		<-done
		return n
	}
	if n := grown(NewPubSub()); n > 10 {
		t.Errorf("%d goroutines for a subscription that takes nothing", n)
	}
	if n := grown(gochannel.NewGoChannel(gochannel.Config{}, nil)); n < messages {
		t.Errorf("Watermill's default starts %d goroutines for %d messages", n, messages)
	}
}

// A reader who does not read holds up neither publishers nor other readers: the window is between
// them.
func TestReaderThatDoesNotRead(t *testing.T) {
	b := open(t, "gochannel://")
	h := brokertest.NewHub(t, b)
	idle, err := h.Subscribe(t.Context(), "topic", hub.Latest())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	r := brokertest.Read(t, h, "topic")
	for i := range 2000 {
		if _, err := h.Publish(t.Context(), "topic", hub.Message{Data: []byte(strconv.Itoa(i))}); err != nil {
			t.Fatal(err)
		}
	}
	r.Await(t, time.Minute, "1999")
}

func TestURL(t *testing.T) {
	if got, want := open(t, "gochannel://?type=name&probe_every=1m").Traits(), (hub.Traits{Name: "gochannel", Ordered: true, Keys: hub.KeysWindow}); got != want {
		t.Errorf("Traits %+v, want %+v", got, want)
	}
	for raw, want := range map[string]error{
		"gochannel://?blocking=false":  backends.ErrParameter, // it is not to be had without the order
		"gochannel://?persistent=true": backends.ErrParameter, // it would keep all messages for ever
		"gochannel://?probes=0":        backends.ErrParameter,
		"gochannel://host":             backends.ErrURL,
		"gochannel://u@":               backends.ErrURL,
		"gochannel:///path":            backends.ErrURL,
	} {
		if b, err := backends.Open(t.Context(), raw); !errors.Is(err, want) || b != nil {
			t.Errorf("%s: %v, %v; want %v", raw, b, err, want)
		}
	}
}

// A program's own publishers share the Pub/Sub with the backend.
func TestNewOverAPubSub(t *testing.T) {
	p := NewPubSub()
	defer p.Close()
	b, err := New(p, watermill.Options{Decode: watermill.DecodeForeign("name"), Logger: brokertest.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r := brokertest.Read(t, brokertest.NewHub(t, b), "topic")
	m := message.NewMessage("id", message.Payload("data"))
	m.Metadata.Set("name", "OrderPlaced")
	if err := p.Publish("topic", m); err != nil {
		t.Fatal(err)
	}
	r.Await(t, time.Minute, "data")
	if got := r.Messages()[0]; got.ID != "id" || got.Type != "OrderPlaced" {
		t.Errorf("got %+v", got)
	}
}

func open(t *testing.T, url string) hub.Backend {
	t.Helper()
	b, err := backends.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}
