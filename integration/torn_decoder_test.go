package integration

import (
	"bytes"
	"strings"

	"github.com/headrace/headrace/sse"
)

// keeper is a decoder that keeps a torn frame over connections: WebKit's EventSource, or npm
// eventsource 1 and 2, whose decoder was made from it.
type keeper struct {
	npm bool

	line   []byte // what has come of a line
	data   string
	typ    string
	id     string // of the frame
	hasID  bool
	cursor string // what the client states when it comes back
	events []sse.Event
}

// read takes what comes on a connection.
func (k *keeper) read(p string) {
	k.line = append(k.line, p...)
	for {
		line, rest, ok := bytes.Cut(k.line, []byte("\n"))
		if !ok {
			return
		}
		k.take(string(line))
		k.line = rest
	}
}

// breakOff is the end of a connection before the end of its stream.
func (k *keeper) breakOff() {
	if k.npm {
		k.line = nil // it keeps the fields, and not half a line
	}
}

// end is the clean end of a stream.
func (k *keeper) end() {
	k.line = nil
	if !k.npm {
		k.data, k.typ, k.hasID = "", "", false
	}
}

func (k *keeper) take(line string) {
	if line == "" {
		if k.data != "" {
			k.dispatch()
		}
		k.typ = ""
		return
	}
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch name {
	case "data":
		k.data += value + "\n"
	case "event":
		k.typ = value
	case "id":
		if strings.Contains(value, "\x00") {
			return
		}
		k.id, k.hasID = value, true
		if k.npm {
			k.cursor = value
		}
	}
}

func (k *keeper) dispatch() {
	if k.hasID {
		k.cursor, k.hasID = k.id, false
	}
	typ := k.typ
	if typ == "" {
		typ = "message"
	}
	// Nobody listens to the others.
	if typ != "torn" {
		k.events = append(k.events, sse.Event{ID: k.cursor, Type: typ, Data: strings.TrimSuffix(k.data, "\n")})
	}
	k.data = ""
}

// clone returns a client that goes on by itself.
func (k *keeper) clone() *keeper {
	c := *k
	c.line = bytes.Clone(k.line)
	c.events = append([]sse.Event(nil), k.events...)
	return &c
}
