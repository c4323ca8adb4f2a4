package hub

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxTopic is the greatest length of a topic's name in bytes.
const MaxTopic = 255

// ReservedPrefix begins the names of topics that are headrace's own. Publish and Subscribe refuse
// them.
const ReservedPrefix = "_headrace/"

// CheckTopic returns nil when name may name a topic: 1 to 255 bytes of UTF-8 without control
// characters, not under ReservedPrefix. Otherwise the error is ErrTopic and says what is wrong.
func CheckTopic(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrTopic)
	case len(name) > MaxTopic:
		return fmt.Errorf("%w: it has %d bytes, %d are allowed", ErrTopic, len(name), MaxTopic)
	case !validText(name, MaxTopic):
		return fmt.Errorf("%w: it must be UTF-8 without control characters", ErrTopic)
	case internal(name):
		return fmt.Errorf("%w: names under %s are reserved", ErrTopic, ReservedPrefix)
	}
	return nil
}

// internal reports whether a topic is one of headrace's own.
func internal(topic string) bool { return strings.HasPrefix(topic, ReservedPrefix) }

// JoinTopic makes a topic's name of segments, with a slash between them. Each segment is escaped:
// a slash, a percent sign, a control character or a byte that is not UTF-8 becomes %XX. So no
// value can forge another topic's name, and equal names come from equal segments only. Topic
// templates of routes escape the same way.
func JoinTopic(segments ...string) string {
	var b strings.Builder
	for i, s := range segments {
		if i > 0 {
			b.WriteByte('/')
		}
		escapeSegment(&b, s)
	}
	return b.String()
}

func escapeSegment(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == '/' || r == '%' || r < 0x20 || 0x7f <= r && r <= 0x9f || r == utf8.RuneError && n == 1 {
			for _, c := range []byte(s[:n]) {
				b.WriteByte('%')
				b.WriteByte(hex[c>>4])
				b.WriteByte(hex[c&15])
			}
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
}
