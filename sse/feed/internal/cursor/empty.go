package cursor

import (
	"encoding/binary"
	"strings"
)

// Empty reports whether a cursor is a vector that has no topic at all: a stream gives it whose
// topics have no position yet that has an ID. It states nothing.
func Empty(cursor string) bool {
	text, ok := strings.CutPrefix(cursor, Prefix)
	if !ok || len(text) > maxEmpty || strings.ContainsAny(text, "\r\n") {
		return false
	}
	raw, err := vectorEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	entries, n := binary.Uvarint(raw)
	_, ok = New(nil).Parse(cursor)
	return ok && n > 0 && entries>>1 == 0
}

// maxEmpty is the length of two uvarints in base64url.
const maxEmpty = 27
