package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
)

// heartbeat is how often the server shows that a quiet consumer lives. The client makes a new one,
// from the message after the last, when two are missing.
const heartbeat = time.Second

// subscriber opens one of Watermill's subscribers for each topic, since their end must be
// supervised one by one: Watermill closes the channel of a subscription that is let go while a
// message may be on its way into it, which ends the process.
type subscriber struct {
	stream nats.StreamConfig

	mu   sync.Mutex
	conn *nats.Conn
	made time.Time          // when the stream was made
	life context.Context    // of subscriptions to this stream
	end  context.CancelFunc // ends them
}

// ensure makes the stream unless it is there. Watermill makes none, or one for each topic.
//
// Subscriptions to a stream that was made anew end. They would wait for the next number of the old
// one.
func (s *subscriber) ensure(ctx context.Context, conn *nats.Conn) error {
	js, err := conn.JetStream()
	if err != nil {
		return err
	}
	info, err := js.StreamInfo(s.stream.Name, nats.Context(ctx))
	if errors.Is(err, nats.ErrStreamNotFound) {
		stream := s.stream
		info, err = js.AddStream(&stream, nats.Context(ctx))
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.stream.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.made.Equal(info.Created) {
		return nil
	}
	if s.end != nil {
		s.end()
	}
	s.conn, s.made = conn, info.Created
	s.life, s.end = context.WithCancel(context.Background())
	return nil
}

// ensureAgain makes the stream on a server that came back without: one in memory is gone then.
// JetStream may need a moment.
func (s *subscriber) ensureAgain(conn *nats.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for s.ensure(ctx, conn) != nil && ctx.Err() == nil && conn.IsConnected() {
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// ensureFor is ensure within bounded time, which a request to JetStream must have.
func (s *subscriber) ensureFor(ctx context.Context, conn *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return s.ensure(ctx, conn)
}

// Subscribe implements message.Subscriber: from now on, every message, in the order of the stream.
func (s *subscriber) Subscribe(ctx context.Context, subject string) (<-chan *message.Message, error) {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if err := s.ensureFor(ctx, conn); err != nil { // somebody may have deleted the stream
		return nil, err
	}
	s.mu.Lock()
	life := s.life
	s.mu.Unlock()
	ctx, stop := context.WithCancel(ctx)
	g := &gate{stop: stop, dropped: func(last uint64) bool { return s.dropped(ctx, conn, last) }}
	// No logger: with each message Watermill acknowledges what an ordered consumer needs no
	// acknowledgement for, and logs that as an error.
	inner, err := wmnats.NewSubscriberWithNatsConn(conn, wmnats.SubscriberSubscriptionConfig{
		Unmarshaler: g,
		JetStream: wmnats.JetStreamConfig{
			AckAsync: true,
			// An ordered consumer begins anew where it was when it, or the server, was away. A
			// plain one that the server forgot is silent for ever.
			SubscribeOptions: []nats.SubOpt{nats.OrderedConsumer(), nats.DeliverNew(), nats.IdleHeartbeat(heartbeat)},
		},
	}, nil)
	if err != nil {
		stop()
		return nil, err
	}
	running, cancel := context.WithCancel(context.Background()) // ends when nothing is on its way any more
	in, err := inner.Subscribe(running, subject)
	if err != nil {
		cancel()
		stop()
		return nil, err
	}
	out := make(chan *message.Message)
	ended := context.AfterFunc(life, stop)
	go func() {
		defer close(out)
		defer cancel()
		defer stop()
		defer ended()
		g.forward(ctx, in, out)
	}()
	return out, nil
}

// dropped reports whether the stream may have lost messages after the one with the number last.
func (s *subscriber) dropped(ctx context.Context, conn *nats.Conn, last uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	js, err := conn.JetStream()
	if err != nil {
		return true
	}
	info, err := js.StreamInfo(s.stream.Name, nats.Context(ctx))
	// The limit of a subject makes holes in the middle of a stream, which the first number does not
	// tell of.
	return err != nil || info.State.FirstSeq > last+1 || info.Config.MaxMsgsPerSubject > 0
}

// Close implements message.Subscriber. The connection is not the subscriber's own.
func (s *subscriber) Close() error { return nil }

// gate is the unmarshaler of one subscription. What does not pass it is not sent into the channel.
type gate struct {
	stop    func()                 // ends the subscription
	dropped func(last uint64) bool // whether the stream may have lost messages after a number
	last    uint64                 // number in the stream of the last message. Only Unmarshal uses it, which is called for one message after the other

	mu     sync.Mutex
	shut   bool
	passed int
}

var errShut = errors.New("nats: the subscription ends")

// Unmarshal implements wmnats.Unmarshaler. It fails for no message: Watermill drops one that fails
// without a word, and of values in a repeated header the first one counts. When the stream has
// dropped messages that the consumer was to resume at, it shuts the gate, and the subscription
// ends.
func (g *gate) Unmarshal(m *nats.Msg) (*message.Message, error) {
	whole := g.resumes(m)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !whole {
		g.shut = true
		g.stop()
	}
	if g.shut {
		return nil, errShut
	}
	g.passed++
	got := message.NewMessage(m.Header.Get(wmnats.WatermillUUIDHdr), m.Data)
	for k, values := range m.Header {
		if k != wmnats.WatermillUUIDHdr && len(values) > 0 {
			got.Metadata.Set(k, values[0])
		}
	}
	return got, nil
}

// resumes reports whether a message is from where the one before it left off. A consumer that the
// client made anew counts from 1 again, and begins at the first message that the stream still has.
func (g *gate) resumes(m *nats.Msg) bool {
	meta, err := m.Metadata()
	if err != nil {
		return true // not from a stream
	}
	last := g.last
	g.last = meta.Sequence.Stream
	anew := meta.Sequence.Consumer == 1 && last > 0
	return !anew || meta.Sequence.Stream <= last+1 || !g.dropped(last)
}

// forward hands messages on until ctx ends, and takes then what has passed the gate.
func (g *gate) forward(ctx context.Context, in <-chan *message.Message, out chan<- *message.Message) {
	received := 0
	for ctx.Err() == nil {
		select {
		case m := <-in:
			received++
			select {
			case out <- m:
			case <-ctx.Done():
				m.Ack()
			}
		case <-ctx.Done():
		}
	}
	g.mu.Lock()
	g.shut = true
	passed := g.passed
	g.mu.Unlock()
	for ; received < passed; received++ {
		m := <-in
		m.Ack()
	}
}
