package redisstream

import (
	"context"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// message is one that is on its way to its stream.
type message struct {
	stream  string
	key     string // that of its idempotency key, or ""
	life    string // that of the topic's life, or "" without key
	options string // for the script, without those that name keys
	fields  []any  // of the entry, without the last value
	data    []byte // the last value
	lengths []byte // of all fields and values
	last    *lastArg

	// When the job is done: what the script returned for the message, or why there is nothing.
	result string
	err    error
}

// sent reports whether the message may have reached Redis. It may be asked when the job is done.
func (m *message) sent() bool { return m.last != nil && m.last.sent(m.err) }

// callMessages and callBytes bound what one run of the publish script takes: Redis does nothing
// else meanwhile.
const (
	callMessages = 64
	callBytes    = 64 << 10
)

// batchMessages and batchBytes bound messages that are appended together: they are in one run.
const (
	batchMessages = 1024
	batchBytes    = 8 << 20
)

// call is one run of the publish script for the messages of several jobs.
type call struct {
	*job
	members  []*job
	messages []*message // those of the members
}

// appender appends messages to their streams: it runs the publish script, once for several of them.
type appender struct {
	*lanes
	opts     *Options
	suffix   string // of channels
	announce string // the command that publishes to a channel
	random   func() int
}

func newAppender(l *lanes, o *Options, suffix string) *appender {
	a := &appender{lanes: l, opts: o, suffix: suffix, announce: "PUBLISH", random: randomID}
	if l.cluster != nil {
		a.announce = "SPUBLISH"
	}
	if o.Replicas > 0 {
		l.wait = func() *redis.Cmd { return redis.NewCmd(l.ctx, "wait", o.Replicas, o.ReplicasTimeout.Milliseconds()) }
	}
	l.messages = a.write
	return a
}

// write sends the messages of a batch. Those that a server refused together, because of a key that
// belongs to one of them, are sent again alone: nothing was appended then.
func (a *appender) write(ctx context.Context, client *redis.Client, jobs []*job) {
	alone := a.callAll(ctx, client, jobs, callMessages)
	if len(alone) > 0 {
		a.callAll(ctx, client, alone, 1)
	}
}

// callAll sends messages, at most so many in one call, and gives every job its result, but for
// those that it returns.
func (a *appender) callAll(ctx context.Context, client *redis.Client, jobs []*job, most int) (refused []*job) {
	calls := a.calls(jobs, most)
	commands := make([]*job, len(calls))
	for i, c := range calls {
		commands[i] = c.job
	}
	a.send(ctx, client, commands)
	for _, c := range calls {
		err := c.cmd.Err()
		if len(c.members) > 1 && ofOneKey(err) {
			refused = append(refused, c.members...)
			continue
		}
		c.settle()
		if c.replicas < int64(a.opts.Replicas) {
			c.unreplicated()
		}
	}
	return refused
}

// ofOneKey reports whether a server refuses a call for one of its keys: for want of a right, or
// because the key is somewhere else or on its way there.
func ofOneKey(err error) bool {
	return redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "CROSSSLOT") || redis.HasErrorPrefix(err, "TRYAGAIN")
}

// calls puts messages into calls. In a cluster only those of one topic may share a call.
func (a *appender) calls(jobs []*job, most int) []*call {
	var calls []*call
	open := make(map[string]*call, 1) // by stream in a cluster
	for _, j := range jobs {
		stream := ""
		if a.cluster != nil {
			stream = j.messages[0].stream
		}
		c := open[stream]
		if c == nil || len(c.messages)+len(j.messages) > most || c.size+j.size > callBytes {
			c = &call{job: &job{}}
			open[stream] = c
			calls = append(calls, c)
		}
		c.members = append(c.members, j)
		c.messages = append(c.messages, j.messages...)
		c.size += j.size
	}
	for _, c := range calls {
		c.again, c.last = a.callCommand(c.members)
		c.cmd = c.again(false)
	}
	return calls
}

// callCommand returns what makes the command for some messages, and what tells whether it was sent.
func (a *appender) callCommand(members []*job) (command func(bySource bool) redis.Cmder, last *lastArg) {
	lastOf := members[len(members)-1].messages
	last = &lastArg{bytes: lastOf[len(lastOf)-1].data}
	var keys []any
	index := make(map[string]int, len(members))
	place := func(key string) int {
		if index[key] == 0 {
			keys = append(keys, key)
			index[key] = len(keys)
		}
		return index[key]
	}
	args := []any{
		a.opts.MaxMessages, milliseconds(a.opts.MaxAge), milliseconds(a.opts.expiry()), milliseconds(a.opts.KeyWindow),
		a.suffix, a.announce, a.random(),
	}
	for i, j := range members {
		for k, m := range j.messages {
			m.last = last
			options := m.options
			if m.key != "" {
				options += "k" + strconv.Itoa(place(m.key)) + "l" + strconv.Itoa(place(m.life))
			}
			if k == 0 && len(j.messages) > 1 {
				options += "n" + strconv.Itoa(len(j.messages))
			}
			args = append(args, place(m.stream), options, m.lengths, len(m.fields)+1)
			args = append(args, m.fields...)
			if i < len(members)-1 || k < len(j.messages)-1 {
				args = append(args, m.data)
			}
		}
	}
	return func(bySource bool) redis.Cmder {
		last.written.Store(false)
		all := append(publishScript.args(bySource, 2+len(keys)+len(args)), len(keys))
		return once{redis.NewCmd(a.ctx, append(append(append(all, keys...), args...), last)...)}
	}, last
}

// unreplicated notes for what was appended that too few replicas have it.
func (c *call) unreplicated() {
	for _, m := range c.messages {
		if m.err == nil {
			m.err = errReplicas
		}
	}
}

// settle gives each message of the call its result.
func (c *call) settle() {
	results, err := c.cmd.(once).Slice()
	for i, m := range c.messages {
		if err != nil {
			m.err = err
			continue
		}
		if i < len(results) {
			m.result, _ = results[i].(string)
		}
		if refusal, ok := strings.CutPrefix(m.result, "-"); ok {
			// Old servers have one of their own.
			m.err = redisReply(strings.TrimPrefix(refusal, "-"))
		}
	}
}
