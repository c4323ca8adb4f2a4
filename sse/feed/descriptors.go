package feed

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// process counts the streams of the process, whatever Limits they have: they share its file
// descriptors.
var process = &descriptors{most: sync.OnceValue(func() int64 { return roomFor(descriptorLimit()) })}

// descriptors keep some of the process' file descriptors free of streams. When none is left, the
// server can accept no connection, and no request is answered.
type descriptors struct {
	most   func() int64 // how many streams there may be by default, 0 for any number
	open   atomic.Int64
	warned atomic.Int64 // when, in Unix nanoseconds; 0 for never
}

// mostSpare is how many descriptors are kept free at most. More requests than that at once
// are rare, and who is refused lets go of a descriptor at once.
const mostSpare = 1024

// roomFor returns how many of a process' descriptors may be those of streams; limit 0, which is
// an unknown one, gives 0.
func roomFor(limit int64) int64 { return limit - min(limit/4, mostSpare) }

// acquire counts a stream as open until release is called once. It reports false when there are
// bound streams already; bound 0 stands for the default.
func (d *descriptors) acquire(bound int) bool {
	most := int64(bound)
	if bound <= 0 {
		most = d.most()
	}
	if n := d.open.Add(1); most > 0 && n > most {
		d.open.Add(-1)
		return false
	}
	return true
}

func (d *descriptors) release() { d.open.Add(-1) }

// warn says that streams are refused, at most once a minute: those who are refused come back.
func (d *descriptors) warn(logger *slog.Logger) {
	now, last := time.Now().UnixNano(), d.warned.Load()
	if last != 0 && now-last < int64(time.Minute) || !d.warned.CompareAndSwap(last, now) {
		return
	}
	logger.Warn("headrace: streams are refused, because the other file descriptors of the process are kept for requests; "+
		"raise the limit (ulimit -n, LimitNOFILE), or set Limits.Process",
		"open", d.open.Load(), "default", d.most())
}
