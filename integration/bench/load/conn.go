//go:build linux

package main

import (
	"bytes"
	"fmt"

	"github.com/headrace/headrace/integration/bench/internal/payload"
)

// maxHeader bounds a response header.
const maxHeader = 16 << 10

// conn is one client.
type conn struct {
	fd       int
	sampled  bool   // latency is measured here
	answered bool   // it has got a byte
	header   []byte // as much of the header as has come; streaming is set when it is whole
	joined   bool   // it has got a probe
	count    int    // since the last reset
	passed   int    // how many steps of progress

	streaming bool
	stamping  bool   // the last read ended within a stamp
	torn      []byte // as much of that stamp as has come
}

// feed takes what a connection has got.
func (l *loop) feed(c *conn, data []byte, now int64) error {
	if !c.answered {
		c.answered = true
		l.answered++
		l.first = now
	}
	if !c.streaming {
		body, err := c.head(data)
		if err != nil || body == nil {
			return err
		}
		data = body
	}
	if !c.joined && bytes.IndexByte(data, payload.Probe) >= 0 {
		c.joined = true
		l.joined++
	}
	if l.latency && c.sampled {
		l.sample(c, data, now)
	}
	if n := bytes.Count(data, []byte{payload.Mark}); n > 0 {
		l.count(c, n, now)
	}
	return nil
}

// head takes bytes of the header and returns those after it, nil when it is not whole yet.
func (c *conn) head(data []byte) (body []byte, err error) {
	c.header = append(c.header, data...)
	header, body, ok := bytes.Cut(c.header, []byte("\r\n\r\n"))
	if !ok {
		if len(c.header) > maxHeader {
			return nil, fmt.Errorf("load: a header of more than %d bytes", maxHeader)
		}
		return nil, nil
	}
	line, _, _ := bytes.Cut(header, []byte("\r\n"))
	if words := bytes.Fields(line); len(words) < 2 || string(words[1]) != "200" {
		return nil, fmt.Errorf("load: the answer is %q", line)
	}
	c.streaming, c.header = true, nil
	return body, nil
}

// count counts messages of a connection.
func (l *loop) count(c *conn, n int, now int64) {
	before := c.count
	c.count += n
	l.total += n
	l.last = now
	if l.expected > 0 && before < l.expected && c.count >= l.expected {
		l.finished++
	}
	if l.step == 0 {
		return
	}
	told := l.told
	if l.receivers > 0 {
		l.told = l.total / (l.step * l.receivers)
	} else {
		l.pass(c)
	}
	if l.told > told {
		l.answer("progress %d", l.told*l.step)
	}
}

// pass counts the steps that a connection has passed, and those that all have.
func (l *loop) pass(c *conn) {
	for ; c.count >= (c.passed+1)*l.step; c.passed++ {
		if c.passed == len(l.reached) {
			l.reached = append(l.reached, 0)
		}
		l.reached[c.passed]++
	}
	for l.told < len(l.reached) && l.reached[l.told] >= len(l.conns) {
		l.told++
	}
}

// sample measures how old the messages in data are.
func (l *loop) sample(c *conn, data []byte, now int64) {
	if c.stamping {
		need := min(payload.StampSize-len(c.torn), len(data))
		c.torn = append(c.torn, data[:need]...)
		if len(c.torn) < payload.StampSize {
			return
		}
		l.keep(c.torn, now)
		c.stamping, c.torn = false, c.torn[:0]
	}
	for {
		_, after, ok := bytes.Cut(data, []byte{payload.Mark})
		if !ok {
			return
		}
		if len(after) < payload.StampSize {
			c.stamping, c.torn = true, append(c.torn, after...)
			return
		}
		l.keep(after, now)
		data = after
	}
}

func (l *loop) keep(stamp []byte, now int64) {
	if at, ok := payload.Stamp(stamp); ok && len(l.samples) < maxSamples {
		l.samples = append(l.samples, now-at)
	}
}
