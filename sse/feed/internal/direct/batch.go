package direct

import (
	"slices"
	"strconv"

	"github.com/headrace/headrace/sse/feed/internal/session"
)

// batch is what a shard wrote last, as it was framed. The many connections that are at the same
// position follow each other in a shard, and what was made for one is as good for the next.
type batch struct {
	bytes   []byte
	frames  [][]byte // that bytes was made of
	most    int      // the most frames since forget
	chunked bool     // how
}

// of makes b the batch of frames. When they are private, which Work.Private says, they are nobody
// else's.
func (b *batch) of(frames [][]byte, size int, chunked, private bool) {
	if !private && chunked == b.chunked && slices.EqualFunc(frames, b.frames, same) {
		return
	}
	b.frames = append(b.frames[:0], frames...)
	b.most = max(b.most, len(frames))
	b.chunked = chunked
	b.bytes = b.bytes[:0]
	if chunked {
		b.bytes = appendChunkHead(b.bytes, size)
	}
	for _, f := range frames {
		b.bytes = append(b.bytes, f...)
	}
	if chunked {
		b.bytes = append(b.bytes, crlf...)
	}
}

// forget lets go of the batch, so that an idle shard keeps no messages alive.
func (b *batch) forget() {
	clear(b.frames[:b.most])
	b.frames, b.most = b.frames[:0], 0
	if cap(b.bytes) > 2*session.BatchBytes {
		b.bytes = nil
	}
	b.bytes = b.bytes[:0]
}

// same reports whether two frames are the same bytes in memory.
func same(a, b []byte) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

const crlf = "\r\n"

func appendChunkHead(dst []byte, size int) []byte {
	return append(strconv.AppendUint(dst, uint64(size), 16), crlf...)
}

// skip returns what is left of frames, as they are framed, behind the first n bytes. It shares
// the frames.
func skip(frames [][]byte, chunked bool, size, n int) (rest [][]byte) {
	all := make([][]byte, 0, len(frames)+2)
	if chunked {
		all = append(all, appendChunkHead(nil, size))
	}
	all = append(all, frames...)
	if chunked {
		all = append(all, []byte(crlf))
	}
	for len(all) > 0 && n >= len(all[0]) {
		n -= len(all[0])
		all = all[1:]
	}
	if len(all) > 0 {
		all[0] = all[0][n:]
	}
	return slices.Clone(all)
}
