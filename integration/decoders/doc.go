// Package decoders compares the encoder and the decoder of package sse with those of others: two
// libraries for Server-Sent Events, and the UTF-8 decoder of golang.org/x/text. It has no code of
// its own.
package decoders
