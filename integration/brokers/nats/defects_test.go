package nats

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wmjetstream "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/jetstream"
	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/integration/brokers/brokertest"
)

// The tests of this file have two halves: what Watermill does by itself, so that a version without
// the defect is noticed, and what the opener makes of it.

// Watermill's JetStream packages subscribe to streams that somebody has made.
func TestStreamIsMade(t *testing.T) {
	s := startServer(t)
	conn, js := s.connect(t)
	theirs, err := wmjetstream.NewSubscriber(wmjetstream.SubscriberConfig{Conn: conn, Logger: watermill.NopLogger{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Subscribe(t.Context(), "orders"); err == nil {
		t.Error("Watermill has made a stream")
	}

	for range 2 { // the second instance finds the stream that the first has made
		b := s.open(t, "retention=2h&storage=memory&stream=LIVE&prefix=live")
		defer b.Close()
		if b.Traits().Durable {
			t.Error("a stream in memory is said to be durable")
		}
	}
	info, err := js.StreamInfo("LIVE")
	if err != nil {
		t.Fatal(err)
	}
	if c := info.Config; c.MaxAge != 2*time.Hour || c.Storage != nats.MemoryStorage || len(c.Subjects) != 1 || c.Subjects[0] != "live.>" {
		t.Errorf("the stream is %+v", c)
	}
}

// Watermill's consumers begin at the first message of the stream.
func TestNewInstanceIsNotGivenTheWholeStream(t *testing.T) {
	s := startServer(t)
	b := s.open(t, "")
	defer b.Close()
	conn, js := s.connect(t)
	for i := range 50 {
		if _, err := js.Publish("headrace.orders", []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	first := func(s message.Subscriber) string {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		messages, err := s.Subscribe(ctx, "headrace.orders")
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			cancel()
			for m := range messages {
				m.Ack()
			}
		}()
		if _, err := js.Publish("headrace.orders", []byte("new")); err != nil {
			t.Fatal(err)
		}
		m := <-messages
		m.Ack()
		return string(m.Payload)
	}
	theirs, err := wmnats.NewSubscriberWithNatsConn(conn, wmnats.SubscriberSubscriptionConfig{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := first(theirs); got != "0" {
		t.Errorf("Watermill begins with %q", got)
	}
	if got := first(newSubscriber(t, conn)); got != "new" {
		t.Errorf("the first message is %q, want the one that was published after Subscribe", got)
	}
}

// A message that Watermill's unmarshaler does not like is dropped without an acknowledgement, and
// comes again for ever; with package jetstream it ends the process.
func TestUnmarshalTakesEverything(t *testing.T) {
	for name, header := range map[string]nats.Header{
		"none": nil, "no value": {"a": {}}, "repeated": {"a": {"1", "2"}, wmnats.WatermillUUIDHdr: {"id", "other"}}, "an empty key": {"": {""}},
	} {
		m := &nats.Msg{Header: header, Data: []byte("data")}
		got, err := new(gate).Unmarshal(m)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if string(got.Payload) != "data" {
			t.Errorf("%s: payload %q", name, got.Payload)
		}
		if name != "repeated" {
			continue
		}
		if got.UUID != "id" || got.Metadata.Get("a") != "1" || got.Metadata.Get(wmnats.WatermillUUIDHdr) != "" {
			t.Errorf("UUID %q, metadata %v; want the first values", got.UUID, got.Metadata)
		}
		if _, err := new(wmnats.NATSMarshaler).Unmarshal(m); err == nil {
			t.Error("Watermill's unmarshaler takes repeated headers")
		}
	}
}

// Once the server has forgotten a consumer, Watermill's subscription is silent.
func TestConsumerThatTheServerForgot(t *testing.T) {
	s := startServer(t)
	b := s.open(t, "")
	defer b.Close()
	_, js := s.connect(t)
	h := brokertest.NewHub(t, b)
	r := brokertest.Read(t, h, "orders")
	publish(t, h, "orders", "before")
	r.Await(t, time.Minute, "before")

	deleted := 0
	for name := range js.ConsumerNames("HEADRACE") {
		if err := js.DeleteConsumer("HEADRACE", name); err != nil {
			t.Fatal(err)
		}
		deleted++
	}
	if deleted != 1 {
		t.Fatalf("%d consumers for one topic", deleted)
	}
	for i := range 10 {
		publish(t, h, "orders", strconv.Itoa(i))
	}
	r.Await(t, time.Minute, "9")
	if got := fmt.Sprint(r.Texts()); got != "[before 0 1 2 3 4 5 6 7 8 9]" {
		t.Errorf("got %s", got)
	}
	for _, m := range r.Messages() {
		if m.Gap {
			t.Errorf("a gap before %q, though nothing was lost", m.Data)
		}
	}
}

// Watermill closes the channel of a subscription that is let go while a message may be sent into
// it, which ends the process.
func TestSubscriptionsEndInAFlood(t *testing.T) {
	s := startServer(t)
	b := s.open(t, "")
	defer b.Close()
	conn, js := s.connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := js.Publish("headrace.flood", nil); err != nil && ctx.Err() == nil {
				t.Errorf("Publish: %v", err)
				return
			}
		}
	})
	for range 100 {
		one, stop := context.WithCancel(ctx)
		messages, err := newSubscriber(t, conn).Subscribe(one, "headrace.flood")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for m := range messages {
			m.Ack()
			if n++; n == 10 {
				stop()
			}
		}
		stop()
	}
}

// A stream that somebody deletes is made again when the topic is subscribed anew, which it is when
// a probe did not come back.
func TestStreamThatWasDeleted(t *testing.T) {
	s := startServer(t)
	b := s.open(t, "probe_every=1s")
	defer b.Close()
	_, js := s.connect(t)
	h := brokertest.NewHub(t, b)
	r := brokertest.Read(t, h, "orders")
	publish(t, h, "orders", "before")
	r.Await(t, time.Minute, "before")
	if err := js.DeleteStream("HEADRACE"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Publish(t.Context(), "orders", hub.Message{Data: []byte("lost")}); err == nil {
		t.Error("a message without a stream was published")
	}
	s.awaitStream(t, js)
	for i := 0; len(r.Messages()) < 2; i++ { // until the subscription is whole again
		publish(t, h, "orders", "after")
		time.Sleep(50 * time.Millisecond)
		if i > 400 {
			t.Fatal("nothing comes from the new stream")
		}
	}
	if m := r.Messages()[1]; string(m.Data) != "after" || !m.Gap {
		t.Errorf("%q, gap %v; want a gap", m.Data, m.Gap)
	}
}

// An ordered consumer that is made anew resumes at the first message that the stream still has.
// Those of other programs have no number by which they would be missed. What the stream has kept is
// no loss.
func TestStreamThatDroppedMessages(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits nats.StreamConfig
		gap    bool
	}{
		{"none", nats.StreamConfig{}, false},
		{"by the limit of the stream", nats.StreamConfig{MaxMsgs: 3}, true},
		{"by the limit of a subject", nats.StreamConfig{MaxMsgsPerSubject: 3}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t)
			_, js := s.connect(t)
			c.limits.Name, c.limits.Subjects = "HEADRACE", []string{"headrace.>"}
			unlimited := nats.StreamConfig{Name: c.limits.Name, Subjects: c.limits.Subjects}
			if _, err := js.AddStream(&unlimited); err != nil {
				t.Fatal(err)
			}
			b := s.open(t, "probe_every=1s")
			defer b.Close()
			r := brokertest.Read(t, brokertest.NewHub(t, b), "orders")
			// Not before: the first Follow sends a row of probes. A stream with a limit drops
			// those that a busy machine has not delivered yet.
			if _, err := js.UpdateStream(&c.limits); err != nil {
				t.Fatal(err)
			}
			put := func(subject string, i int) {
				t.Helper()
				m := &nats.Msg{Subject: subject, Header: nats.Header{wmnats.WatermillUUIDHdr: {fmt.Sprint("id", i)}}, Data: []byte(strconv.Itoa(i))}
				if _, err := js.PublishMsg(m); err != nil {
					t.Fatal(err)
				}
			}
			put("headrace.old", 0) // stays first where only the subject has a limit
			put("headrace.orders", 0)
			r.Await(t, time.Minute, "0")
			for name := range js.ConsumerNames("HEADRACE") { // as with a lost connection
				if err := js.DeleteConsumer("HEADRACE", name); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 20 {
				put("headrace.orders", i+1)
			}
			for i := 21; len(r.Messages()) < 2; i++ { // until the subscription is whole again
				put("headrace.orders", i)
				time.Sleep(50 * time.Millisecond)
				if i > 600 {
					t.Fatal("nothing comes")
				}
			}
			if m := r.Messages()[1]; m.Gap != c.gap || !c.gap && string(m.Data) != "1" {
				t.Errorf("the second message is %q, gap %v; want gap %v", m.Data, m.Gap, c.gap)
			}
		})
	}
}

func newSubscriber(t testing.TB, conn *nats.Conn) *subscriber {
	t.Helper()
	s := &subscriber{stream: nats.StreamConfig{Name: "HEADRACE", Subjects: []string{"headrace.>"}}}
	if err := s.ensureFor(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return s
}

// A message that the server drops as a repeat would be missed by its number. So the server is not
// asked to: the window drops it.
func TestRepeatedKeyIsNoLoss(t *testing.T) {
	s := startServer(t)
	b := s.open(t, "")
	defer b.Close()
	h := brokertest.NewHub(t, b)
	r := brokertest.Read(t, h, "orders")
	for range 2 {
		if _, err := h.Publish(t.Context(), "orders", hub.Message{Data: []byte("once"), Key: "key"}); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, h, "orders", "last")
	r.Await(t, time.Minute, "last")
	if got := fmt.Sprint(r.Texts()); got != "[once last]" {
		t.Errorf("got %s", got)
	}
	if r.Messages()[1].Gap || brokertest.Stats(t, b).Lost != 0 {
		t.Error("a repeat was taken for a loss")
	}
}

func publish(t testing.TB, h *hub.Hub, topic, data string) {
	t.Helper()
	if _, err := h.Publish(t.Context(), topic, hub.Message{Data: []byte(data)}); err != nil {
		t.Fatal(err)
	}
}
