package watermill

// maxOrigins bounds how many origins of a topic are remembered. One that was forgotten is counted from its next message on.
const maxOrigins = 1024

// origins are the numbers that have come from each origin of a topic, within one subscription.
type origins map[string]uint64

// verdict is what a number tells about the order of messages.
type verdict uint8

const (
	inOrder verdict = iota
	afterLoss
	late // it, or a later one, has come before
)

// judge takes note of a number.
func (o origins) judge(origin string, seq uint64) (v verdict, lost uint64) {
	last, known := o[origin]
	switch {
	case !known:
		if len(o) >= maxOrigins {
			for forgotten := range o {
				delete(o, forgotten)
				break
			}
		}
	case seq <= last:
		return late, 0
	case seq > last+1:
		v, lost = afterLoss, seq-last-1
	}
	o[origin] = seq
	return v, lost
}
