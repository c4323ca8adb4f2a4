package redisstream

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

const (
	neededLine   = "does not take commands that the backend needs"
	optionalLine = "does not take commands that the backend can do without"
	checkedLine  = "Redis may evict topics" // the check's last word, with a policy that evicts
)

// checked is a backend whose server has been checked: the policy has it say so at the end.
func checked(t *testing.T, s *server, o Options, rights ...any) (*rig, *said) {
	t.Helper()
	if err := s.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	if len(rights) > 0 {
		if err := s.Do(t.Context(), append([]any{"ACL", "SETUSER", "default"}, rights...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	log := newSaid()
	o.Logger = log.Logger
	r := newRig(t, s.addr, o)
	log.want(t, checkedLine, 1)
	return r, log
}

// line returns the line of a log that has a text, "" if there is none.
func (s *said) line(text string) string {
	for line := range strings.Lines(s.String()) {
		if strings.Contains(line, text) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// TestMissingRights takes commands away and wants them named, in the log and in the errors of
// calls, also where Redis does not name them.
func TestMissingRights(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rights                  string
		follow                  FollowMode
		needed, optional        string // in the log
		publish, read, followed string // in the errors, "" for none
	}{
		{rights: "+@all"},
		{rights: "+@all", follow: FollowXRead},
		{rights: "-xadd", needed: "denied=XADD", publish: "XADD"},
		{rights: "-xadd -set -xinfo", needed: `denied="SET, XADD, XINFO"`, publish: "SET and XADD and XINFO"},
		{rights: "-xrange", needed: "denied=XRANGE", read: "XRANGE"},
		{rights: "-evalsha", needed: "denied=EVALSHA", publish: "EVALSHA", followed: "EVALSHA", read: "EVALSHA"},
		{rights: "-subscribe", needed: "denied=SUBSCRIBE", followed: "SUBSCRIBE"},
		{rights: "-subscribe", follow: FollowXRead},
		{rights: "-xread", follow: FollowXRead, needed: "denied=XREAD", followed: "XREAD"},
		{rights: "-xread"},
		{rights: "-client|unblock", follow: FollowXRead, optional: `denied="CLIENT UNBLOCK" lost="up to 0.05 s`},
		{rights: "-unlink -zadd -pttl", optional: `denied="UNLINK, ZADD, PTTL" lost="Delete and Erase; Info`},
		{rights: "-xlen", optional: "denied=XLEN lost=Seek"},
		{rights: "-publish", optional: "denied=PUBLISH"},
		{rights: "resetchannels", needed: `denied="the channels of topics"`, optional: `denied="the channels of topics"`, followed: "the channels"},
		{rights: "resetkeys ~other*", needed: `denied="the keys of topics"`, publish: "the keys", read: "the keys", followed: "the keys"},
	} {
		t.Run(test.rights+map[FollowMode]string{FollowXRead: ", xread"}[test.follow], func(t *testing.T) {
			t.Parallel()
			var rights []any
			for right := range strings.FieldsSeq(test.rights) {
				rights = append(rights, right)
			}
			r, log := checked(t, startServer(t), Options{Follow: test.follow}, rights...)
			for text, want := range map[string]string{neededLine: test.needed, optionalLine: test.optional} {
				if got := log.line(text); (got != "") != (want != "") || !strings.Contains(got, want) {
					t.Errorf("logged %q, want %q", got, want)
				}
			}
			check := func(what string, err error, want string) {
				t.Helper()
				if (err != nil) != (want != "") || err != nil && (!errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "NOPERM for "+want+")")) {
					t.Errorf("%s: %v, want %s", what, err, want)
				}
			}
			_, err := r.Publish(t.Context(), "t", hub.Message{})
			check("Publish", err, test.publish)
			_, err = r.Read(t.Context(), "t", "", 10)
			check("Read", err, test.read)
			_, _, err = r.Follow(t.Context(), "t", &recorder{})
			check("Follow", err, test.followed)
			if strings.Contains(log.String(), "headrace:") {
				t.Errorf("the log shows a key:\n%s", log)
			}
		})
	}
}

// TestCheckChangesNothing: the check leaves no key, and asks a server once.
func TestCheckChangesNothing(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		s := startServer(t)
		s.Set(t.Context(), "other", "x", 0)
		checked(t, s, o)
		if keys := s.Keys(t.Context(), "*").Val(); len(keys) != 1 {
			t.Errorf("keys %v are there", keys)
		}
		if info := s.Info(t.Context(), "persistence").Val(); !strings.Contains(info, "rdb_changes_since_last_save:1\r\n") {
			t.Errorf("there are other changes than that of the test:\n%s", info)
		}
	})
}

// TestCheckOfACluster: the cluster's own commands are checked.
func TestCheckOfACluster(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	for _, n := range nodes {
		n.Do(t.Context(), "ACL", "SETUSER", "default", "-ssubscribe", "-spublish", "-xadd")
	}
	log := newSaid()
	r := newClusterRig(t, nodes[0].addr, Options{Logger: log.Logger})
	log.want(t, optionalLine, 1)
	if got := log.line(neededLine); !strings.Contains(got, `denied="XADD, SSUBSCRIBE"`) {
		t.Errorf("logged %q", got)
	}
	if got := log.line(optionalLine); !strings.Contains(got, "denied=SPUBLISH") {
		t.Errorf("logged %q", got)
	}
	if _, err := r.Publish(t.Context(), "t", hub.Message{}); err == nil || !strings.Contains(err.Error(), "XADD") {
		t.Errorf("Publish: %v", err)
	}
}

// aged is a connection to a server that says that it is old.
type aged struct{ net.Conn }

func (c aged) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	copy(p, bytes.ReplaceAll(p[:n], []byte("redis_version:7."), []byte("redis_version:5.")))
	return n, err
}

