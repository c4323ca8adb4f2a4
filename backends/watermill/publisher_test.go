package watermill_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
)

// inbox is a backend in memory that notes what it is asked to publish, and can be made to fail.
type inbox struct {
	*memory.Backend
	keys hub.KeyReach
	// before and after are called for each message, before and after it is appended, with its
	// number from 1. An error is the outcome.
	before, after func(ctx context.Context, n int) error

	mu  sync.Mutex
	got []hub.Message
}

func (b *inbox) Traits() hub.Traits {
	traits := b.Backend.Traits()
	traits.Keys = b.keys
	return traits
}

func (b *inbox) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	b.mu.Lock()
	b.got = append(b.got, m)
	n := len(b.got)
	b.mu.Unlock()
	if b.before != nil {
		if err := b.before(ctx, n); err != nil {
			return "", err
		}
	}
	id, err := b.Backend.Publish(ctx, topic, m)
	if err == nil && b.after != nil {
		err = b.after(ctx, n)
	}
	return id, err
}

// publishingHub returns a hub over the inbox.
func publishingHub(t *testing.T, b *inbox) *hub.Hub {
	t.Helper()
	b.Backend = memory.New(memory.Options{})
	h, err := hub.New(b, hub.Options{MaxMessage: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		_ = b.Close()
	})
	return h
}

