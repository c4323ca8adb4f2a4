package redisstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	upstream "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/integration/brokers/brokertest"
	"github.com/headrace/headrace/integration/brokers/internal/servers"
	"github.com/headrace/headrace/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const patience = time.Minute

// TestBroker runs over a server that forgets everything when it restarts, and over one that keeps
// everything.
func TestBroker(t *testing.T) {
	for _, test := range []struct {
		name       string
		args       []string
		persistent bool
	}{
		{"in memory", nil, false},
		{"append-only file", []string{"--appendonly", "yes", "--appendfsync", "always"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := servers.Redis(t, test.args...)
			brokertest.Run(t, brokertest.Broker{
				New: func(t testing.TB) hub.Backend {
					return opened(t, "watermill+"+s.URL+"?block=100ms&persistent="+strconv.FormatBool(test.persistent))
				},
				Traits:    hub.Traits{Name: "watermill+redis", Ordered: true, Shared: true, Durable: test.persistent, Keys: hub.KeysWindow},
				Restart:   func(testing.TB) { s.Restart() },
				Kept:      func(t testing.TB, topic string) []string { return payloads(t, s, topic) },
				Publisher: func(t testing.TB) message.Publisher { return publisher(t, client(t, s)) },
				Competing: func(t testing.TB, group string) hub.Backend { return sharing(t, s, group) },
				Raw: []brokertest.Raw{
					{Name: "an entry of another program", Write: adds(s, "type", "note", "data", "raw 1")},
					{Name: "a UUID, and metadata that is none", Shown: true, Write: adds(s, redisstream.UUIDHeaderKey, "raw-2", "metadata", "\xde\xad\xbe\xef", "payload", "raw 2")},
					{Name: "metadata that is a list", Shown: true, Write: adds(s, redisstream.UUIDHeaderKey, "raw-3", "metadata", "\x92\x01\x02", "payload", "raw 3")},
					{Name: "a map that claims to be huge", Shown: true, Write: adds(s, redisstream.UUIDHeaderKey, "raw-4", "metadata", "\xdf\xff\xff\xff\xff", "payload", "raw 4")},
					{Name: "nothing but a UUID", Shown: true, Write: adds(s, redisstream.UUIDHeaderKey, "raw-5")},
				},
			})
		})
	}
}

