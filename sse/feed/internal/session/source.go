package session

import (
	"sync"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed/internal/cursor"
)

// Source is where a machine's frames come from. Its methods are called one at a time.
type Source interface {
	// Watch has w woken, from now on until the source is closed, whenever Poll may find something
	// else than before. It is called once, before the first Poll.
	Watch(w Waker)
	// Poll appends the next frames to w: as many as there are up to about budget bytes, and at
	// least one if there is one. It never blocks on anything but user code. With hub.Ready it is
	// worth polling again at once, with hub.Waiting when the watcher was woken. With hub.Ended
	// nothing comes any more, and the error says why: nil for the natural end, ErrShutdown,
	// ErrRevoked, ErrRotated, ErrClientGone, or a failure.
	Poll(w *Work, budget int) (hub.Status, error)
	// Checkpoint returns the cursor of what was passed over since the last frame with an id, "" if
	// nothing was. It counts as told then.
	Checkpoint() string
}

// Waker is woken when a stream may have something to write.
type Waker interface {
	// Wake is for what concerns this stream alone.
	hub.Watcher
	// Topic returns what is to be woken when the topic changes that is i-th in the source.
	// Streams of the same topic may share it.
	Topic(i int) hub.Watcher
}

// MaxEntries is how many entries of a topic a source takes in one poll.
const MaxEntries = 64

// Work is what a step of a stream needs while it lasts. A driver lends it to one stream after the
// other, so that a stream that waits holds nothing.
type Work struct {
	// Frames are what the step has to write, in order. They are shared and read-only.
	Frames [][]byte
	// Events is how many messages are among them.
	Events int
	// UserCode is set by a source that runs user code in the step.
	UserCode bool
	// Entries is room for a source to poll into.
	Entries [MaxEntries]*hub.Entry
	// Lines are the id lines that were made last.
	Lines cursor.Lines

	most    int    // the most frames of a step since Forget
	private []byte // the frames that were made for this connection alone, one behind the other
}

// Append appends a frame that is made for one connection alone, in memory that the next step uses
// again. encode appends it to a slice and returns the result, as sse.AppendEvent does; when it
// returns an error there is no frame.
func (w *Work) Append(encode func(dst []byte) ([]byte, error)) error {
	before := len(w.private)
	all, err := encode(w.private)
	if err != nil {
		return err
	}
	w.private = all
	w.Frames = append(w.Frames, all[before:len(all):len(all)])
	return nil
}

// Private returns how many bytes of the frames were made by Append. Where there are any, frames
// that are the same memory need not be the same bytes, and who keeps them beyond the step copies
// them.
func (w *Work) Private() int { return len(w.private) }

// begin makes w ready for a step.
func (w *Work) begin() {
	w.most = max(w.most, len(w.Frames))
	w.Frames, w.Events, w.UserCode, w.private = w.Frames[:0], 0, false, w.private[:0]
	w.Lines.Rewind()
}

// Size returns how many bytes the frames have together.
func (w *Work) Size() (size int) {
	for _, f := range w.Frames {
		size += len(f)
	}
	return size
}

// Forget lets go of the frames: idle work must keep no messages alive.
func (w *Work) Forget() {
	clear(w.Frames[:max(w.most, len(w.Frames))])
	clear(w.Entries[:]) // of a poll that panicked
	w.Frames, w.most = w.Frames[:0], 0
	if cap(w.Frames) > maxFrames {
		w.Frames = nil
	}
	if w.private = w.private[:0]; cap(w.private) > 2*BatchBytes {
		w.private = nil
	}
	w.Lines.Forget()
}

// maxFrames is the longest list of frames that idle work keeps.
const maxFrames = 4096

// works are lent to drivers for a step.
var works = sync.Pool{New: func() any { return new(Work) }}
