// Package redisstream is the backend that keeps topics in Redis Streams: any number of processes
// over one Redis have the same topics, IDs, order and replay. Importing it registers the schemes
// redis://, rediss://, unix://, valkey://, valkeys://, redis+sentinel://, rediss+sentinel://,
// redis+cluster:// and rediss+cluster:// with package backends; see [Open]. [New] uses a go-redis
// client that is there.
//
// # Keys
//
// A topic is one stream, <prefix>{<topic>}, with the prefix "headrace:" unless Options say
// otherwise; { } and % in topics are percent-encoded. The ID of a message is that of its entry:
// milliseconds of Redis' clock and a sequence number, which has a random part, so that two masters
// or a clock that steps back never give one ID to two messages. So
//
//	XRANGE headrace:{tickets/42} - + COUNT 10
//
// shows a topic. The fields of an entry are hr (the version 1, followed by b for binary data, f for
// the message that ends the topic, o with the bytes before it in a topic with a bound of bytes, s
// for the first entry of a stream, and p with an ID for the first one after everything was
// trimmed), type, h:<name> for each header, and data. Entries that are no messages have no data: d
// marks the one that a deleted topic begins with, and e one that took a message away, whose ID is
// in the field erases.
//
// <stream>:keys is a hash of the IDs of messages by digests of their idempotency keys, 16 bytes of
// SHA-256, and since is when it was begun. When it has Options.MaxKeys keys, or is as old as
// Options.KeyWindow, it becomes <stream>:keys:former, and the one of that name is forgotten.
// <stream>:erased is a sorted set of the IDs of erased messages, and <stream>:front says which
// messages before the oldest entry were erased. The Pub/Sub channel has the name of the stream,
// followed by :db<n> in a database other than 0.
//
// Entries of other programs, added with plain XADD to the topic's key, are part of the topic:
// Options.Foreign makes messages of them. They are not announced, so with FollowPubSub followers
// get them with the next message that is, or when the topic's position is checked. With
// FollowXRead, which is follow=xread in a URL, they arrive at once.
//
// # How it works
//
// Publish runs one Lua script, which appends the entry, trims, and announces the message together
// with the ID of the one before it. The stream is the truth; the announcement, over one Pub/Sub
// connection for each Redis node and process, makes it fast. After that connection was lost,
// Restored makes the hub read what it missed.
//
// With FollowXRead a few connections wait with XREAD, each at up to 256 streams; what is new is
// then read from the last delivered entry on. Another program may trim a stream so closely, as
// with XADD MAXLEN 1, that this entry is gone by then: that is said as a gap although perhaps
// nothing was missed, for there is nothing left to prove it by.
//
// Reads prove that nothing is missing by the entry with the reader's last ID, or by its being
// known as erased. After a gap they go on with what is newer than the ID.
//
// A page has as many messages as the link carries soon, one at least. A message that cannot be
// transferred even alone, within 20 seconds or at all, is tried three times and then passed over
// for a minute: readers see a gap, and the log names the topic. While Redis does not answer at all
// nothing is passed over.
//
// Delete and Erase are one script each. They append an entry and announce it as Publish does, so
// followers and readers get it in its place. The entry of a deletion expires as the topic does; as
// long as it is there, no position from before it passes for an empty topic.
//
// # How long things are there
//
// A topic without new messages expires after twice the age of its messages, but not before
// Options.MinExpiry (10 minutes), and a finished one not before 45 s. With retention=10s a finished
// topic is gone after 45 s, and one that nobody has finished after 10 minutes. Expiries are put off
// once in a second. What is known of erased messages expires with the topic or before; the entry of
// a deletion as a topic that is not finished. With KeepForever only that entry expires, after 24
// hours.
//
// Redis tells nothing of a topic that has expired. So whoever is at its newest message then has a
// gap, and so has whoever comes back to an empty topic after a time in which one may have come and
// gone, which is that of a finished topic. Options.FinishedExpiry makes that time another one.
//
// A repeated idempotency key appends nothing within Options.KeyWindow (24 hours) of the message
// with it, by Redis' clock, as long as it is one of the topic's newest Options.MaxKeys (10,000).
// That holds whatever became of the message, and also when the topic has expired. A program that
// relays messages, and tries again what it did not see acknowledged, must not be further behind
// than that. After the window a key may be used again. At most twice as many keys are there, and
// until a window after the last one; Delete forgets them.
//
// # What survives
//
//	appendonly no         nothing that is newer than the last snapshot; the loss is a gap
//	appendfsync everysec  all but about the last second before a crash of the machine; a
//	                      killed process loses nothing, and up to two seconds while the
//	                      disk is so slow that a sync is under way
//	appendfsync always    every message that Publish returned an ID for
//	replicas              a failover loses what was not replicated yet, also messages that
//	                      Publish returned an ID for; readers that had got them are told of
//	                      a gap
//
// Two things make a failover lose less. With min-replicas-to-write a master that hears no replica
// takes no writes after min-replicas-max-lag, 10 s unless configured otherwise, so one that is cut
// off from everybody else does not go on alone. Options.Replicas makes Publish wait until so many
// replicas have the message (WAIT): what was acknowledged is at one of them. Without either, a
// failover loses what the old master took until the clients leave it.
//
// # Failover
//
// A backend asks who the masters are at any sign that they have changed: a network error, a
// connection that was closed, the errors MOVED, READONLY, CLUSTERDOWN and MASTERDOWN. It does so at
// most once a second, and without any sign every three seconds. Connections to a former master are
// closed, so publishers, live readers and new readers are at the new one a second or two after it
// takes writes. A command that was certainly not sent is sent again; one whose connection was
// closed under it has an unknown outcome.
//
// The word of the sentinels counts, also where the former master lives on and can be reached. For
// that the backend holds one connection of the client that New was given, and waits at it with
// XREAD, or sends PING over it where it may not. It leaves a client whose pool has only one alone,
// and notices by its question every three seconds. go-redis asks one of the sentinels; if that one
// is cut off from the others together with the old master, its word is old.
//
// A timeout ends all connections to the server that were silent as long, since a network that has
// forgotten one has mostly forgotten all. Timeouts are for silence: a long reply over a slow link
// is waited for while it goes on, at 1 KiB in each timeout or faster, but no longer than 30
// seconds.
//
// maxmemory-policy should be noeviction: any other one evicts whole topics, which readers see as
// gaps.
//
// # Log
//
// Options.Logger gets a warning when the live path breaks and a line when it is whole again, with
// how long it was away, whether anybody reads or not: at once when the connection is closed or
// refused, after up to 8 seconds when the server is silent. Breaks within the ten seconds after a
// warning are said in one line with their number. The cause is that of the errors, see
// [ErrUnreachable] and the others; no line has an address, a password or contents.
//
// go-redis has a logger of its own for the whole process, which this package leaves alone. It
// writes a line for each connection that fails to the standard error output, with the address of
// the server. redis.SetLogger takes another one, once at the start of a program; the example
// GoRedisLog sends the lines to slog:
//
//	func (redisLog) Printf(ctx context.Context, format string, args ...any) {
//		slog.DebugContext(ctx, "go-redis", "text", fmt.Sprintf(format, args...))
//	}
//
// # Sizing
//
// An entry takes its contents and about 60 bytes. An idempotency key takes about 110 bytes, however
// long it is, or 50 where a topic has no more than 30 of them; the first one takes 170. MaxMessages
// and MaxAge bound a topic; Redis trims whole nodes of 100 entries, so somewhat more is kept. A
// process has one Pub/Sub connection, which it keeps without readers too, and up to a handful each
// for publishing and reading, for each node; see Backend.PoolStats. The client-output-buffer-limit
// for pubsub must hold what is announced while a process pauses; one that exceeds it is
// disconnected and heals.
//
// # Rights
//
// Redis 6.2 or newer is needed. A user of its own needs
//
//	~headrace:* +ping +eval +evalsha +time +exists +pexpire
//	+xadd +xtrim +xdel +xrange +xrevrange +xinfo
//
// To announce messages and to follow by FollowPubSub it needs
//
//	&headrace:* +publish +subscribe +unsubscribe
//
// FollowXRead needs the first of these, and only for processes that follow by FollowPubSub, but
//
//	+xread +client|id +client|unblock
//
// of which the last two let a newly followed topic be read at once. Idempotency keys need
//
//	+hget +hmget +hset +hlen +rename
//
// and Delete, Erase, Seek and Info
//
//	+unlink +zadd +zremrangebyrank +zscore +get +set +persist +xlen +pttl
//
// Options.Replicas needs
//
//	+wait
//
// Without +pttl an erasure behind the end of a topic hides that it is finished from who subscribes
// then, without +zscore and +get a reader at an erased message is told of a gap, and without
// +persist a topic that is kept for ever expires after it was deleted and used again.
//
// A user needs neither INFO nor CONFIG; where CONFIG GET is allowed, a dangerous maxmemory-policy
// is logged, and where INFO is, the version of a server that is too old. A database other than 0
// needs +select, and a client with a name +client|setname.
//
// New has all commands tried, in forms that change nothing. What is missing is logged by name: a
// warning for what nothing works without, a line for the rest with what is lost. The errors of
// calls name it too.
//
// # Cluster
//
// A cluster needs Redis 7.0 or newer for sharded Pub/Sub, and the user instead of the commands for
// Pub/Sub
//
//	+cluster +spublish +ssubscribe +sunsubscribe
//
// All names of a topic share its hash tag, so a topic lives on one node. Reads go to masters.
package redisstream
