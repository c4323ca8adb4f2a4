// Package session is one stream's life, whatever carries it.
//
// A [Machine] says what to write next. It has no goroutine, timer, channel or queue:
// [Machine.Next] is a pure poll that, given the time, brings frames to write and says when to ask
// again. It holds the prelude, the first checkpoint, heartbeats, rotation, expiry, drain and the
// end. Its frames come from a [Source], and are the source's shared bytes, not copies.
//
// A [Stream] is a machine with what others want of it: its context has ended, its client has
// left, the server drains. [Stream.Drive] is the loop for a writer that blocks, [Run] is that
// loop on the goroutine of a handler, [Generate] is for user code that holds the goroutine, and
// package direct has the loop for writers that do not block. None of them adds behaviour:
// whatever a client can see comes from the machine.
//
// The words of the poll are the hub's: a source or a machine is hub.Ready, hub.Waiting until its
// hub.Watcher is woken, or hub.Ended.
package session
