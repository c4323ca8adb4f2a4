package redisstream

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	upstream "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
)

var errClosed = errors.New("redisstream: closed")

// subscriber makes a Watermill Subscriber for each subscription, because the place to begin at
// belongs to the Subscriber.
type subscriber struct {
	client *redis.Client
	block  time.Duration
	group  string // a consumer group, in tests. Default: none, every subscription gets all

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup // counts subscriptions
	ctx    context.Context
	stop   context.CancelFunc
}

func newSubscriber(client *redis.Client, block time.Duration) *subscriber {
	s := &subscriber{client: client, block: block}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Subscribe implements message.Subscriber. The channel is closed when ctx ends, and at the first
// error of a read: what was lost then cannot be known. So it is when the stream was trimmed beyond
// what has been read.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if !s.enter() {
		return nil, errClosed
	}
	end, added, err := s.end(ctx, topic)
	if err != nil {
		s.wg.Done()
		return nil, err
	}
	inner, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{
		Client:        &lent{s.client, added},
		Unmarshaller:  unmarshaller{},
		ConsumerGroup: s.group,
		// Never $, which is another place with each read: what comes between two reads of an idle
		// stream is lost.
		FanOutOldestId: end,
		OldestId:       end,
		BlockTime:      s.block,
		// Otherwise the first read of an idle stream outlives its subscription, for ever.
		DisableIndefiniteInitialBlock: true,
		ShouldStopOnReadErrors:        func(error) bool { return true },
	}, upstream.NopLogger{})
	if err != nil {
		s.wg.Done()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(s.ctx, cancel)
	messages, err := inner.Subscribe(ctx, topic)
	if err != nil {
		forget()
		cancel()
		s.wg.Done()
		return nil, err
	}
	context.AfterFunc(ctx, func() {
		defer s.wg.Done()
		forget()
		cancel()
		_ = inner.Close() // waits for its end
	})
	return messages, nil
}

func (s *subscriber) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Add(1)
	}
	return !s.closed
}

const beginning = "0-0" // is before all entries

// end returns the ID of the stream's last entry, and how many entries were ever added. Only entries
// after it are read.
func (s *subscriber) end(ctx context.Context, stream string) (id string, added int64, err error) {
	info, err := s.client.XInfoStream(ctx, stream).Result()
	switch {
	case err == nil:
		return info.LastGeneratedID, info.EntriesAdded, nil
	case strings.Contains(err.Error(), "no such key"):
		return beginning, 0, nil
	}
	return "", 0, err
}

// Close implements message.Subscriber. It waits until all subscriptions have ended.
func (s *subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
	return nil
}

// lent is the client of one subscription.
type lent struct {
	redis.UniversalClient
	place int64 // how many entries were added to the stream up to the last one that was read
}

// Close does nothing. A Watermill Subscriber closes the client that it was given.
func (*lent) Close() error { return nil }

var errTrimmed = errors.New("redisstream: entries were trimmed before they were read")

// XRead is the client's, and fails when entries may be missing in front of the first one that it
// returns, the only one that Watermill takes.
func (l *lent) XRead(ctx context.Context, a *redis.XReadArgs) *redis.XStreamSliceCmd {
	cmd := l.UniversalClient.XRead(ctx, a)
	if cmd.Err() != nil || len(cmd.Val()) == 0 || len(cmd.Val()[0].Messages) == 0 {
		return cmd
	}
	if err := l.whole(ctx, a.Streams[0], a.Streams[1]); err != nil {
		cmd.SetErr(err)
	}
	l.place++
	return cmd
}

// whole returns an error unless all that was added to the stream after an entry was there when it
// was read. Trimming begins at the oldest entry: while that one is there, nothing is missing. Where
// it is gone, so must be as many as had been added up to it, and no more.
func (l *lent) whole(ctx context.Context, stream, after string) error {
	entries, err := l.XRange(ctx, stream, after, after).Result()
	if err != nil || len(entries) > 0 {
		return err
	}
	info, err := l.XInfoStream(ctx, stream).Result()
	switch {
	case err != nil:
		return err
	case info.EntriesAdded == 0 && after == beginning: // a server before Redis 7 does not count, and at its beginning a stream has nothing to look for
		return nil
	case info.EntriesAdded == 0 || info.EntriesAdded-info.Length != l.place:
		return errTrimmed
	}
	return nil
}

// unmarshaller reads whatever comes. Watermill ends the subscription at an entry that cannot be
// read.
type unmarshaller struct {
	redisstream.DefaultMarshallerUnmarshaller
}

// Unmarshal implements redisstream.Unmarshaller, without an error. The fields of an entry that
// Watermill has not written become metadata, and data or payload the payload; where it has no UUID
// the message has none.
func (u unmarshaller) Unmarshal(values map[string]any) (*message.Message, error) {
	if m := u.regular(values); m != nil {
		return m, nil
	}
	uuid, _ := values[redisstream.UUIDHeaderKey].(string)
	m := message.NewMessage(uuid, nil)
	for field, value := range values {
		text, _ := value.(string)
		switch field {
		case redisstream.UUIDHeaderKey:
		case "payload", "data":
			m.Payload = message.Payload(text)
		default:
			m.Metadata[field] = text
		}
	}
	return m, nil
}

// regular returns nil when the entry is not Watermill's. Its metadata may be any bytes, and what
// reads them is not ours.
func (u unmarshaller) regular(values map[string]any) (m *message.Message) {
	defer func() {
		if recover() != nil {
			m = nil
		}
	}()
	m, err := u.DefaultMarshallerUnmarshaller.Unmarshal(values)
	if err != nil {
		return nil
	}
	return m
}
