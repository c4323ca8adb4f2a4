package watermill

// maxOrigins bounds how many origins of a topic are remembered.
const maxOrigins = 1024

// inRow is how many numbers that have passed must follow one another before their origin is
// believed to count from there: somebody else may have used a number far ahead.
const inRow = 3

// origins are the numbers that have come from each origin of a topic, within one subscription.
type origins struct {
	known     map[string]*origin
	forgotten bool // some were: an origin that is not known need not be new
}

type origin struct {
	first, last uint64 // of the numbers that have come
	back        uint64 // the last number that had passed when it came
	row         int    // how many of those came one after the other
}

func newOrigins() origins { return origins{known: make(map[string]*origin)} }

// verdict is what a number tells about the order of messages.
type verdict uint8

const (
	inOrder   verdict = iota
	afterLoss         // numbers before it have not come
	late              // it has passed, and its loss was said or it was shown
	missed            // it has passed, and nobody was told so far
)

// judge takes note of a number.
func (o *origins) judge(name string, seq uint64) (v verdict, lost uint64) {
	one := o.known[name]
	if one == nil {
		if len(o.known) >= maxOrigins {
			for other := range o.known {
				delete(o.known, other)
				break
			}
			o.forgotten = true
		}
		o.known[name] = &origin{first: seq, last: seq}
		if o.forgotten && seq > 1 {
			return afterLoss, 0
		}
		return inOrder, 0
	}
	if seq <= one.last {
		if seq == one.back+1 {
			one.row++
		} else {
			one.row = 1
		}
		one.back = seq
		if one.row >= inRow {
			*one = origin{first: seq, last: seq}
			return afterLoss, 0
		}
		if seq < one.first {
			one.first = seq
			return missed, 0
		}
		return late, 0
	}
	lost = seq - one.last - 1
	one.last, one.row = seq, 0
	if lost > 0 {
		return afterLoss, lost
	}
	return inOrder, 0
}
