package redisstream

import (
	"slices"
	"strings"
)

// right is a command that the backend uses, by its name in ACL rules. The package's documentation
// lists the same ones.
type right struct {
	name string
	// args make a call of the command that changes nothing, whatever is there. "key" and "channel"
	// in them stand for a key and a channel that no topic has. Without args it is not tried so.
	args []any
	// lost is what is lost without the command. "" if nothing works then.
	lost string
	// only says where the command is used, nil for everywhere.
	only func(place) bool
	// script reports whether a script runs the command, so that Redis may not name it.
	script bool
}

// place is what decides which commands a backend uses.
type place struct {
	follow   FollowMode
	cluster  bool
	replicas bool // Publish waits for some
}

func byPubSub(p place) bool        { return p.follow == FollowPubSub && !p.cluster }
func byShardedPubSub(p place) bool { return p.follow == FollowPubSub && p.cluster }
func byXRead(p place) bool         { return p.follow == FollowXRead }
func onSingle(p place) bool        { return !p.cluster }
func onCluster(p place) bool       { return p.cluster }
func withReplicas(p place) bool    { return p.replicas }

const (
	lostDeletes  = "Delete and Erase"
	lostKeys     = "idempotency keys"
	lostAnnounce = "what FollowPubSub gets at once"
	lostWakes    = "up to 0.05 s until a newly followed topic is read"
)

// rights are all commands of the backend but for those that go-redis needs by itself.
var rights = []right{
	{name: "ping", args: []any{"ping"}},
	{name: "eval", args: []any{"eval", "return 1", 0}},
	{name: "evalsha", args: []any{"evalsha", strings.Repeat("0", 40), 0}},
	{name: "time", args: []any{"time"}, script: true},
	{name: "exists", args: []any{"exists", "key"}, script: true},
	{name: "pexpire", args: []any{"pexpire", "key", 1000}, script: true},
	{name: "xadd", args: []any{"xadd", "key", "nomkstream", "*", "ping", ""}, script: true},
	{name: "xtrim", args: []any{"xtrim", "key", "minid", "0"}, script: true},
	{name: "xdel", args: []any{"xdel", "key", "0-1"}, script: true},
	{name: "xrange", args: []any{"xrange", "key", "-", "+", "count", 1}, script: true},
	{name: "xrevrange", args: []any{"xrevrange", "key", "+", "-", "count", 1}, script: true},
	{name: "xinfo", args: []any{"xinfo", "stream", "key"}, script: true},

	{name: "publish", args: []any{"publish", "channel", ""}, lost: lostAnnounce, only: onSingle, script: true},
	{name: "subscribe", only: byPubSub},
	{name: "unsubscribe", only: byPubSub},
	{name: "spublish", args: []any{"spublish", "channel", ""}, lost: lostAnnounce, only: onCluster, script: true},
	{name: "ssubscribe", only: byShardedPubSub},
	{name: "sunsubscribe", only: byShardedPubSub},
	{name: "cluster", only: onCluster},

	{name: "xread", args: []any{"xread", "count", 1, "streams", "key", "0"}, only: byXRead},
	{name: "client|id", args: []any{"client", "id"}, lost: lostWakes, only: byXRead},
	{name: "client|unblock", args: []any{"client", "unblock", 0}, lost: lostWakes, only: byXRead},

	{name: "hget", args: []any{"hget", "key", ""}, lost: lostKeys, script: true},
	{name: "hmget", args: []any{"hmget", "key", ""}, lost: lostKeys, script: true},
	// A value is missing.
	{name: "hset", args: []any{"hset", "key", "a", "b", "c"}, lost: lostKeys, script: true},
	{name: "hlen", args: []any{"hlen", "key"}, lost: lostKeys, script: true},
	{name: "rename", args: []any{"rename", "key", "key"}, lost: lostKeys, script: true},

	{name: "wait", args: []any{"wait", 0, 1}, only: withReplicas},

	{name: "unlink", args: []any{"unlink", "key"}, lost: lostDeletes, script: true},
	{name: "zadd", args: []any{"zadd", "key", "xx", 0, ""}, lost: lostDeletes, script: true},
	{name: "zremrangebyrank", args: []any{"zremrangebyrank", "key", 0, 0}, lost: lostDeletes, script: true},
	{name: "get", args: []any{"get", "key"}, lost: lostDeletes, script: true},
	{name: "set", args: []any{"set", "key", "", "xx"}, lost: lostDeletes, script: true},
	{name: "xlen", args: []any{"xlen", "key"}, lost: "Seek", script: true},
	{name: "pttl", args: []any{"pttl", "key"}, lost: "Info, and that a topic is finished when its newest message was erased", script: true},
	{name: "zscore", args: []any{"zscore", "key", ""}, lost: "a reader at an erased message is told of a gap"},
	{name: "persist", args: []any{"persist", "key"}, lost: "a topic that is kept for ever expires after it was deleted and used again", script: true},
}