// appended returns the data of what a topic has.
func (b *inbox) appended(t *testing.T, topic string) string {
	t.Helper()
	page, err := b.Read(context.Background(), topic, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	var data []string
	for _, m := range page.Messages {
		data = append(data, string(m.Data))
	}
	return strings.Join(data, " ")
}

func testMessage(uuid, payload string, metadata ...string) *message.Message {
	m := message.NewMessage(uuid, []byte(payload))
	for i := 0; i < len(metadata); i += 2 {
		m.Metadata.Set(metadata[i], metadata[i+1])
	}
	return m
}

func testMessages(payloads ...string) []*message.Message {
	var ms []*message.Message
	for _, payload := range payloads {
		ms = append(ms, testMessage("uuid-"+payload, payload))
	}
	return ms
}

func TestPublisherTranslates(t *testing.T) {
	const header = watermill.UUIDHeader
	constant := func(s string) func(*message.Message) string { return func(*message.Message) string { return s } }
	long := strings.Repeat("u", 256)
	tests := []struct {
		name    string
		options watermill.PublisherOptions
		message *message.Message
		want    hub.Message
	}{
		{"text", watermill.PublisherOptions{}, testMessage("u-1", "Grüße"),
			hub.Message{Data: []byte("Grüße"), Key: "u-1", Headers: map[string]string{header: "u-1"}}},
		{"name and metadata", watermill.PublisherOptions{}, testMessage("u-1", "{}", "name", "RoomBooked", "correlation_id", "7"),
			hub.Message{Type: "RoomBooked", Data: []byte("{}"), Key: "u-1", Headers: map[string]string{header: "u-1", "name": "RoomBooked", "correlation_id": "7"}}},
		{"not UTF-8", watermill.PublisherOptions{}, testMessage("u-1", "\xff\x00"),
			hub.Message{Data: []byte("\xff\x00"), Binary: true, Key: "u-1", Headers: map[string]string{header: "u-1"}}},
		{"all binary", watermill.PublisherOptions{Binary: true}, testMessage("u-1", "text by chance"),
			hub.Message{Data: []byte("text by chance"), Binary: true, Key: "u-1", Headers: map[string]string{header: "u-1"}}},
		{"nothing in it", watermill.PublisherOptions{}, &message.Message{}, hub.Message{Headers: map[string]string{}}},
		{"own type and key", watermill.PublisherOptions{Type: constant("t"), Key: constant("k")}, testMessage("u-1", "a", "name", "n"),
			hub.Message{Type: "t", Data: []byte("a"), Key: "k", Headers: map[string]string{header: "u-1", "name": "n"}}},
		{"no key", watermill.PublisherOptions{Key: constant("")}, testMessage("u-1", "a"),
			hub.Message{Data: []byte("a"), Headers: map[string]string{header: "u-1"}}},
		{"the header of another sender", watermill.PublisherOptions{}, testMessage("u-1", "a", header, "old"),
			hub.Message{Data: []byte("a"), Key: "u-1", Headers: map[string]string{header: "u-1"}}},
		{"UUID as long as a key may be", watermill.PublisherOptions{}, testMessage(long[1:], "a"),
			hub.Message{Data: []byte("a"), Key: long[1:], Headers: map[string]string{header: long[1:]}}},
		// The hashes are what sha256sum says of the UUIDs.
		{"UUID too long for a key", watermill.PublisherOptions{}, testMessage(long, "a"),
			hub.Message{Data: []byte("a"), Key: "sha256-" + longHash, Headers: map[string]string{header: long}}},
		{"reserved UUID", watermill.PublisherOptions{}, testMessage(hub.ReservedPrefix+"finish", "a"),
			hub.Message{Data: []byte("a"), Key: "sha256-" + finishHash, Headers: map[string]string{header: hub.ReservedPrefix + "finish"}}},
		{"control character in the UUID", watermill.PublisherOptions{}, testMessage("a\nb", "a"),
			hub.Message{Data: []byte("a"), Key: "sha256-" + breakHash, Headers: map[string]string{header: "a\nb"}}},
		{"UUID not UTF-8", watermill.PublisherOptions{}, testMessage("\xff", "a"),
			hub.Message{Data: []byte("a"), Key: "sha256-" + bytesHash, Headers: map[string]string{}}},
	}
	for _, test := range tests {
		for _, keys := range []hub.KeyReach{hub.KeysNone, hub.KeysWindow, hub.KeysStored} {
			t.Run(test.name+", keys "+keys.String(), func(t *testing.T) {
				b := &inbox{keys: keys}
				p := watermill.NewPublisher(publishingHub(t, b), test.options)
				before := maps.Clone(test.message.Metadata)
				if err := p.Publish("a", test.message); err != nil {
					t.Fatal(err)
				}
				got, want := b.got[0], test.want
				if keys == hub.KeysNone {
					want.Key = ""
				}
				if got.Type != want.Type || string(got.Data) != string(want.Data) || got.Binary != want.Binary || got.Key != want.Key || !maps.Equal(got.Headers, want.Headers) {
					t.Errorf("published %+v, want %+v", got, want)
				}
				if !maps.Equal(test.message.Metadata, before) {
					t.Errorf("the message's metadata became %v", test.message.Metadata)
				}
			})
		}
	}
}

func TestPublisherMapsTopics(t *testing.T) {
	b := &inbox{keys: hub.KeysStored}
	h := publishingHub(t, b)
	p := watermill.NewPublisher(h, watermill.PublisherOptions{Topic: func(topic string) string { return hub.JoinTopic("events", topic) }})
	if err := p.Publish("a/b", testMessages("x")...); err != nil {
		t.Fatal(err)
	}
	if got := b.appended(t, "events/a%2Fb"); got != "x" {
		t.Errorf("the topic has %q", got)
	}
}

// TestPublisherStopsAtAFailure: the messages before it are appended, those after it are not
// tried, and the error says which it was and what is known.
func TestPublisherStopsAtAFailure(t *testing.T) {
	away := errors.New("connection refused")
	tests := []struct {
		name string
		err  error
		want error
		not  error
	}{
		{"not appended", fmt.Errorf("%w: %w", hub.ErrRejected, away), hub.ErrRejected, hub.ErrUnknown},
		{"perhaps appended", away, hub.ErrUnknown, hub.ErrRejected},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := &inbox{before: func(_ context.Context, n int) error {
				if n == 3 {
					return test.err
				}
				return nil
			}}
			err := watermill.NewPublisher(publishingHub(t, b), watermill.PublisherOptions{}).Publish("a", testMessages("1", "2", "3", "4", "5")...)
			failed, ok := errors.AsType[*watermill.PublishError](err)
			if !ok || failed.Index != 2 || failed.UUID != "uuid-3" || failed.Topic != "a" {
				t.Fatalf("error %#v", err)
			}
			if _, ok := errors.AsType[*hub.Error](err); !ok || !errors.Is(err, test.want) || errors.Is(err, test.not) || !errors.Is(err, away) {
				t.Errorf("error %v, want one that is %v", err, test.want)
			}
			if want := `watermill: message 3 (uuid "uuid-3") for "a": hub: publish "a": `; !strings.HasPrefix(err.Error(), want) {
				t.Errorf("error %q, want %q", err, want)
			}
			if got := b.appended(t, "a"); got != "1 2" || len(b.got) != 3 {
				t.Errorf("the topic has %q after %d attempts, want 1 2 after 3", got, len(b.got))
			}
		})
	}
}

