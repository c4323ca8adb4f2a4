package kafka

import (
	"fmt"
	"strings"

	"github.com/headrace/headrace/hub"
)

// maxName is the greatest length of a topic's name at the broker.
const maxName = 249

// TopicName returns a topic's name at the broker: the prefix, and behind it letters, digits, dots, - and _ as they are. Every other byte is -- and two
// hexadecimal digits. So are a - before another one, before an escaped byte and at the end, and a dot or _ at the beginning, which Kafka has
// uses of its own for. Different topics have different names. A name that is too long for Kafka is hub.ErrTopic.
//
// Kafka itself refuses to make a topic whose name differs from another one's only in having dots
// for _.
func TopicName(prefix, topic string) (string, error) {
	name := []byte(prefix)
	for i := range len(topic) {
		if plain(topic, i) {
			name = append(name, topic[i])
		} else {
			name = fmt.Appendf(name, "--%02X", topic[i])
		}
	}
	if len(name) > maxName {
		return "", fmt.Errorf("kafka: %w: its name at the broker would have %d bytes, at most %d may be", hub.ErrTopic, len(name), maxName)
	}
	return string(name), nil
}

// plain reports whether the byte at a place of a topic stays as it is.
func plain(topic string, i int) bool {
	switch c := topic[i]; {
	case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		return true
	case c == '.', c == '_':
		return i > 0
	case c == '-':
		return i < len(topic)-1 && topic[i+1] != '-' && plain(topic, i+1)
	}
	return false
}

func validPrefix(prefix string) bool {
	for i := range len(prefix) {
		if !plain(prefix, i) {
			return false
		}
	}
	return !strings.HasPrefix(prefix, ".") && len(prefix) <= maxName/2
}