// otherCommands are those of go-redis, and of what is only looked at.
var otherCommands = []string{
	"hello", "auth", "select", "client|setname", "client|setinfo", "client", "command", "info", "config|get", "config", "xinfo|stream",
	"cluster|slots", "cluster|shards", "cluster|info", "asking", "readonly", "sentinel",
}

// knownCommand returns a name that a server has given as that of a command, as it may be shown: ""
// for one that this package does not use. A server's text may have anything in it.
func knownCommand(name string) string {
	name = strings.ToLower(name)
	container, _, _ := strings.Cut(name, "|")
	for _, one := range []string{name, container} {
		if slices.Contains(otherCommands, one) || slices.ContainsFunc(rights, func(r right) bool { return r.name == one }) {
			return strings.ToUpper(strings.ReplaceAll(one, "|", " "))
		}
	}
	return ""
}

// namedCommand returns the command that an error reply names. Old servers have other quotes.
func namedCommand(text string) string {
	for _, before := range []string{"unknown command ", "permissions to run the "} {
		if _, rest, ok := strings.Cut(text, before); ok && rest != "" && strings.Contains("'`", rest[:1]) {
			name, _, _ := strings.Cut(rest[1:], rest[:1])
			return knownCommand(name)
		}
	}
	return ""
}

const (
	lacksCommand = ", which may be disabled or renamed; Redis 6.2 or newer is needed, 7.0 in a cluster"
	// What is said of a command that the reply does not name, as it is in a script; see known.explain.
	scriptLacks  = "it lacks a command" + lacksCommand
	scriptDenied = "NOPERM for a command of a script"
)

// lackCause is the cause of an error reply that says that there is no such command, nil if it says
// something else.
func lackCause(text string) error {
	switch {
	case strings.Contains(text, "unknown command"):
		if name := namedCommand(text); name != "" {
			return &failure{ErrReply, "it lacks " + name + lacksCommand}
		}
		return &failure{ErrReply, scriptLacks}
	case strings.Contains(text, "Unknown Redis command"): // in a script
		return &failure{ErrReply, scriptLacks}
	case strings.Contains(text, "syntax error"):
		return &failure{ErrReply, "it lacks an option; Redis 6.2 or newer is needed, 7.0 in a cluster"}
	}
	return nil
}

// denialCause is the cause of an error reply that denies something. code is that of the reply, or
// "" if it has none of its own.
func denialCause(code, text string) error {
	what := namedCommand(text)
	switch {
	case what != "":
	case strings.Contains(text, "of the keys"), strings.Contains(text, "access a key"):
		what = "the keys"
	case strings.Contains(text, "of the channels"), strings.Contains(text, "the channel mentioned"), strings.Contains(text, "access a channel"):
		what = "the channels"
	case strings.Contains(text, "this command"):
		return &failure{ErrDenied, scriptDenied}
	default:
		return &failure{ErrDenied, code}
	}
	if code == "" {
		code = "NOPERM"
	}
	return &failure{ErrDenied, code + " for " + what}
}
