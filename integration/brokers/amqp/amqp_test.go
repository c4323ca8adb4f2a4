package amqp

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	upstream "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/integration/brokers/brokertest"
	"github.com/headrace/headrace/integration/brokers/internal/servers"
	"github.com/headrace/headrace/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const patience = time.Minute

// TestRabbitMQ starts one server for all tests, because that takes seconds.
func TestRabbitMQ(t *testing.T) {
	s := servers.RabbitMQ(t)
	t.Run("broker", func(t *testing.T) { testBroker(t, s) })
	t.Run("open fails without the password in the error", func(t *testing.T) { testRefused(t, s) })
	t.Run("an ended subscription leaves no queue", func(t *testing.T) { testNoQueueIsLeft(t, s) })
	t.Run("a deleted queue is a gap", func(t *testing.T) { testDeletedQueue(t, s) })
	t.Run("a nil error means that the broker has it", func(t *testing.T) { testConfirmed(t, s) })
	t.Run("a lost connection ends the subscription", func(t *testing.T) { testLostConnection(t, s) })
}

func testBroker(t *testing.T, s *servers.Server) {
	b := brokertest.Broker{
		New:       func(t testing.TB) hub.Backend { return opened(t, s.URL) },
		Traits:    hub.Traits{Name: "amqp", Shared: true, Keys: hub.KeysWindow},
		Publisher: func(t testing.TB) message.Publisher { return foreigner(t, s) },
		Competing: func(t testing.TB, group string) hub.Backend { return sharing(t, s, group) },
		Raw: []brokertest.Raw{
			{Name: "neither headers nor an ID", Write: writes(s, amqp091.Publishing{Body: []byte("raw 1")})},
			{Name: "headers that are no text", Shown: true, Write: writes(s, amqp091.Publishing{
				MessageId: "raw-2", Body: []byte("raw 2"),
				Headers: amqp091.Table{"number": int32(1), "list": []any{"a"}, "table": amqp091.Table{"a": "b"}, "nothing": nil},
			})},
			{Name: "a UUID that is no text", Write: writes(s, amqp091.Publishing{
				Body: []byte("raw 3"), Headers: amqp091.Table{amqp.DefaultMessageUUIDHeaderKey: int64(3)},
			})},
		},
	}
	if !raceEnabled {
		b.Restart = func(testing.TB) { s.Restart() }
	}
	brokertest.Run(t, b)
}

