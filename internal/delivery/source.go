package delivery

import "context"

// Source is where a machine's frames come from. Its methods are called one at a time.
type Source interface {
	// Poll appends the next frames to dst: as many as there are up to about budget bytes, and at least one if there is one. It never blocks.
	// The frames are shared and read-only.
	Poll(dst [][]byte, budget int) Batch
	// Fetch does the blocking work that a Behind asked for, until it is done or ctx ends. Its outcome shows in the next Poll.
	Fetch(ctx context.Context) error
	// Checkpoint returns the cursor of what was passed over since the last frame with an id; "" if nothing was. It counts as told then.
	Checkpoint() string
}

// Batch is the answer of Source.Poll.
type Batch struct {
	Status Status
	// Frames is dst with the new frames appended.
	Frames [][]byte
	// Events is how many of the new frames are messages.
	Events int
	// Gap says that messages before the first new frame (or, without new frames, before At) are gone.
	Gap bool
	// At names the place the source holds after a Gap without frames; "" if it has no name.
	At string
	// Changed, with Waiting, is closed when it is worth polling again; so is any of Also, which are valid until the next Poll. Nil means that the driver knows by itself.
	Changed <-chan struct{}
	Also    []<-chan struct{}
	// Err, with Ended, says why: nil for the natural end, ErrShutdown, ErrClientGone, or a failure.
	Err error
}

// Status is what a source has to say about its next frames.
type Status uint8

const (
	// Ready: the batch holds frames or a gap; poll again after them.
	Ready Status = iota
	// Waiting: there is nothing now.
	Waiting
	// Behind: what comes next needs a Fetch.
	Behind
	// Ended: nothing comes any more.
	Ended
)
