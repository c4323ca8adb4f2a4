package cursor

import (
	"slices"

	"github.com/headrace/headrace/hub"
)

// Lines remembers the id lines that were made last. Streams of the same topics mostly are at the
// same positions and get the same messages one after the other, so what was made for one serves
// the next, and they share the bytes. Its zero value is ready.
type Lines struct {
	lines []line
	ids   []hub.ID // of the lines, one behind the other
	next  int      // the line that is probably asked for next
	block []byte   // room for the next texts
}

// blockBytes is the size of the memory that texts are made in: an allocation for each would cost
// more than the rest. Texts are known by where they are, so no block is used twice.
const blockBytes = 4 << 10

type line struct {
	set   *Set
	first int // in ids
	text  []byte
}

const (
	// maxLines bounds what is remembered.
	maxLines = 512
	// lookAhead is how many lines are compared before a new one is made. It lets streams that are
	// a little ahead of others share with them.
	lookAhead = 4
)

// Rewind says that another stream asks next.
func (l *Lines) Rewind() { l.next = 0 }

// Forget lets go of all lines.
func (l *Lines) Forget() {
	clear(l.lines)
	clear(l.ids)
	l.lines, l.ids, l.next = l.lines[:0], l.ids[:0], 0
}

// Of returns the line that ends an event, "id: " with the cursor of at and a blank line behind
// it; see Set.Append. It is shared and must not be modified.
func (l *Lines) Of(set *Set, at []hub.ID) []byte {
	for i := l.next; i < min(l.next+lookAhead, len(l.lines)); i++ {
		if l.lines[i].is(set, at, l.ids) {
			l.next = i + 1
			return l.lines[i].text
		}
	}
	if cap(l.block) < blockBytes/16 {
		l.block = make([]byte, 0, blockBytes)
	}
	text := append(set.Append(append(l.block, "id: "...), at), "\n\n"...)
	if n := len(text); n <= cap(l.block) { // else it has outgrown the block, and is elsewhere
		text, l.block = text[:n:n], l.block[n:n]
	}
	if len(l.lines) == maxLines {
		l.Forget()
	}
	l.lines = append(l.lines, line{set, len(l.ids), text})
	l.ids = append(l.ids, at...)
	l.next = len(l.lines)
	return text
}

func (n *line) is(set *Set, at, ids []hub.ID) bool {
	if n.set != set && !slices.Equal(n.set.slots, set.slots) {
		return false
	}
	// The IDs come from the same entries mostly: equal ones are the same bytes in memory.
	return slices.Equal(ids[n.first:n.first+len(at)], at)
}
