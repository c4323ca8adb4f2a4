package direct

import (
	"container/heap"
	"time"
)

// deadlines is a heap of connections by the time at which something is due.
type deadlines []*conn

// schedule sees to it that a connection is looked at by a time. One that only moves away from now
// is left where it is: when it comes up nothing is due, and it is put off.
func (d *deadlines) schedule(c *conn, due, now time.Time) {
	switch {
	case due.IsZero():
		d.remove(c)
	case c.place < 0:
		c.due = due
		heap.Push(d, c)
	case due.Before(c.due), !c.due.After(now):
		c.due = due
		heap.Fix(d, c.place)
	}
}

// remove takes a connection out, if it is in.
func (d *deadlines) remove(c *conn) {
	if c.place >= 0 {
		heap.Remove(d, c.place)
	}
}

// Len implements heap.Interface.
func (d deadlines) Len() int { return len(d) }

// Less implements heap.Interface.
func (d deadlines) Less(i, j int) bool { return d[i].due.Before(d[j].due) }

// Swap implements heap.Interface.
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push implements heap.Interface.
func (d *deadlines) Push(x any) {
	c := x.(*conn)
	c.place = len(*d)
	*d = append(*d, c)
}

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	c := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	c.place = -1
	return c
}
