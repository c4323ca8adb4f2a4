package sse

import "unicode/utf8"

const replacement = "\uFFFD"

// appendUTF8 appends b to dst with U+FFFD in place of what is not UTF-8, one
// for each longest prefix of a valid sequence, as the decoder of the WHATWG
// Encoding text does. A line can be decoded on its own: no byte of a sequence
// is a line end.
func appendUTF8(dst, b []byte) []byte {
	if utf8.Valid(b) {
		return append(dst, b...)
	}
	for len(b) > 0 {
		if r, size := utf8.DecodeRune(b); r != utf8.RuneError {
			dst = append(dst, b[:size]...)
			b = b[size:]
			continue
		}
		dst = append(dst, replacement...)
		b = b[brokenLen(b):]
	}
	return dst
}

// brokenLen returns how many bytes at the start of b, which is not empty and
// starts with U+FFFD or no valid sequence, could be those of one. It is at
// least 1.
func brokenLen(b []byte) int {
	// The first byte decides how many bytes follow and, for some, a narrower
	// range of the second: overlong forms, surrogates and values above U+10FFFF
	// are broken at the first byte already.
	var follow int
	low, high := byte(0x80), byte(0xBF)
	switch first := b[0]; {
	case first >= 0xC2 && first <= 0xDF:
		follow = 1
	case first >= 0xE0 && first <= 0xEF:
		follow = 2
		switch first {
		case 0xE0:
			low = 0xA0
		case 0xED:
			high = 0x9F
		}
	case first >= 0xF0 && first <= 0xF4:
		follow = 3
		switch first {
		case 0xF0:
			low = 0x90
		case 0xF4:
			high = 0x8F
		}
	}
	n := 1
	for n < len(b) && n <= follow && b[n] >= low && b[n] <= high {
		low, high = 0x80, 0xBF
		n++
	}
	return n
}
