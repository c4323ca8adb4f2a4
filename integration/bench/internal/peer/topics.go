package peer

import (
	"strconv"
	"strings"
)

// Number stands in a path for the number of a connection, which counts from 0.
const Number = "{n}"

// single is the topic where there is only one.
const single = "load"

// Topics returns the topics that are published to in turn: all but those of one connection.
func (o Options) Topics() []string {
	switch {
	case o.Spread > 0:
		return numbered(o.Spread)
	case o.Own:
		return numbered(o.Width - 1)
	case o.Width > 1:
		return numbered(o.Width)
	}
	return []string{single}
}

// Follows returns the topics of a connection.
func (o Options) Follows(number int) []string {
	switch {
	case o.Spread > 0:
		return []string{nth(number % o.Spread)}
	case o.Own:
		return append(o.Topics(), own(number))
	}
	return o.Topics()
}

// Path returns a path for the topics. Where connections follow different ones it holds Number.
func (o Options) Path() string {
	if o.Spread > 0 || o.Own {
		return "/events/" + Number
	}
	return "/events"
}

// Connection returns the number of the connection that asks for a path, 0 where the path holds
// none.
func Connection(path string) int {
	n, err := strconv.Atoi(path[strings.LastIndexByte(path, '/')+1:])
	if err != nil {
		return 0
	}
	return n
}

// round is how many messages are published before each connection has got as many as the others.
func (o Options) round() int { return max(1, o.Spread) }

func numbered(count int) []string {
	list := make([]string, count)
	for i := range list {
		list[i] = nth(i)
	}
	return list
}

func nth(i int) string { return single + "/" + strconv.Itoa(i) }

func own(connection int) string { return "own/" + strconv.Itoa(connection) }
