package watermill

import (
	"encoding/hex"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// TestKeyedID pins IDs that brokers and clients keep: other versions of this package, and every
// instance, must make the same ones.
func TestKeyedID(t *testing.T) {
	for _, test := range []struct {
		topic, key string
		want       hub.ID
	}{
		{"orders/7", "key-1", "55754b10-2b01-59c6-832c-366c9fc2e36e"},
		{"a", "b", "79dbba72-7bfb-5c48-9df0-041ec1f6422f"},
	} {
		if got := keyedID(test.topic, test.key); got != test.want {
			t.Errorf("%q, %q: %s, want %s", test.topic, test.key, got, test.want)
		}
	}
}

// TestNewID holds that an ID is a UUID of version 7, begins with its time and is nobody else's.
func TestNewID(t *testing.T) {
	version7 := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	now := time.UnixMilli(0x0123456789ab)
	seen := make(map[hub.ID]bool)
	for range 1000 {
		id := newID(now)
		if !version7.MatchString(string(id)) || !strings.HasPrefix(string(id), "01234567-89ab-") {
			t.Fatalf("%s is not what it should be", id)
		}
		if seen[id] {
			t.Fatalf("%s twice", id)
		}
		seen[id] = true
	}
	// All bits but those of the version and the variant are filled: 1000 IDs have each at least
	// once.
	var union [16]byte
	for id := range seen {
		u, err := hex.DecodeString(strings.ReplaceAll(string(id), "-", ""))
		if err != nil {
			t.Fatal(err)
		}
		for i := range union {
			union[i] |= u[i]
		}
	}
	for i, b := range union[6:] {
		want := byte(0xff)
		switch i + 6 {
		case 6:
			want = 0x7f
		case 8:
			want = 0xbf
		}
		if b != want {
			t.Errorf("byte %d has the bits %08b only", i+6, b)
		}
	}
}
