package hub

import "github.com/headrace/headrace/internal/log"

// window is the log of a followed topic within its bounds. The followed topic's lock guards it.
type window struct {
	opts      *Options
	log       *log.Log[*Entry] // nil until open
	baseFinal bool             // the topic's end is at the log's base; see endedBefore
	// The entry at the log's base is the one with which a deleted topic began anew.
	baseDeleted bool
	// lost holds the IDs that the backend has lost since they were here, and for each the one from
	// which whoever is at it goes on, behind a gap.
	lost    map[ID]ID
	lostGap uint64 // the number of the newest such gap; see followed.gaps
}

// open begins the log at the tail of the topic. notify is called at each change.
func (w *window) open(tail *page, notify func()) {
	w.log = log.New[*Entry](string(tail.next))
	w.log.Notify = notify
	w.baseFinal, w.baseDeleted = tail.final, tail.deleted
}

// restart begins the log anew behind a gap. Readers that were at its end, or anywhere in it, ask
// the backend from their own last ID, and each gets its own exact answer.
func (w *window) restart(base ID) {
	w.log.Reset(string(base))
	w.baseFinal, w.baseDeleted, w.lost = false, false, nil
}

func (w *window) evict() {
	e := w.log.Evict()
	w.baseFinal, w.baseDeleted = e.Final || e.hushed && !e.Deleted && w.baseFinal, e.Deleted
}

// rewind takes away what is behind an ID that is in the log, or is its base. It reports false when
// the ID is neither. All entries get new sequence numbers: who is at one that stays finds it again
// by its ID, and who is at one that went, in lost.
func (w *window) rewind(to ID) bool {
	if !w.known(to) {
		return false
	}
	var kept []*Entry
	if len(w.lost) > keptLost {
		w.lost = nil
	}
	if w.lost == nil {
		w.lost = make(map[ID]ID)
	}
	end, _ := w.log.After(string(to))
	for seq := w.log.First(); seq < w.log.Next(); seq++ {
		if _, e := w.log.At(seq); seq < end {
			kept = append(kept, e)
		} else {
			w.lost[e.ID] = to
		}
	}
	for id, rejoin := range w.lost {
		if again, lost := w.lost[rejoin]; lost {
			w.lost[id] = again
		}
	}
	w.log.Reset(w.log.Base())
	for _, e := range kept {
		w.log.Append(string(e.ID), windowSize(&e.Message), e)
	}
	return true
}

// keptLost is from how many on those of earlier losses are forgotten: readers that have not been
// back since ask the backend.
const keptLost = 4096

// ids returns all IDs from the base to the newest entry, oldest first.
func (w *window) ids() []ID {
	ids := make([]ID, 0, w.log.Len()+1)
	if base := w.log.Base(); base != "" {
		ids = append(ids, ID(base))
	}
	for seq := w.log.First(); seq < w.log.Next(); seq++ {
		id, _ := w.log.At(seq)
		ids = append(ids, ID(id))
	}
	return ids
}

// erase takes the contents of a message away. Its place stays, and readers pass it over.
func (w *window) erase(id ID) {
	next, ok := w.log.After(string(id))
	if !ok || string(id) == w.log.Base() {
		return
	}
	if _, e := w.log.At(next - 1); !e.hushed && !e.Final {
		m := Message{ID: e.ID, Time: e.Time, Gap: e.Gap}
		w.log.Replace(next-1, windowSize(&m), &Entry{Message: m, hushed: true, gap: e.gap})
	}
}

// find returns the sequence number from which on the window has what is sought. It reports false
// when that may reach back further than the window.
func (w *window) find(k Seek) (seq uint64, ok bool) {
	var messages int
	var bytes int64
	for seq = w.log.Next(); seq > w.log.First(); seq-- {
		_, e := w.log.At(seq - 1)
		switch {
		case e.Deleted:
			return seq, true
		case e.hushed:
			continue
		}
		messages++
		bytes += int64(len(e.Data))
		if k.Messages > 0 && messages > k.Messages || k.Bytes > 0 && bytes > k.Bytes && messages > 1 ||
			!k.Since.IsZero() && e.Time.Before(k.Since) {
			return seq, true
		}
	}
	return seq, k.Messages > 0 && messages == k.Messages
}

// known reports whether an ID is in the log or is its base.
func (w *window) known(id ID) bool { return w.log.Has(string(id)) || string(id) == w.log.Base() }

// empty reports whether there are no messages.
func (w *window) empty() bool { return w.log == nil || w.log.Len() == 0 }

// bytes returns what the messages count for.
func (w *window) bytes() int64 {
	if w.log == nil {
		return 0
	}
	return w.log.Bytes()
}

// endedBefore reports whether the message just before a sequence number in the log ended the topic.
// Entries that erase are no messages, nor are those that were erased.
func (w *window) endedBefore(seq uint64) bool {
	for ; seq > w.log.First(); seq-- {
		if _, e := w.log.At(seq - 1); !e.hushed || e.Deleted {
			return e.Final
		}
	}
	return w.baseFinal
}

// deletedBefore reports whether the entry just before a sequence number in the log is the one with
// which the deleted topic began anew.
func (w *window) deletedBefore(seq uint64) bool {
	if seq == w.log.First() {
		return w.baseDeleted
	}
	_, e := w.log.At(seq - 1)
	return e.Deleted
}

// windowSize is what a message in a window counts for: its contents, its shared wire form, and the
// bookkeeping.
func windowSize(m *Message) int { return m.size() + m.wireSize() + entryOverhead }
