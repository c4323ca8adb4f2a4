package redisstream

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/internal/testenv"
)

// documented returns the rules for a user that the package's documentation names, in its order.
func documented(t testing.TB) (rules []string) {
	t.Helper()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(doc), "// # Rights\n")
	if !found {
		t.Fatal("doc.go has no section Rights")
	}
	for line := range strings.Lines(text) {
		if code, ok := strings.CutPrefix(line, "//\t"); ok {
			rules = append(rules, strings.Fields(code)...)
		}
	}
	return rules
}

// aclUser returns the documented rules for a user of a backend, for one who may use Pub/Sub or not.
func aclUser(t testing.TB, at place, announces bool) []string {
	rules := []string{"narrow", "on", ">pw", "resetchannels"}
	for _, rule := range documented(t) {
		name, command := strings.CutPrefix(rule, "+")
		i := slices.IndexFunc(rights, func(r right) bool { return r.name == name })
		switch {
		case command && i >= 0 && (rights[i].only == nil || rights[i].only(at)) && (announces || rights[i].lost != lostAnnounce),
			!command && (announces || rule[0] != '&'):
			rules = append(rules, rule)
		}
	}
	return rules
}

// TestRightsAreDocumented: the documentation and the check of a server know the same commands, and
// the check knows those of the scripts.
func TestRightsAreDocumented(t *testing.T) {
	var names, inDoc []string
	for _, r := range rights {
		names = append(names, r.name)
	}
	for _, rule := range documented(t) {
		if name, ok := strings.CutPrefix(rule, "+"); ok {
			inDoc = append(inDoc, name)
		} else if rule != "~"+defaultPrefix+"*" && rule != "&"+defaultPrefix+"*" {
			t.Errorf("the documentation has a rule %s", rule)
		}
	}
	slices.Sort(names)
	slices.Sort(inDoc)
	if !slices.Equal(names, inDoc) {
		t.Errorf("the check has %v\nthe documentation %v", names, inDoc)
	}
	for _, s := range []script{publishScript, readScript, seekScript, infoScript, deleteScript, eraseScript} {
		for _, command := range scriptCommands(s.source) {
			i := slices.IndexFunc(rights, func(r right) bool { return r.name == command })
			if i < 0 || !rights[i].script {
				t.Errorf("a script runs %s, which the check does not know as a script's", command)
			}
		}
	}
}

// scriptCommands returns the commands that a script names: those in capitals between quotes that
// begin the arguments of a call.
func scriptCommands(source string) (names []string) {
	for part := range strings.SplitSeq(source, "('") {
		name, rest, _ := strings.Cut(part, "'")
		if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" && len(name) > 2 && rest != "" {
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestConformanceOfADocumentedUser runs the suite as the user of the documentation: with the rights
// for Pub/Sub, and without them by FollowXRead, where announcing fails and is only logged.
func TestConformanceOfADocumentedUser(t *testing.T) {
	t.Parallel()
	one := func(t *testing.T, o Options, announces bool) {
		t.Parallel()
		user := aclUser(t, place{follow: o.Follow}, announces)
		s := startServer(t, append([]string{"--appendonly", "yes", "--user"}, user...)...)
		log := newSaid()
		o.Logger, o.Retention = log.Logger, retained
		conformance(t, s.Client, s.program.Restart, retained[0], func(t testing.TB) *rig {
			g := &gate{conns: make(map[net.Conn]bool)}
			return rigOver(t, redis.NewClient(&redis.Options{Addr: s.addr, Username: "narrow", Password: "pw", Dialer: g.dial}), g, o)
		})
		mayNot(t, log, announces)
	}
	t.Run("pubsub", func(t *testing.T) { one(t, Options{}, true) })
	t.Run("xread", func(t *testing.T) { one(t, Options{Follow: FollowXRead}, false) })
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		nodes := startCluster(t)
		user := aclUser(t, place{cluster: true}, true)
		for _, n := range nodes {
			if _, err := testenv.RedisDo(n.addr, "ACL SETUSER "+strings.Join(user, " ")); err != nil {
				t.Fatal(err)
			}
		}
		admin := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].addr}, DisableIdentity: true})
		defer admin.Close()
		log := newSaid()
		conformance(t, admin, nil, retained[0], func(t testing.TB) *rig {
			g := &gate{conns: make(map[net.Conn]bool)}
			return rigOver(t, redis.NewClusterClient(&redis.ClusterOptions{
				Addrs: []string{nodes[0].addr}, Username: "narrow", Password: "pw", Dialer: g.dial,
			}), g, Options{Logger: log.Logger, Retention: retained})
		})
		mayNot(t, log, true)
	})
}

// mayNot looks through the log of a documented user, who lacks nothing but to announce, if that.
func mayNot(t *testing.T, log *said, announces bool) {
	t.Helper()
	if log.line(neededLine) != "" {
		t.Errorf("logged: %s", log.line(neededLine))
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "denies access") || strings.Contains(line, optionalLine) {
			if announces || !strings.Contains(line, "PUBLISH") {
				t.Errorf("logged: %s", line)
			}
		}
	}
	if !announces && log.line("a message was appended, but not all") == "" {
		t.Error("nobody was told that announcing fails")
	}
}
