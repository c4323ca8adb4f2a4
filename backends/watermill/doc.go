// Package watermill is the backend over any Watermill Pub/Sub, so that people who already run
// NATS, Kafka, RabbitMQ or PostgreSQL through Watermill can put live feeds in front of them:
// [New] makes a backend of a Publisher and a Subscriber. In the other direction [NewPublisher]
// makes a Watermill Publisher of a hub.
//
// # What it can promise
//
// A Watermill Pub/Sub has no positions: nothing can be read again from a position. So each process
// replays from its own window, the messages that it has seen since it began to follow the topic;
// a cursor from before that, or from an instance that has seen more, is answered with a gap.
// Within the window all promises hold, and a loss is said wherever it can be noticed. Who wants
// replay across restarts takes backends/redisstream.
//
// The ID of a message is made when it is published and travels with it, so it is the same on
// every instance. An idempotency key makes the ID: a repeat is appended once more at the broker,
// and readers that have the first one in their window drop it.
//
// # What the Pub/Sub must give
//
// Every instance needs every message. A Subscriber with a consumer group, or a queue, that
// instances share gives each message to one of them only: the first Follow finds that out and
// fails with [ErrCompeting]. Options declare what the Pub/Sub gives besides; what is not declared
// is not relied upon.
//
// # On the wire
//
// The payload is the data, untouched, and the UUID is the ID. The rest is metadata: headrace_id,
// headrace_type, headrace_flags (b for binary data, f for the message that ends the topic),
// headrace_time in milliseconds, headrace_headers in the form of a URL's query, and
// headrace_origin with headrace_seq, which count what one process publishes to the topic.
// Messages of other programs are shown as Options.Decode says; what is malformed is skipped and
// counted, and never stops a topic.
//
// Many a Subscribe returns before the broker really delivers, and a subscription that is dead
// looks like a quiet one. So the backend publishes probes: messages without payload and with
// headrace_probe, which no reader ever sees. One is sent every 100 ms until one comes back,
// before Follow returns; one every 30 s proves that the subscription still lives.
// Options.NoProbes is for topics that must not be written to.
//
// # Losses and order
//
// A subscription that was closed, fell silent or had to be reopened may have missed messages: the
// next message follows a gap. With Options.Ordered so does a message whose predecessor of the
// same origin did not come, which also tells of losses that the broker keeps to itself; a message
// that comes after a later one of its origin, redelivered or out of order, is not shown, for its
// position has passed. Messages are acknowledged when they are in the window.
//
// Not everything can be noticed: the loss of the first messages of an origin that nobody has
// heard of; without a declared order any loss in a subscription that lives on; and, of messages
// of other programs, which have no numbers, any that the Subscriber does not report by closing
// its channel.
package watermill
