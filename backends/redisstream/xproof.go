package redisstream

import (
	"context"
	"time"

	"github.com/headrace/headrace/hub"
)

// proofEvery is how many messages apart the IDs are that a proof remembers.
const proofEvery = 1024

// waited is how long a position before a topic's first message is good where XREAD waits: the topic
// cannot come and go meanwhile. While the waiting was broken it can, but then the hub asks, too.
const waited = 24 * time.Hour

// proof remembers an ID that was delivered some time ago, for a stream whose newest entry is older
// than what was delivered last. Either it lost its newest entries, and all others were delivered;
// or it began again with lower IDs, and none was.
type proof struct {
	id, next hub.ID
	n        int // messages delivered since next
}

func (p *proof) delivered(ms []hub.Message) {
	if p.id == "" {
		p.id, p.next = ms[0].ID, ms[0].ID
	}
	if p.n += len(ms); p.n >= proofEvery {
		p.id, p.next, p.n = p.next, ms[len(ms)-1].ID, 0
	}
}

// page reads what comes after the last message that was delivered.
func (f *xfollow) page(ctx context.Context, h *history) (hub.Page, error) {
	p, err := h.page(ctx, f.stream, f.last, pageEntries, waited)
	if err != nil || !p.Gap || len(p.Messages) > 0 {
		return p, err
	}
	if f.proof.id != "" {
		if q, err := h.page(ctx, f.stream, f.proof.id, 1, waited); err != nil || !q.Gap {
			return p, err
		}
	}
	// Perhaps it began again, and perhaps more was lost than the proof goes back: the hub knows
	// what it has.
	p, err = h.page(ctx, f.stream, "", pageEntries, waited)
	p.Gap = true
	f.proof = proof{}
	return p, err
}