func opened(t testing.TB, rawURL string) hub.Backend {
	t.Helper()
	b, err := backends.Open(t.Context(), rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func client(t testing.TB, s *servers.Server) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr, DisableIdentity: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func publisher(t testing.TB, c *redis.Client) *redisstream.Publisher {
	t.Helper()
	p, err := redisstream.NewPublisher(redisstream.PublisherConfig{Client: c}, upstream.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sharing returns a backend whose subscriptions are in one consumer group with those of others.
func sharing(t testing.TB, s *servers.Server, group string) hub.Backend {
	t.Helper()
	c := client(t, s)
	sub := newSubscriber(c, 100*time.Millisecond)
	sub.group = group
	b, err := watermill.New(publisher(t, c), sub, watermill.Options{Ordered: true, OnClose: sub.Close})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func adds(s *servers.Server, values ...string) func(testing.TB, string) {
	return func(t testing.TB, topic string) {
		t.Helper()
		if err := client(t, s).XAdd(t.Context(), &redis.XAddArgs{Stream: topic, Values: values}).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// payloads reads all that a stream has.
func payloads(t testing.TB, s *servers.Server, topic string) (list []string) {
	t.Helper()
	entries, err := client(t, s).XRange(t.Context(), topic, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, _ := e.Values["payload"].(string)
		list = append(list, text)
	}
	return list
}

func subscribe(ctx context.Context, t *testing.T, s *subscriber, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := s.Subscribe(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

func receive(t *testing.T, messages <-chan *message.Message, want string) {
	t.Helper()
	select {
	case m, ok := <-messages:
		if !ok {
			t.Fatalf("the subscription ended instead of giving %s", want)
		}
		m.Ack()
		if m.UUID != want {
			t.Fatalf("message %s, want %s", m.UUID, want)
		}
	case <-time.After(patience):
		t.Fatalf("message %s does not come", want)
	}
}

// TestNothingIsLostWhileReadingBegins: watermill-redisstream 1.4.5 reads from $ until the first
// message came, and begins to read after Subscribe has returned. It lost each of a hundred messages
// that were published at once.
func TestNothingIsLostWhileReadingBegins(t *testing.T) {
	s := servers.Redis(t)
	c := client(t, s)
	p := publisher(t, c)
	sub := newSubscriber(c, time.Second)
	defer sub.Close()
	for i := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		topic := fmt.Sprint("begins-", i)
		if i%2 == 0 {
			if err := p.Publish(topic, message.NewMessage("old", nil)); err != nil {
				t.Fatal(err)
			}
		}
		messages := subscribe(ctx, t, sub, topic)
		if err := p.Publish(topic, message.NewMessage("new", nil)); err != nil {
			t.Fatal(err)
		}
		receive(t, messages, "new")
		cancel()
	}
}

// TestNothingIsLostBetweenReads: with bounded reads, $ is another place each time.
func TestNothingIsLostBetweenReads(t *testing.T) {
	s := servers.Redis(t)
	c := client(t, s)
	p := publisher(t, c)
	sub := newSubscriber(c, time.Millisecond)
	defer sub.Close()
	const topics = 30
	var all []<-chan *message.Message
	for i := range topics {
		all = append(all, subscribe(t.Context(), t, sub, fmt.Sprint("between-", i)))
	}
	eventually(t, "many reads", func() bool { return calls(t, c, "xread") > 10*topics })
	for i, messages := range all {
		if err := p.Publish(fmt.Sprint("between-", i), message.NewMessage("first", nil)); err != nil {
			t.Fatal(err)
		}
		receive(t, messages, "first")
	}
}

// TestDroppedConnection: watermill-redisstream 1.4.5 goes on with $ when the connection was lost
// before the first message, without a word.
func TestDroppedConnection(t *testing.T) {
	s := servers.Redis(t)
	config := &redis.Options{Addr: s.Addr, DisableIdentity: true, MaxRetries: -1}
	reading := redis.NewClient(config)
	defer reading.Close()
	sub := newSubscriber(reading, 10*time.Second)
	defer sub.Close()
	messages := subscribe(t.Context(), t, sub, "dropped")
	c := client(t, s)
	eventually(t, "a read waits", func() bool { return blocked(t, c) == 1 })
	if err := c.Do(t.Context(), "CLIENT", "KILL", "SKIPME", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	select {
	case m, ok := <-messages:
		if ok {
			t.Fatalf("message %s", m.UUID)
		}
	case <-time.After(patience):
		t.Fatal("the subscription goes on, as if nothing had been lost")
	}
}

func blocked(t *testing.T, c *redis.Client) int {
	t.Helper()
	return info(t, c, "clients", "blocked_clients:")
}

// calls returns how often a command was sent.
func calls(t *testing.T, c *redis.Client, command string) int {
	t.Helper()
	return info(t, c, "commandstats", "cmdstat_"+command+":calls=")
}

// info returns the number behind a text in a section of the server's information, 0 where there is
// none.
func info(t *testing.T, c *redis.Client, section, before string) int {
	t.Helper()
	text, err := c.Info(t.Context(), section).Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(text, before)
	n, _ := strconv.Atoi(rest[:strings.IndexFunc(rest+".", func(r rune) bool { return r < '0' || r > '9' })])
	return n
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	testenv.Eventually(t, what, func() error {
		if !cond() {
			return errors.New("it is not so")
		}
		return nil
	})
}

// TestEndedSubscriptionsLeaveNothing: watermill-redisstream 1.4.5 waits without a bound for the
// first message of an idle stream, and go-redis does not interrupt a read: twenty cancelled
// subscriptions left twenty connections.
func TestEndedSubscriptionsLeaveNothing(t *testing.T) {
	s := servers.Redis(t)
	c := client(t, s)
	reading := client(t, s)
	sub := newSubscriber(reading, 200*time.Millisecond)
	defer sub.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const topics = 10
	for i := range topics {
		subscribe(ctx, t, sub, fmt.Sprint("idle-", i))
	}
	eventually(t, "all reads wait", func() bool { return blocked(t, c) == topics })
	cancel()
	eventually(t, "no read waits", func() bool { return blocked(t, c) == 0 })
}

// TestTheClientStaysOpen: a Subscriber of watermill-redisstream closes the client that it was
// given, under the feet of all others.
func TestTheClientStaysOpen(t *testing.T) {
	s := servers.Redis(t)
	b := opened(t, "watermill+"+s.URL+"?block=10ms")
	defer b.Close()
	for range 3 {
		_, stop, err := b.Follow(t.Context(), "topic", quiet{})
		if err != nil {
			t.Fatal(err)
		}
		stop()
		if _, err := b.Publish(t.Context(), "topic", hub.Message{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestManyTopics: each subscription keeps a connection, and go-redis opens ten for each processor
// unless told otherwise.
func TestManyTopics(t *testing.T) {
	s := servers.Redis(t)
	b := opened(t, "watermill+"+s.URL)
	defer b.Close()
	c := client(t, s)
	const topics = 200
	for i := range topics {
		if _, _, err := b.Follow(t.Context(), fmt.Sprint("topic-", i), quiet{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all reads wait at once", func() bool { return blocked(t, c) == topics })
}

func TestStreamsAreBounded(t *testing.T) {
	s := servers.Redis(t)
	b := opened(t, "watermill+"+s.URL+"?maxlen=100&prefix=app:")
	defer b.Close()
	for range 1000 {
		if _, err := b.Publish(t.Context(), "topic", hub.Message{}); err != nil {
			t.Fatal(err)
		}
	}
	// Redis removes whole nodes of a hundred entries.
	if n := client(t, s).XLen(t.Context(), "app:topic").Val(); n < 100 || n > 300 {
		t.Errorf("%d entries are in the stream, want about 100", n)
	}
}

// TestTrimmedBeforeRead: messages of other programs have no number by which they are missed.
func TestTrimmedBeforeRead(t *testing.T) {
	s := servers.Redis(t)
	c := client(t, s)
	for _, test := range []struct {
		name   string
		before int // entries that are there when reading begins
	}{{"a new stream", 0}, {"an old stream", 5}} {
		t.Run(test.name, func(t *testing.T) {
			sub := newSubscriber(client(t, s), 100*time.Millisecond)
			defer sub.Close()
			topic := "trimmed: " + test.name
			add(t, c, topic, 10, 0, test.before)
			messages := subscribe(t.Context(), t, sub, topic)
			add(t, c, topic, 10, 0, 3000)
			last := -1
			for m := range messages {
				m.Ack()
				n, err := strconv.Atoi(string(m.Payload))
				if err != nil || n != last+1 {
					t.Fatalf("%q came after %d", m.Payload, last)
				}
				last = n
			}
			if last == 2999 {
				t.Error("nothing was trimmed before it was read: the test shows nothing")
			}
		})
	}
}

// TestTrimmedAfterRead: a stream that keeps less than what was read has lost nothing.
func TestTrimmedAfterRead(t *testing.T) {
	s := servers.Redis(t)
	c := client(t, s)
	sub := newSubscriber(client(t, s), 100*time.Millisecond)
	defer sub.Close()
	add(t, c, "short", 1, 0, 3)
	for _, topic := range []string{"short", "new"} {
		messages := subscribe(t.Context(), t, sub, topic)
		for i := range 20 {
			add(t, c, topic, 1, i, i+1)
			receive(t, messages, fmt.Sprint("id", i))
			if i == 10 { // whoever has dealt with an entry may delete it
				if err := c.XTrimMaxLen(t.Context(), topic, 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// add writes numbered entries of another program at once, trimmed to exactly maxlen.
func add(t *testing.T, c *redis.Client, stream string, maxlen int64, from, to int) {
	t.Helper()
	p := c.Pipeline()
	for i := from; i < to; i++ {
		p.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, MaxLen: maxlen, Values: []string{
			redisstream.UUIDHeaderKey, fmt.Sprint("id", i), "metadata", "\x80", "payload", strconv.Itoa(i),
		}})
	}
	if _, err := p.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestURL(t *testing.T) {
	for _, rawURL := range []string{
		"watermill+redis://user:top-secret@localhost?no_such=1",
		"watermill+redis://user:top-secret@localhost?max_retries=1",
		"watermill+redis://user:top-secret@localhost?maxlen=-1",
		"watermill+redis://user:top-secret@localhost?block=0s",
		"watermill+redis://user:top-secret@localhost?persistent=yes",
		"watermill+redis://user:top-secret@localhost/name",
		"watermill+redis:///0",
	} {
		b, err := backends.Open(t.Context(), rawURL)
		if err == nil {
			_ = b.Close()
			t.Errorf("%s opens", rawURL)
		} else if !errors.Is(err, backends.ErrParameter) && !errors.Is(err, backends.ErrURL) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", rawURL, err)
		}
	}
}

// TestOpenDoesNotWait: nor is the password in what it says later.
func TestOpenDoesNotWait(t *testing.T) {
	b := opened(t, "watermill+redis://user:top-secret@127.0.0.1:1")
	defer b.Close()
	if _, err := b.Publish(t.Context(), "topic", hub.Message{}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Publish without a server: %v", err)
	}
	if _, _, err := b.Follow(t.Context(), "topic", quiet{}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Follow without a server: %v", err)
	}
}

// quiet is a sink that does nothing with what it gets.
type quiet struct{}

func (quiet) Deliver(...hub.Message) {}
func (quiet) Broken(error)           {}
func (quiet) Restored(hub.ID)        {}
