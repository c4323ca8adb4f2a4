package redisstream

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/internal/retry"
)

const checkEvery = time.Second // while the server cannot be asked

// lacks are the commands of scripts that a server was found not to take, by their names as they may
// be shown.
type lacks struct{ denied, unknown []string }

// known are the lacks of a server, once they are known.
type known struct{ atomic.Pointer[lacks] }

// explain names the command that a script could not run. A reply of Redis does not, so it is one of
// those that were found to be missing.
func (k *known) explain(err error) error {
	if k == nil || k.Load() == nil {
		return err
	}
	l := k.Load()
	return named(err, strings.Join(l.denied, " and "), strings.Join(l.unknown, " and "))
}

// named puts names of commands into an error about one that is denied, or unknown, and has none.
func named(err error, denied, unknown string) error {
	f, ok := errors.AsType[*failure](err)
	switch {
	case ok && f.detail == scriptLacks && unknown != "":
		return &failure{ErrReply, "it lacks " + unknown + lacksCommand}
	case ok && f.detail == scriptDenied && denied != "":
		return &failure{ErrDenied, "NOPERM for " + denied}
	}
	return err
}

// checkup is a look at a server.
type checkup struct {
	ctx                context.Context
	opts               *Options
	keys               keys
	reading, following nodes
	lacks              *known
}

// run tells an operator, once, what is wrong with a server: that it is too old, that
// commands are missing or denied, and a configuration that loses messages. That it cannot be
// reached is said by the watch of the live path. In a cluster it asks one server.
func (c *checkup) run() {
	for c.ctx.Err() == nil {
		if client, err := c.reading.of(c.ctx, c.keys.probe()); err == nil && c.check(client) {
			c.checkConfig(client)
			return
		}
		retry.Sleep(c.ctx, checkEvery)
	}
}

// check tries the commands of the backend. It reports false when the server could not be asked.
func (c *checkup) check(client *redis.Client) bool {
	at := place{c.opts.Follow, c.reading.cluster != nil, c.opts.Replicas > 0}
	key := c.keys.probe()
	p := client.Pipeline()
	info := p.Info(c.ctx, "server")
	tried := make(map[string]redis.Cmder)
	for _, r := range rights {
		if r.args == nil || r.only != nil && !r.only(at) {
			continue
		}
		args := slices.Clone(r.args)
		for i, a := range args {
			switch a {
			case "key":
				args[i] = key
			case "channel":
				args[i] = c.keys.channel(key)
			}
		}
		tried[r.name] = p.Do(c.ctx, args...)
	}
	_, err := p.Exec(c.ctx)
	if unreached(err) || err != nil && tried["ping"].Err() == nil && tried["ping"].(*redis.Cmd).Val() == nil {
		return false // the second is so when the server refuses the connection
	}
	errs := make(map[string]error)
	for name, cmd := range tried {
		if errs[name] = cmd.Err(); unreached(cmd.Err()) {
			return false
		}
	}
	if byPubSub(at) || byShardedPubSub(at) {
		c.trySubscribing(at, errs)
	}
	c.report(at, info.Val(), errs)
	return true
}

// unreached reports whether an error says nothing about a command but that the server does not
// take any for the moment, or from this user.
func unreached(err error) bool {
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return false
	case !isReply(err):
		return true
	}
	return notReady(err) || redis.HasErrorPrefix(err, "NOAUTH") || redis.HasErrorPrefix(err, "WRONGPASS")
}

// trySubscribing tries what begins and ends a subscription, over a connection of its own.
func (c *checkup) trySubscribing(at place, errs map[string]error) {
	client, err := c.following.of(c.ctx, c.keys.probe())
	if err != nil {
		return
	}
	channel := c.keys.channel(c.keys.probe())
	ps := client.Subscribe(c.ctx)
	defer ps.Close()
	stop := context.AfterFunc(c.ctx, func() { _ = ps.Close() })
	defer stop()
	begin, end, names := ps.Subscribe, ps.Unsubscribe, []string{"subscribe", "unsubscribe"}
	if at.cluster {
		begin, end, names = ps.SSubscribe, ps.SUnsubscribe, []string{"ssubscribe", "sunsubscribe"}
	}
	for i, send := range []func(context.Context, ...string) error{begin, end} {
		if err := send(c.ctx, channel); err != nil {
			return
		}
		_, err := ps.ReceiveTimeout(withoutDial(c.ctx), followTimeout)
		if err != nil && !isReply(err) {
			return
		}
		errs[names[i]] = err
	}
}

