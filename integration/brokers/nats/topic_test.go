package nats

import (
	"net/url"
	"strings"
	"testing"
)

func TestTopicName(t *testing.T) {
	for topic, want := range map[string]string{
		"orders":      "orders",
		"orders.42":   "orders.42",
		"a..b":        "a.%2Eb",
		"a...b":       "a.%2E%2Eb",
		".a.":         "%2Ea%2E",
		".":           "%2E",
		"a/b c":       "a%2Fb%20c",
		"*.>":         "%2A.%3E",
		"100%":        "100%25",
		"ü":           "%C3%BC",
		"$JS.API":     "%24JS.API",
		"with_-signs": "with_-signs",
	} {
		if got := TopicName(topic); got != want {
			t.Errorf("%q: %q, want %q", topic, got, want)
		}
	}
}

// A name that can be turned back has one topic.
func FuzzTopicName(f *testing.F) {
	for _, s := range []string{"orders.42", "a..b", ".a.", "%2E", "a b\t*>", "ü\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, topic string) {
		if topic == "" {
			t.Skip("no topic has an empty name")
		}
		name := TopicName(topic)
		if back, err := url.PathUnescape(name); err != nil || back != topic {
			t.Errorf("%q: %q, and back: %q, %v", topic, name, back, err)
		}
		for token := range strings.SplitSeq(name, ".") {
			if token == "" || strings.Trim(token, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_%") != "" {
				t.Errorf("%q: %q has the token %q", topic, name, token)
			}
		}
	})
}
