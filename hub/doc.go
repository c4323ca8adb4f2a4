// Package hub publishes messages to topics and follows them.
//
// A topic is a named, ordered log of messages. It needs no declaration: publishing to it is
// enough. Where the messages live is the business of a [Backend]; the hub adds what is the same
// for all of them: order, replay, hand-over from history to live, healing of broken live paths,
// gaps that are always said, bounded memory, typed topics.
//
//	h, err := hub.New(memory.New(memory.Options{}), hub.Options{})
//	...
//	id, err := h.Publish(ctx, "tickets/42", hub.Message{Type: "assigned", Data: data})
//
//	sub, err := h.Subscribe(ctx, "tickets/42", hub.After(id))
//	if err != nil { ... }
//	for m, err := range sub.All() {
//		...
//	}
//
// # Positions and gaps
//
// A subscription starts at a [Position]: [Latest], which is the default, [Earliest], [After] an
// [ID], the [Last] messages, or those [Since] a time. The position is fixed when Subscribe returns,
// so "subscribe, load a snapshot, then range" misses nothing. From there a reader gets every
// message the backend still retains, in order and once. Where messages are gone it is told before
// any later message: the loop ends with [ErrGap], or, with [MarkGaps], the next message has Gap
// set.
//
// # The life of a topic
//
// [Hub.PublishAll] appends several messages, all or none. [Hub.Finish] ends a topic, behind some
// last messages if there are any: readers come to an end, and publishing is [ErrEnded] from then
// on. [Hub.Delete] removes a topic, and [Hub.Erase] one message wherever it is kept. [Hub.Info]
// says what there is, and [Hub.Ping] whether the backend is ready. What a backend cannot do is
// [ErrUnsupported]; its [Traits] say so before.
//
// # One log per topic
//
// The first reader of a topic makes the hub follow it at the backend. One log, which all readers
// of the topic share, keeps the newest messages: the window. A reader is only a position in it. A
// reader that falls behind the window is served pages from the backend until it meets the window
// again, so a slow reader costs memory neither to the publisher nor to the other readers. A topic
// that nobody reads is let go after an idle delay.
//
// # Many readers at once
//
// [Subscription.All] is for one goroutine for each reader. Code that serves many readers with a
// few goroutines calls [Subscription.Watch] and then [Subscription.Poll], which never block: a
// change of the topic wakes each [Watcher] once, and a read that a reader needs runs beside it.
//
// # Leases
//
// A right to read is checked when a stream begins, and the stream lasts. [Hub.Lease] gives a
// context for it that ends with [ErrRevoked] when [Hub.Revoke] is called for one of the lease's
// keys, in any process over the same backend.
//
//	ctx, err := h.Lease(ctx, "user/"+user, "room/"+room) // first the lease, then the check
//	if err != nil { ... }
//	if !mayRead(user, room) { ... }
//	sub, err := h.Subscribe(ctx, "rooms/"+room)
//
// To withdraw a right, first update the data that the check reads, then call Revoke: the stream
// is then either refused by the check or ended by the revocation.
package hub
