package redisstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// commandOverhead is about what a publish command has besides the message.
const commandOverhead = 256

// maxHeaders bounds the fields of an entry: a Lua script cannot hand more than about 8,000
// arguments to a command.
const maxHeaders = 3900

// Publish implements hub.Backend. Concurrent publishes share commands; none waits for another one
// to come. The error is ErrRejected when Redis answered with an error or nothing was sent, with
// the cause (hub.ErrEnded, ErrFull, ErrDenied, …; hub.ErrTooLarge for more than 3,900 headers), and
// hub.ErrUnknown when the command was sent and no answer came, or with ErrReplicas when too few
// replicas have the message. What may have reached Redis is never sent twice.
//
// What Redis refuses after it appended the message, such as announcing it to followers, does not
// fail Publish: it is logged, at most once a minute.
func (b *Backend) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	ids, err := b.publish(ctx, topic, m)
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

// PublishAll implements hub.Backend: it is Publish for messages that are appended in one step. It
// takes at most 1,024 of them, and about 8 MiB; the error for more is hub.ErrTooLarge. If Redis
// refuses one, those before it are removed again, which nobody has seen; only if it refuses that
// too is the error hub.ErrUnknown.
//
// With a Final message last, for a topic that is finished, all IDs are that of the message that
// ended it.
func (b *Backend) PublishAll(ctx context.Context, topic string, ms []hub.Message) ([]hub.ID, error) {
	if len(ms) == 0 {
		return nil, nil
	}
	return b.publish(ctx, topic, ms...)
}

func (b *Backend) publish(ctx context.Context, topic string, ms ...hub.Message) ([]hub.ID, error) {
	if err := ctx.Err(); err != nil {
		return nil, rejected(topic, err)
	}
	if len(ms) > batchMessages {
		return nil, rejected(topic, fmt.Errorf("%w: more than %d messages together", hub.ErrTooLarge, batchMessages))
	}
	for i := range ms {
		if len(ms[i].Headers) > maxHeaders {
			return nil, rejected(topic, fmt.Errorf("%w: more than %d headers", hub.ErrTooLarge, maxHeaders))
		}
	}
	j := b.messageJob(topic, ms...)
	if len(ms) > 1 && j.size > batchBytes {
		return nil, rejected(topic, fmt.Errorf("%w: more than %d bytes together", hub.ErrTooLarge, batchBytes))
	}
	maybe, err := b.publisher.do(ctx, j.messages[0].stream, j)
	switch {
	case err != nil && maybe:
		return nil, opError("publish", topic, fmt.Errorf("%w: %w", hub.ErrUnknown, err))
	case err != nil:
		return nil, rejected(topic, callError(ctx, err))
	}
	ids := make([]hub.ID, len(ms))
	for i, m := range j.messages {
		if ids[i], err = b.outcome(ctx, topic, m); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// outcome returns the ID of a message whose job is done, or why it has none.
func (b *Backend) outcome(ctx context.Context, topic string, m *message) (hub.ID, error) {
	id, warning, warned := strings.Cut(m.result, " ")
	err := m.err
	switch {
	case err == nil && hub.ID(id).Valid():
		if warned {
			b.warn(topic, warning)
		}
		return hub.ID(id), nil
	case errors.Is(err, ErrReplicas):
		return "", opError("publish", topic, fmt.Errorf("%w: %w", hub.ErrUnknown, err))
	case err == nil, redis.HasErrorPrefix(err, partialCode):
		return "", opError("publish", topic, fmt.Errorf("%w: %w", hub.ErrUnknown, ErrReply))
	case isReply(err):
		return "", rejected(topic, b.lacks.explain(cause(err)))
	}
	err = cause(err)
	if ctx.Err() != nil {
		err = context.Cause(ctx) // that is why the connection was closed, or nothing sent
	}
	if !m.sent() {
		return "", rejected(topic, err)
	}
	return "", opError("publish", topic, fmt.Errorf("%w: %w", hub.ErrUnknown, err))
}

// messageJob returns the job that publishes messages. It keeps nothing of them: the command may
// outlive its caller.
func (b *Backend) messageJob(topic string, ms ...hub.Message) *job {
	stream := b.keys.stream(topic)
	j := &job{messages: make([]*message, len(ms)), done: make(chan struct{})}
	for i := range ms {
		m := &ms[i]
		p := &message{stream: stream, data: bytes.Clone(m.Data)}
		if m.Key != "" {
			p.key, p.life = b.keys.idempotency(stream, m.Key), lifeKey(stream)
		}
		size := len(m.Type) + len(m.Data)
		for k, v := range m.Headers {
			size += len(k) + len(v)
		}
		p.options = b.opts.bounds(topic, size)
		if m.Final {
			p.options += "f"
		}
		if m.AfterEnd {
			p.options += "e"
		}
		p.fields, p.lengths = appendFields(make([]any, 0, 5+2*len(m.Headers)), m)
		j.messages[i] = p
		j.size += commandOverhead + len(stream) + size
	}
	return j
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func rejected(topic string, err error) error {
	return opError("publish", topic, fmt.Errorf("%w: %w", hub.ErrRejected, err))
}

// callError is the cause of an error that a call got before any answer: that of its context as it
// is, any other one reduced.
func callError(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return cause(err)
}

const warnEvery = time.Minute

// warn logs what Redis refused after it appended a message. With a right that is missing, every
// publish has the same to tell.
func (b *Backend) warn(topic, warning string) {
	now := time.Now()
	last := b.warned.Load()
	if last != nil && now.Sub(*last) < warnEvery || !b.warned.CompareAndSwap(last, &now) {
		return
	}
	command, text, _ := strings.Cut(warning, ": ")
	b.opts.Logger.Warn("redisstream: a message was appended, but not all that belongs to it was done", "topic", topic,
		"command", command, "err", named(cause(redisReply(text)), command, command))
}

// redisReply is the text of an error reply.
type redisReply string

func (r redisReply) Error() string { return string(r) }

// RedisError implements redis.Error.
func (redisReply) RedisError() {}
