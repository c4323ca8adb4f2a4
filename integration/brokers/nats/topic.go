package nats

import "fmt"

// TopicName returns a topic's subject, behind the prefix: letters, digits, - and _ stay as they
// are, and so do dots where NATS takes them, between two other characters. Every other byte is %
// and two hexadecimal digits. Different topics have different names.
func TopicName(topic string) string {
	escaped := make([]byte, 0, len(topic)+16)
	for i := range len(topic) {
		switch c := topic[i]; {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', c == '-', c == '_',
			c == '.' && i > 0 && i < len(topic)-1 && topic[i-1] != '.':
			escaped = append(escaped, c)
		default:
			escaped = fmt.Appendf(escaped, "%%%02X", c)
		}
	}
	return string(escaped)
}
