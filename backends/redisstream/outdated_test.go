package redisstream

import (
	"strings"
	"testing"

	"github.com/headrace/headrace/hub"
)

// TestOutdatedServer takes commands away from a server, each of which an old one lacks or a
// provider may have disabled.
func TestOutdatedServer(t *testing.T) {
	const says = "Redis 6.2 or newer is needed"
	for _, test := range []struct {
		command               string
		publish, read, follow bool // fail
		follows               FollowMode
	}{
		{command: "XADD", publish: true},
		{command: "XINFO", follow: true},
		{command: "XRANGE", read: true},
		{command: "EVALSHA", publish: true, read: true, follow: true},
		{command: "TIME", publish: true, read: true, follow: true},
		{command: "SUBSCRIBE", follow: true},
		{command: "XREAD", follow: true, follows: FollowXRead},
		{command: "PUBLISH"},
		{command: "XTRIM"},
		{command: "HELLO"}, // RESP 3
		{command: "CLIENT", follows: FollowXRead},
	} {
		t.Run(test.command, func(t *testing.T) {
			t.Parallel()
			r, log := checked(t, startServer(t, "--rename-command", test.command, ""), Options{Follow: test.follows})
			check := func(what string, err error, fails bool) {
				t.Helper()
				if (err != nil) != fails || fails && (!strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "it lacks "+test.command)) {
					t.Errorf("%s: %v", what, err)
				}
			}
			_, err := r.Publish(t.Context(), "t", hub.Message{Data: []byte("x")})
			check("Publish", err, test.publish)
			_, err = r.Read(t.Context(), "t", "", 10)
			check("Read", err, test.read)
			_, _, err = r.Follow(t.Context(), "t", &recorder{})
			check("Follow", err, test.follow)
			// What comes after the message was appended is only logged.
			after := test.command == "PUBLISH" || test.command == "XTRIM"
			if line := log.line("a message was appended, but not all"); after != strings.Contains(line, "it lacks "+test.command) {
				t.Errorf("logged: %s", log)
			}
			named := strings.Contains(log.line(neededLine), test.command) || strings.Contains(log.line(optionalLine), test.command)
			if of := test.command != "HELLO"; named != of {
				t.Errorf("logged: %s", log)
			}
		})
	}
}
