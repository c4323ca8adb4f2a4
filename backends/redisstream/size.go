package redisstream

import "sync"

const (
	// keptSizes is of how many streams it is remembered how large their entries are.
	keptSizes = 4096
	// firstEntries bounds the first page of a stream of which nothing is known. If it was small, a
	// second one follows at once.
	firstEntries = 16
	// guessedEntry is what an entry may have where nothing is known.
	guessedEntry = 1 << 10
	// largeEntry is from which size on entries are read by the script, which looks at the bytes.
	// It costs Redis more for each entry than XRANGE does.
	largeEntry = 16 << 10
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

// ask decides what to ask of a stream, for at most so many entries and bytes, over a link.
func (s *sizes) ask(stream string, limit, bytes int, slow bool) ask {
	is := s.of(stream)
	a := ask{entries: limit, bytes: bytes, script: slow || is.entry >= largeEntry}
	switch {
	case is.entry == 0:
		a.script = true
		a.entries, a.bytes = min(limit, firstEntries), min(bytes, firstBudget)
		a.reply = a.entries * guessedEntry
	default:
		a.entries = min(limit, bytes/is.entry+1)
		a.reply = a.entries * is.entry
	}
	if !is.more {
		// Most reads find little that is new.
		a.reply /= 8
	}
	return a
}
