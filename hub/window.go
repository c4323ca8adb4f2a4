package hub

import "github.com/headrace/headrace/internal/log"

// window is the log of a followed topic within its bounds. The followed topic's lock guards it.
type window struct {
	opts      *Options
	log       *log.Log[*Entry] // nil until open
	baseFinal bool             // the message at the log's base was Final
}

// open begins the log at the tail of the topic. notify is called at each change.
func (w *window) open(tail ID, final bool, notify func()) {
	w.log = log.New[*Entry](string(tail))
	w.log.Notify = notify
	w.baseFinal = final
}

// restart begins the log anew behind a gap. Readers that were at its end, or anywhere in it, ask
// the backend from their own last ID, and each gets its own exact answer.
func (w *window) restart(base ID) {
	w.log.Reset(string(base))
	w.baseFinal = false
}

func (w *window) evict() { w.baseFinal = w.log.Evict().Final }

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
func (w *window) endedBefore(seq uint64) bool {
	if seq == w.log.First() {
		return w.baseFinal
	}
	_, e := w.log.At(seq - 1)
	return e.Final
}

// windowSize is what a message in a window counts for: its contents, its shared wire form, and the
// bookkeeping.
func windowSize(m *Message) int { return m.size() + m.wireSize() + entryOverhead }