func opened(t testing.TB, rawURL string) hub.Backend {
	t.Helper()
	b, err := backends.Open(t.Context(), rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sharing returns a backend whose subscriptions share a queue with those of others.
func sharing(t testing.TB, s *servers.Server, queue string) hub.Backend {
	t.Helper()
	publishing, subscribing := newLink(s.URL), newLink(s.URL)
	if err := errors.Join(publishing.connect(t.Context()), subscribing.connect(t.Context())); err != nil {
		t.Fatal(err)
	}
	config := newConfig("headrace", 1)
	config.Queue.Exclusive = false
	publisher, err := amqp.NewPublisherWithConnection(config, upstream.NopLogger{}, publishing.conn)
	if err != nil {
		t.Fatal(err)
	}
	sub := &subscriber{link: subscribing, config: config, queue: queue}
	b, err := watermill.New(publisher, sub, watermill.Options{OnClose: func() error { return errors.Join(publishing.close(), sub.Close()) }})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// foreigner is the Watermill publisher of a program that knows nothing of headrace but the
// exchange.
func foreigner(t testing.TB, s *servers.Server) message.Publisher {
	t.Helper()
	config := amqp.NewDurablePubSubConfig(s.URL, nil)
	config.Exchange.GenerateName, config.Exchange.Type = amqp.GenerateExchangeNameConstant("headrace"), "direct"
	config.Publish.GenerateRoutingKey = func(topic string) string { return topic }
	config.Publish.ConfirmDelivery = true
	p, err := amqp.NewPublisher(config, upstream.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// channel is one of the client's own.
func channel(t testing.TB, s *servers.Server) *amqp091.Channel {
	t.Helper()
	conn, err := amqp091.Dial(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func writes(s *servers.Server, p amqp091.Publishing) func(testing.TB, string) {
	return func(t testing.TB, topic string) {
		t.Helper()
		c := channel(t, s)
		if err := c.Confirm(false); err != nil {
			t.Fatal(err)
		}
		confirmed, err := c.PublishWithDeferredConfirm("headrace", topic, false, false, p)
		if err != nil {
			t.Fatal(err)
		}
		if !confirmed.Wait() {
			t.Fatal("the broker does not confirm")
		}
	}
}

func testRefused(t *testing.T, s *servers.Server) {
	for _, rawURL := range []string{
		"amqp://guest:" + "top-secret" + "@" + s.Addr,
		"amqp://guest:guest@" + s.Addr + "/no-such-host",
		"amqp://guest:top-secret@127.0.0.1:1",
	} {
		b, err := backends.Open(t.Context(), rawURL)
		if err == nil {
			_ = b.Close()
			t.Errorf("Open of a broker that refuses succeeds")
		} else if strings.Contains(err.Error(), "top-secret") || strings.Contains(err.Error(), "guest") {
			t.Errorf("Open: %v", err)
		}
	}
}

// watch returns a Subscriber with a queue of a known name, which a test can look at.
func watch(t *testing.T, s *servers.Server, queue string) *subscriber {
	t.Helper()
	l := newLink(s.URL)
	if err := l.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	config := newConfig("headrace", 1)
	config.Queue.Exclusive = false // others may not even look at an exclusive one
	sub := &subscriber{link: l, config: config, queue: queue}
	t.Cleanup(func() { _ = sub.Close() })
	return sub
}

func exists(t *testing.T, conn *amqp091.Connection, queue string) bool {
	t.Helper()
	c, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.QueueDeclarePassive(queue, false, true, false, false, nil)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

// testNoQueueIsLeft: watermill-amqp 3.1.0 declares the queue of a subscription once more when its
// context has ended, and an automatic deletion waits for a consumer that never comes: each of
// twenty cancelled subscriptions left a queue that filled up.
func testNoQueueIsLeft(t *testing.T, s *servers.Server) {
	sub := watch(t, s, "watched-cancel")
	conn, err := amqp091.Dial(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		messages, err := sub.Subscribe(ctx, "watched")
		if err != nil {
			t.Fatal(err)
		}
		if !exists(t, conn, sub.queue) {
			t.Fatal("there is no queue after Subscribe")
		}
		cancel()
		drained(t, messages)
		if exists(t, conn, sub.queue) {
			t.Fatal("the queue is there when its subscription has ended")
		}
	}
}

// drained waits for the end of a subscription and fails at a message.
func drained(t *testing.T, messages <-chan *message.Message) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return
			}
			t.Errorf("a message nobody wrote: UUID %q, %q", m.UUID, m.Payload)
			m.Ack()
		case <-timeout:
			t.Fatal("the subscription does not end")
		}
	}
}

// testDeletedQueue: watermill-amqp 3.1.0 makes an empty message of the end of a consumer, and then
// a new queue without a word.
func testDeletedQueue(t *testing.T, s *servers.Server) {
	sub := watch(t, s, "watched-delete")
	messages, err := sub.Subscribe(t.Context(), "watched")
	if err != nil {
		t.Fatal(err)
	}
	// Only then is it consumed from.
	writes(s, amqp091.Publishing{MessageId: "first"})(t, "watched")
	select {
	case m := <-messages:
		m.Ack()
	case <-time.After(patience):
		t.Fatal("no message comes")
	}
	if _, err := channel(t, s).QueueDelete(sub.queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	drained(t, messages)
}

// testConfirmed: without confirmations a broker that does not take a message, here because a queue
// is full, does not say so.
func testConfirmed(t *testing.T, s *servers.Server) {
	b := opened(t, s.URL)
	defer b.Close()
	publish := func() error {
		_, err := b.Publish(t.Context(), "full", hub.Message{Data: []byte("x")})
		return err
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	c := channel(t, s)
	if _, err := c.QueueDeclare("full", false, true, false, false, amqp091.Table{"x-max-length": 1, "x-overflow": "reject-publish"}); err != nil {
		t.Fatal(err)
	}
	if err := c.QueueBind("full", "full", "headrace", false, nil); err != nil {
		t.Fatal(err)
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	if err := publish(); !errors.Is(err, hub.ErrUnknown) {
		t.Errorf("Publish when the queue is full: %v, want ErrUnknown", err)
	}
	if _, err := c.QueueDelete("full", false, false, false); err != nil {
		t.Fatal(err)
	}
	if err := publish(); err != nil {
		t.Errorf("Publish afterwards: %v", err)
	}
}

// TestBlockedPublishers: a broker that is short of memory reads nothing more from those who
// publish, not even that they leave.
func TestBlockedPublishers(t *testing.T) {
	s := servers.RabbitMQ(t, "vm_memory_high_watermark.absolute = 1")
	b := opened(t, s.URL)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := b.Publish(ctx, "topic", hub.Message{}); !errors.Is(err, hub.ErrUnknown) {
		t.Errorf("Publish to a broker that blocks publishers: %v, want ErrUnknown", err)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = b.Close()
	}()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("Close does not return")
	}
}

// testLostConnection: watermill-amqp 3.1.0 keeps the channel open and goes on with a new queue, and
// what was published meanwhile is lost without a word.
func testLostConnection(t *testing.T, s *servers.Server) {
	if raceEnabled {
		t.Skip("watermill-amqp has a data race when a connection is lost")
	}
	sub := watch(t, s, "watched-loss")
	messages, err := sub.Subscribe(t.Context(), "watched")
	if err != nil {
		t.Fatal(err)
	}
	_ = sub.conn.Connection().Close()
	drained(t, messages)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		messages, err = sub.Subscribe(t.Context(), "watched")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Subscribe after the loss: %v", err)
		}
	}
	writes(s, amqp091.Publishing{MessageId: "after"})(t, "watched")
	select {
	case m := <-messages:
		m.Ack()
	case <-time.After(patience):
		t.Fatal("no message comes after the loss")
	}
}

// TestOpenIsBounded: something listens that is no broker, and says nothing.
func TestOpenIsBounded(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := backends.Open(ctx, "amqp://guest:guest@"+listener.Addr().String())
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("Open of what is no broker succeeds")
		}
	case <-time.After(patience):
		t.Error("Open outlives its context")
	}
}

func TestURL(t *testing.T) {
	for _, rawURL := range []string{
		"amqp://guest:top-secret@localhost/?no_such=1",
		"amqp://guest:top-secret@localhost/?heartbeat=1",
		"amqp://guest:top-secret@localhost/?prefetch=0",
		"amqp://guest:top-secret@localhost/?exchange=amq.direct",
		"amqp://guest:top-secret@localhost/?exchange=",
		"amqp://guest:top-secret@localhost/?probe_every=1",
		"amqp://",
	} {
		u, err := url.Parse(rawURL)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Open(t.Context(), u, backends.NewQuery(u.Query()))
		if err == nil {
			_ = b.Close()
			t.Errorf("%s opens", rawURL)
		} else if !errors.Is(err, backends.ErrParameter) && !errors.Is(err, backends.ErrURL) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", rawURL, err)
		}
	}
}
