package redisstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/headrace/headrace/hub"
)

// commandOverhead is about what a publish command has besides the message.
const commandOverhead = 256

// maxHeaders bounds the fields of an entry: a Lua script cannot hand more than about 8,000
// arguments to a command.
const maxHeaders = 3900

// Publish implements hub.Backend. Concurrent publishes share commands; none waits for another one
// to come. The error is ErrRejected when Redis answered with an error or nothing was sent, with
// the cause (ErrFull, ErrDenied, …; hub.ErrTooLarge for more than 3,900 headers), and
// hub.ErrUnknown when the command was sent and no answer came. It is never sent twice.
//
// What Redis refuses after it appended the message, such as announcing it to followers, does not
// fail Publish: it is logged, at most once a minute.
func (b *Backend) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	if err := ctx.Err(); err != nil {
		return "", rejected(topic, err)
	}
	if len(m.Headers) > maxHeaders {
		return "", rejected(topic, fmt.Errorf("%w: more than %d headers", hub.ErrTooLarge, maxHeaders))
	}
	j := b.messageJob(topic, &m)
	maybe, err := b.publisher.do(ctx, j.message.stream, j)
	switch {
	case err != nil && maybe:
		return "", opError("publish", topic, fmt.Errorf("%w: %w", hub.ErrUnknown, err))
	case err != nil:
		return "", rejected(topic, callError(ctx, err))
	}
	id, warning, warned := strings.Cut(j.message.result, " ")
	err = j.message.err
	switch {
	case err == nil && hub.ID(id).Valid():
		if warned {
			b.warn(topic, warning)
		}
		return hub.ID(id), nil
	case err == nil:
		return "", opError("publish", topic, fmt.Errorf("%w: %w", hub.ErrUnknown, ErrReply))
	case isReply(err):
		return "", rejected(topic, cause(err))
	}
	err = cause(err)
	if ctx.Err() != nil {
		err = context.Cause(ctx) // that is why the connection was closed, or nothing sent
	}
	if !j.message.sent() {
		return "", rejected(topic, err)
	}
	return "", opError("publish", topic, fmt.Errorf("%w: %w", hub.ErrUnknown, err))
}

// messageJob returns the job that publishes m. It keeps nothing of m: the command may outlive its
// caller.
func (b *Backend) messageJob(topic string, m *hub.Message) *job {
	p := &message{stream: b.keys.stream(topic), data: bytes.Clone(m.Data)}
	if m.Key != "" {
		p.key = b.keys.idempotency(p.stream, m.Key)
	}
	p.fields, p.lengths = appendFields(make([]any, 0, 5+2*len(m.Headers)), m)
	size := commandOverhead + len(p.stream) + len(m.Type) + len(m.Data)
	for k, v := range m.Headers {
		size += len(k) + len(v)
	}
	return &job{size: size, message: p, done: make(chan struct{})}
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
		"command", command, "err", cause(redisReply(text)))
}

// redisReply is the text of an error reply.
type redisReply string

func (r redisReply) Error() string { return string(r) }

// RedisError implements redis.Error.
func (redisReply) RedisError() {}
