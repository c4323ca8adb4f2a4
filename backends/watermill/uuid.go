package watermill

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // a UUID of version 5 is defined by it, and keeps no secret
	"encoding/hex"
	"time"

	"github.com/headrace/headrace/hub"
)

// newID returns a UUID of version 7. It begins with the time, so that databases which index a
// message's UUID append to the index.
func newID(now time.Time) hub.ID {
	var u [16]byte
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		u[i] = byte(ms >> (40 - 8*i))
	}
	_, _ = rand.Read(u[6:]) // it never fails
	return format(u, 7)
}

// keySpace is the name space of IDs that are made of idempotency keys,
// 5d1c2b34-6f0e-4b52-9d5e-0a3d3c1f7e21.
var keySpace = [16]byte{0x5d, 0x1c, 0x2b, 0x34, 0x6f, 0x0e, 0x4b, 0x52, 0x9d, 0x5e, 0x0a, 0x3d, 0x3c, 0x1f, 0x7e, 0x21}

// keyedID returns the ID of a message with an idempotency key, a UUID of version 5. Every instance
// gives the same key of a topic the same ID.
func keyedID(topic, key string) hub.ID {
	sum := sha1.Sum([]byte(string(keySpace[:]) + topic + "\x00" + key)) //nolint:gosec // as above
	return format([16]byte(sum[:16]), 5)
}

// format sets the version and the variant of RFC 9562.
func format(u [16]byte, version byte) hub.ID {
	u[6] = u[6]&0x0f | version<<4
	u[8] = u[8]&0x3f | 0x80
	s := hex.EncodeToString(u[:])
	return hub.ID(s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:])
}
