// Package delivery is one connection's life: a state machine that says what to write next, and the drivers that run it.
//
// A [Machine] has no goroutine, no timer, no channel and no queue. [Machine.Next] is a pure poll: given the time, it returns frames to write, which are the
// shared bytes of its [Source] and not copies, and what to wait for. It holds the prelude, priming, gap events, heartbeats, rotation, expiry, drain and the end.
//
// A driver owns the socket and the waiting, partial writes included. [Run] is the one for a handler's goroutine; [Generate] is the one for user code that holds
// the goroutine. A driver adds no behaviour: whatever a client can see comes from the machine.
package delivery