func TestPublisherRefuses(t *testing.T) {
	whole := watermill.PublisherOptions{}
	tests := []struct {
		name    string
		topic   string
		message *message.Message
		want    error
	}{
		{"reserved type", "a", testMessage("u", "a", "name", "gap"), hub.ErrType},
		{"line break in the type", "a", testMessage("u", "a", "name", "a\nb"), hub.ErrType},
		{"metadata not UTF-8", "a", testMessage("u", "a", "k", "\xff"), hub.ErrHeader},
		{"metadata without a key", "a", testMessage("u", "a", "", "v"), hub.ErrHeader},
		{"payload too large", "a", testMessage("u", strings.Repeat("a", 1001)), hub.ErrTooLarge},
		{"UUID too large", "a", testMessage(strings.Repeat("u", 1001), "a"), hub.ErrTooLarge},
		{"no topic", "", testMessage("u", "a"), hub.ErrTopic},
		{"reserved topic", hub.ReservedPrefix + "a", testMessage("u", "a"), hub.ErrTopic},
		{"no message", "a", nil, hub.ErrRejected},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := &inbox{keys: hub.KeysStored}
			err := watermill.NewPublisher(publishingHub(t, b), whole).Publish(test.topic, test.message)
			if !errors.Is(err, test.want) || !errors.Is(err, hub.ErrRejected) || errors.Is(err, hub.ErrUnknown) {
				t.Errorf("error %v, want one that is %v and says that nothing was appended", err, test.want)
			}
			if len(err.Error()) > 500 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if len(b.got) > 0 {
				t.Errorf("the backend was asked to publish %+v", b.got)
			}
		})
	}
	if err := watermill.NewPublisher(nil, whole).Publish("a", testMessages("1")...); !errors.Is(err, hub.ErrRejected) {
		t.Errorf("without a hub: %v", err)
	}
	if err := watermill.NewPublisher(publishingHub(t, &inbox{}), whole).Publish("a"); err != nil {
		t.Errorf("without messages: %v", err)
	}
}

// TestPublisherKeepsToEachContext: a message counts under its own context, before and while it is
// published.
func TestPublisherKeepsToEachContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &inbox{before: func(ctx context.Context, n int) error {
			if n == 3 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
		p := watermill.NewPublisher(publishingHub(t, b), watermill.PublisherOptions{})
		ended, end := context.WithCancel(t.Context())
		end()
		ms := testMessages("1", "2", "3")
		ms[1].SetContext(ended)
		err := p.Publish("a", ms...)
		if failed, ok := errors.AsType[*watermill.PublishError](err); !ok || failed.Index != 1 || !errors.Is(err, context.Canceled) || !errors.Is(err, hub.ErrRejected) {
			t.Errorf("under a context that has ended: %v", err)
		}
		limited, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ms = testMessages("4", "5", "6")
		ms[1].SetContext(limited)
		began := time.Now()
		err = p.Publish("a", ms...)
		if failed, ok := errors.AsType[*watermill.PublishError](err); !ok || failed.Index != 1 || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, hub.ErrUnknown) {
			t.Errorf("under a context that ends meanwhile: %v", err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it took %v", took)
		}
		if got := b.appended(t, "a"); got != "1 4" {
			t.Errorf("the topic has %q", got)
		}
	})
}

// TestPublisherKeepsNothing: what is done to a message afterwards changes nothing in the topic.
func TestPublisherKeepsNothing(t *testing.T) {
	b := &inbox{keys: hub.KeysStored}
	h := publishingHub(t, b)
	s, err := h.Subscribe(t.Context(), "a", hub.Latest())
	if err != nil {
		t.Fatal(err)
	}
	m := testMessage("u", "first", "k", "v")
	if err := watermill.NewPublisher(h, watermill.PublisherOptions{}).Publish("a", m); err != nil {
		t.Fatal(err)
	}
	copy(m.Payload, "XXXXX")
	m.Metadata.Set("k", "changed")
	for got, err := range s.All() {
		if err != nil || string(got.Data) != "first" || got.Headers["k"] != "v" {
			t.Errorf("received %+v, %v", got, err)
		}
		break
	}
}

func TestPublisherClose(t *testing.T) {
	b := &inbox{}
	release := make(chan struct{})
	entered := make(chan struct{})
	b.before = func(_ context.Context, n int) error {
		if n == 1 {
			close(entered)
			<-release
		}
		return nil
	}
	h := publishingHub(t, b)
	p := watermill.NewPublisher(h, watermill.PublisherOptions{})
	running := make(chan error, 1)
	go func() { running <- p.Publish("a", testMessages("1", "2")...) }()
	<-entered
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Publish("a", testMessages("late")...); !errors.Is(err, hub.ErrClosed) || !errors.Is(err, hub.ErrRejected) {
		t.Errorf("after Close: %v", err)
	}
	close(release)
	if err := <-running; err != nil {
		t.Errorf("a call that had begun before Close: %v", err)
	}
	if err := watermill.NewPublisher(h, watermill.PublisherOptions{}).Publish("a", testMessages("3")...); err != nil {
		t.Errorf("another publisher of the hub: %v", err)
	}
	if got := b.appended(t, "a"); got != "1 2 3" {
		t.Errorf("the topic has %q", got)
	}
}

