package redisstream

import (
	"sync"

	"github.com/headrace/headrace/hub"
)

const (
	// keptSizes is of how many streams it is remembered how large their entries are.
	keptSizes = 4096
	// firstEntries bounds the first page of a stream of which nothing is known. If it was small, a
	// second one follows at once.
	firstEntries = 16
	// guessedEntry is what an entry may have where nothing is known.
	guessedEntry = 1 << 10
	// From largeEntry on entries are read by the script, which looks at the bytes, until the link
	// has shown that it carries a page; and from hugeEntry on always, for the proof of a page would
	// be a good part of it. The script costs Redis more than XRANGE does.
	largeEntry = 16 << 10
	hugeEntry  = 128 << 10
)

// sizes remembers about how large the entries of streams are: XRANGE takes a number of entries, and
// a page should have a number of bytes.
type sizes struct {
	mu      sync.Mutex
	streams map[string]size
}

// size is what is known of a stream, the zero size nothing.
type size struct {
	entry int  // about the bytes of an entry
	more  bool // there was more behind what was read last
}

func (s *sizes) of(stream string) size {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[stream]
}

// learn takes into account what was read: at once when entries are larger than was known, half of
// the way when they are smaller.
func (s *sizes) learn(stream string, entries, bytes int, more bool) {
	if entries == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.streams[stream]
	is := size{max(bytes/entries, old.entry/2, 1), more}
	if is == old {
		return
	}
	if !known && len(s.streams) >= keptSizes {
		for some := range s.streams {
			delete(s.streams, some)
			break
		}
	}
	if s.streams == nil {
		s.streams = make(map[string]size)
	}
	s.streams[stream] = is
}

// ask is what one command asks of a stream.
type ask struct {
	entries int
	bytes   int // most, where the script reads
	script  bool
	reply   int // about the bytes of the reply
	budget  int // most bytes of the page
	via     *batcher
}

// ask decides what to ask of a stream for a page, of which there are some bytes already. budget is
// that of the link.
func (s *sizes) ask(stream string, limit, used, budget int) ask {
	is := s.of(stream)
	a := ask{entries: limit, bytes: max(budget-used, 1), budget: budget}
	if is.entry == 0 {
		a.script = true
		a.entries, a.bytes = min(limit, firstEntries), min(a.bytes, firstBudget)
		a.reply = a.entries * guessedEntry
	} else {
		a.script = budget < firstBudget || is.entry >= largeEntry && budget < hub.PageBytes || is.entry >= hugeEntry
		a.entries = min(limit, a.bytes/is.entry+1)
		a.reply = a.entries * is.entry
	}
	if !is.more {
		// Most reads find little that is new.
		a.reply /= 8
	}
	return a
}