// TestOldServer says by its version that a server is too old.
func TestOldServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	client := redis.NewClient(&redis.Options{
		Addr: s.addr, DisableIdentity: true,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			return aged{c}, err
		},
	})
	defer client.Close()
	log := newSaid()
	b, err := New(client, Options{Logger: log.Logger})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	log.want(t, "this server is too old", 1)
	if got := log.line("too old"); !strings.Contains(got, "version=5.") {
		t.Errorf("logged %q", got)
	}
}

func TestOldVersion(t *testing.T) {
	for _, test := range []struct {
		info    string
		cluster bool
		version string
		old     bool
	}{
		{"# Server\r\nredis_version:7.0.15\r\nredis_git:0", true, "7.0.15", false},
		{"redis_version:6.2.0\r\n", false, "6.2.0", false},
		{"redis_version:6.2.14\r\n", true, "6.2.14", true},
		{"redis_version:6.0.16\r\n", false, "6.0.16", true},
		{"redis_version:5.0.7", false, "5.0.7", true},
		{"redis_version:10.0.1", true, "10.0.1", false},
		{"redis_version:255.255.255", true, "255.255.255", false},
		{"redis_version:<script>", false, "", false},
		{"redis_version:8", false, "", false},
		{"", false, "", false},
	} {
		if version, old := oldVersion(test.info, test.cluster); version != test.version || old != test.old {
			t.Errorf("%q: %q, %v, want %q, %v", test.info, version, old, test.version, test.old)
		}
	}
}

// TestNamedCommand: of what a server says only names of commands are shown.
func TestNamedCommand(t *testing.T) {
	for text, want := range map[string]string{
		"ERR unknown command 'XADD', with args beginning with: 'secret' ":                                     "redis refuses the command (it lacks XADD" + lacksCommand + ")",
		"ERR unknown command `xadd`, with args beginning with: `secret`, ":                                    "redis refuses the command (it lacks XADD" + lacksCommand + ")",
		"ERR unknown command 'secret', with args beginning with: 'XADD' ":                                     "redis refuses the command (it lacks a command" + lacksCommand + ")",
		"ERR Unknown Redis command called from script script: secret, on @user_x:1.":                          "redis refuses the command (" + scriptLacks + ")",
		"@user_script: 12: Unknown Redis command called from Lua script":                                      "redis refuses the command (" + scriptLacks + ")",
		"NOPERM this user has no permissions to run the 'client|id' command":                                  "redis denies access (NOPERM for CLIENT ID)",
		"NOPERM this user has no permissions to run the 'secret' command":                                     "redis denies access (NOPERM)",
		"NOPERM this user has no permissions to run the 'get' command or its subcommand":                      "redis denies access (NOPERM for GET)",
		"NOPERM User secret has no permissions to run the 'select' command":                                   "redis denies access (NOPERM for SELECT)",
		"ERR ACL failure in script: User secret has no permissions to run the 'pttl' command script: f":       "redis denies access (NOPERM for PTTL)",
		"NOPERM this user has no permissions to access one of the channels used as arguments":                 "redis denies access (NOPERM for the channels)",
		"NOPERM No permissions to access a key":                                                               "redis denies access (NOPERM for the keys)",
		"ERR The user executing the script can't run this command or subcommand script: s, on @user_script:1": "redis denies access (" + scriptDenied + ")",
		"-NOPERM The user executing the script can't run this command or subcommand":                          "redis denies access (" + scriptDenied + ")",
		"ERR The user executing the script can't access at least one of the keys mentioned in the command":    "redis denies access (NOPERM for the keys)",
		"WRONGPASS invalid username-password pair or user is disabled.":                                       "redis denies access (WRONGPASS)",
		"NOAUTH Authentication required.":                                                                     "redis denies access (NOAUTH)",
		"ERR syntax error":                                                                                    "redis refuses the command (it lacks an option; Redis 6.2 or newer is needed, 7.0 in a cluster)",
	} {
		if got := cause(redisReply(text)).Error(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