// TestPublisherIsConcurrent: calls come together, and each keeps its order.
func TestPublisherIsConcurrent(t *testing.T) {
	const calls, each = 16, 20
	b := &inbox{keys: hub.KeysStored}
	p := watermill.NewPublisher(publishingHub(t, b), watermill.PublisherOptions{})
	var wg sync.WaitGroup
	for call := range calls {
		wg.Go(func() {
			var payloads []string
			for i := range each {
				payloads = append(payloads, fmt.Sprintf("%d.%d", call, i))
			}
			if err := p.Publish("a", testMessages(payloads...)...); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var next [calls]int
	for data := range strings.FieldsSeq(b.appended(t, "a")) {
		var call, i int
		if _, err := fmt.Sscanf(data, "%d.%d", &call, &i); err != nil || i != next[call] {
			t.Fatalf("%s where %d.%d belongs (%v)", data, call, next[call], err)
		}
		next[call]++
	}
	for call, n := range next {
		if n != each {
			t.Errorf("call %d has %d messages", call, n)
		}
	}
}

// TestPublisherLeavesOutProbes: a router that forwards a topic of the backend's brings its probes
// too.
func TestPublisherLeavesOutProbes(t *testing.T) {
	b := &inbox{}
	ms := testMessages("1", "probe", "2")
	ms[1].Metadata.Set("headrace_probe", "token")
	if err := watermill.NewPublisher(publishingHub(t, b), watermill.PublisherOptions{}).Publish("a", ms...); err != nil {
		t.Fatal(err)
	}
	if got := b.appended(t, "a"); got != "1 2" {
		t.Errorf("the topic has %q", got)
	}
}

// losesAnswers makes a backend append every message and yet report an unknown outcome, that many
// times: more often than the hub tries again by itself.
func losesAnswers(times int) func(context.Context, int) error {
	return func(_ context.Context, n int) error {
		if n <= times {
			return errors.New("connection reset")
		}
		return nil
	}
}

// TestPublisherRetriedByRouter: a router hands a message that could not be published to its
// handler again. What the handler makes of it is another message then, and the same one only by
// its UUID.
func TestPublisherRetriedByRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &inbox{keys: hub.KeysStored, after: losesAnswers(7)}
		p := watermill.NewPublisher(publishingHub(t, b), watermill.PublisherOptions{})
		commands := gochannel.NewGoChannel(gochannel.Config{}, nil)
		router := message.NewDefaultRouter(wm.NopLogger{})
		router.AddHandler("desk", "commands", commands, "events", p, func(m *message.Message) ([]*message.Message, error) {
			return []*message.Message{message.NewMessage(m.UUID+".done", m.Payload)}, nil
		})
		defer runRouter(t, router)()
		if err := commands.Publish("commands", testMessages("one")...); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(time.Minute) // of fake time, for whatever is tried again
		synctest.Wait()
		if got := b.appended(t, "events"); got != "one" || len(b.got) < 8 {
			t.Errorf("the topic has %q after %d attempts, want it once after 8", got, len(b.got))
		}
	})
}

// TestPublisherBehindForwarder: the outbox of components/forwarder forwards into the hub, and
// again after an unknown outcome.
func TestPublisherBehindForwarder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &inbox{keys: hub.KeysStored, after: losesAnswers(7)}
		p := watermill.NewPublisher(publishingHub(t, b), watermill.PublisherOptions{})
		outbox := gochannel.NewGoChannel(gochannel.Config{}, nil)
		router := message.NewDefaultRouter(wm.NopLogger{})
		if _, err := forwarder.NewForwarder(outbox, p, wm.NopLogger{}, forwarder.Config{Router: router}); err != nil {
			t.Fatal(err)
		}
		defer runRouter(t, router)()
		if err := forwarder.NewPublisher(outbox, forwarder.PublisherConfig{}).Publish("events", testMessage("u", "one", "name", "Done")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(time.Minute) // of fake time, as above
		synctest.Wait()
		if got := b.appended(t, "events"); got != "one" || len(b.got) < 8 || b.got[0].Type != "Done" {
			t.Errorf("the topic has %q after %d attempts %+v, want it once after 8", got, len(b.got), b.got)
		}
	})
}

// runRouter runs a router and returns what stops it.
func runRouter(t *testing.T, router *message.Router) (stop func()) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.Background()) }()
	<-router.Running()
	return func() {
		if err := router.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

const (
	longHash   = "eeea0b989db6a9440839f6b7aace67ddd53bc773d6c42b81404a48acb1626307"
	finishHash = "c608884a57320cfb8801e01fae94ab22b48ea4a0df2779c9a7579e58789f6009"
	breakHash  = "7e18f737311b2dc3b2f269dd78396b0351f14fb66efa879f768cb23181883c78"
	bytesHash  = "a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89"
)
