package session

import "time"

// Alarm is one reusable timer for whoever waits for deadlines. A deadline that only moved away
// does not touch it: it rings too early once, and nothing is found due. Its zero value is ready.
type Alarm struct {
	timer *time.Timer
	set   time.Time // zero when not set
}

// At returns a channel that receives at t or before, nil for the zero time.
func (a *Alarm) At(t time.Time) <-chan time.Time {
	switch {
	case t.IsZero():
		return nil
	case a.timer == nil:
		a.timer = time.NewTimer(time.Until(t))
		a.set = t
	case a.set.IsZero() || t.Before(a.set):
		a.timer.Reset(time.Until(t))
		a.set = t
	}
	return a.timer.C
}

// Rang says that the channel was received from.
func (a *Alarm) Rang() { a.set = time.Time{} }

// Stop stops the timer.
func (a *Alarm) Stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}