// report logs what was found, and keeps it for the errors of calls.
func (c *checkup) report(at place, info string, errs map[string]error) {
	if version, ok := oldVersion(info, at.cluster); ok {
		c.opts.Logger.Warn("redisstream: this server is too old: Redis 6.2 or newer is needed, 7.0 in a cluster", "version", version)
	} else if version == "" && isReply(errs["xadd"]) && errors.Is(cause(errs["xadd"]), ErrReply) && !redis.HasErrorPrefix(errs["xadd"], "ERR unknown command") {
		// NOMKSTREAM came with Redis 6.2.
		c.opts.Logger.Warn("redisstream: this server seems to be too old: Redis 6.2 or newer is needed, 7.0 in a cluster")
	}
	l := &lacks{}
	var denied, unknown, deniedMore, unknownMore, lost []string
	for _, r := range rights {
		err := errs[r.name]
		if err == nil || errors.Is(err, redis.Nil) {
			continue
		}
		name, list, more := knownCommand(r.name), &denied, &deniedMore
		text := err.Error()
		switch err := cause(err); {
		case strings.Contains(text, "nknown command") || strings.Contains(text, "nknown subcommand"):
			list, more = &unknown, &unknownMore
			if r.script {
				l.unknown = append(l.unknown, name)
			}
		case !errors.Is(err, ErrDenied):
			continue
		default:
			if _, of, ok := strings.Cut(err.Error(), " for the "); ok {
				// It is not about the command.
				name = "the " + strings.TrimSuffix(of, ")") + " of topics"
			} else if r.script {
				l.denied = append(l.denied, name)
			}
		}
		if slices.Contains(*list, name) {
			continue
		}
		if r.lost != "" {
			list = more
			if !slices.Contains(lost, r.lost) {
				lost = append(lost, r.lost)
			}
		}
		if !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}
	c.lacks.Store(l)
	said := func(denied, unknown []string) (args []any) {
		if len(denied) > 0 {
			args = append(args, "denied", strings.Join(denied, ", "))
		}
		if len(unknown) > 0 {
			args = append(args, "unknown", strings.Join(unknown, ", "))
		}
		return args
	}
	if args := said(denied, unknown); len(args) > 0 {
		c.opts.Logger.Warn("redisstream: Redis does not take commands that the backend needs", args...)
	}
	if args := said(deniedMore, unknownMore); len(args) > 0 {
		c.opts.Logger.Info("redisstream: Redis does not take commands that the backend can do without", append(args, "lost", strings.Join(lost, "; "))...)
	}
}

// oldVersion returns the version that a server gives in the section server of INFO, "" for none,
// and reports whether the backend cannot work with it.
func oldVersion(info string, cluster bool) (version string, old bool) {
	_, rest, ok := strings.Cut(info, "redis_version:")
	if !ok {
		return "", false
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end < 0 {
		end = len(rest)
	}
	version = rest[:min(end, 16)]
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return "", false
	}
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	return version, major < 6 || major == 6 && minor < 2 || cluster && major < 7
}

// checkConfig tells an operator about a configuration that loses messages. Whoever may not read
// the configuration is not told.
func (c *checkup) checkConfig(client *redis.Client) {
	config, err := client.ConfigGet(c.ctx, "maxmemory-policy").Result()
	if err != nil {
		return
	}
	policy := config["maxmemory-policy"]
	// Streams have an expiry unless they are kept for ever, so the volatile policies take them too.
	if strings.HasPrefix(policy, "allkeys-") || strings.HasPrefix(policy, "volatile-") && c.opts.leastExpiry() > 0 {
		c.opts.Logger.Warn("redisstream: Redis may evict topics when its memory is full, which readers see as gaps; noeviction is the policy that does not",
			"maxmemory-policy", policy)
	}
}
