package kafka

import (
	"encoding/hex"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/headrace/headrace/hub"
)

func TestTopicName(t *testing.T) {
	for topic, want := range map[string]string{
		"orders":             "orders",
		"orders.42_a-b":      "orders.42_a-b",
		"shop/orders ü":      "shop--2Forders--20--C3--BC",
		"a--b":               "a--2D-b",
		"a-":                 "a--2D",
		"a-/":                "a--2D--2F",
		"-a":                 "-a",
		".":                  "--2E",
		"..":                 "--2E.",
		"__consumer_offsets": "--5F_consumer_offsets",
		"--2F":               "--2D-2F",
	} {
		if got, err := TopicName("", topic); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", topic, got, err, want)
		}
	}
	if got, err := TopicName("live.", "a b"); err != nil || got != "live.a--20b" {
		t.Errorf("with a prefix: %q, %v", got, err)
	}
	if _, err := TopicName("", strings.Repeat("x", 249)); err != nil {
		t.Error(err)
	}
	for _, topic := range []string{strings.Repeat("x", 250), strings.Repeat("ü", 32)} {
		if _, err := TopicName("", topic); !errors.Is(err, hub.ErrTopic) {
			t.Errorf("a long topic: %v, want hub.ErrTopic", err)
		}
	}
}

var kafkaName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// A name that can be turned back has one topic.
func FuzzTopicName(f *testing.F) {
	for _, s := range []string{"orders.42", "a--b", "a-/-", "--2F", "---", "ü\xff", "__x", ".."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, topic string) {
		if topic == "" {
			t.Skip("no topic has an empty name")
		}
		name, err := TopicName("p-1.", topic)
		if err != nil {
			if len(topic) < 60 {
				t.Errorf("%q: %v", topic, err)
			}
			return
		}
		if !kafkaName.MatchString(name) {
			t.Errorf("%q: %q is no name of a topic", topic, name)
		}
		if back := unescape(t, strings.TrimPrefix(name, "p-1.")); back != topic {
			t.Errorf("%q: %q, and back: %q", topic, name, back)
		}
	})
}

func unescape(t *testing.T, name string) string {
	var topic []byte
	for name != "" {
		if !strings.HasPrefix(name, "--") {
			topic, name = append(topic, name[0]), name[1:]
			continue
		}
		b, err := hex.DecodeString(name[2:min(4, len(name))])
		if err != nil {
			t.Fatalf("%q is not escaped as it should be", name)
		}
		topic, name = append(topic, b...), name[4:]
	}
	return string(topic)
}
