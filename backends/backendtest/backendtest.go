// Package backendtest is the conformance suite of hub.Backend: one named subtest for each
// numbered rule of the interface. Whoever writes a backend runs it in a test of his own:
//
//	func TestBackend(t *testing.T) {
//		backendtest.Run(t, backendtest.Config{
//			New: func(t testing.TB) hub.Backend { return mybackend.New(…) },
//		})
//	}
//
// The suite asks the backend for its Traits and expects what they declare. A rule that cannot be
// driven with what Config offers is skipped, and says what is missing. It waits for conditions
// and never for time to pass, and it is worth running with the race detector.
package backendtest

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// Config tells Run how to get backends and what can be done to them. Only New must be set. The
// functions may fail or skip the test they are given.
type Config struct {
	// New returns a backend. It is called at least once for each rule, and the suite closes what
	// it returns. The store behind it may be the same each time, since the suite invents new
	// topics for each rule; it must retain at least 500 messages of a topic, for some minutes.
	New func(t testing.TB) hub.Backend

	// Peer returns another instance over the store of b, as in another process. The suite closes
	// it. It must be set for a backend with Traits.Shared, which fails without, unless Lacks names
	// S1: then it is tested as if it were alone.
	Peer func(t testing.TB, b hub.Backend) hub.Backend

	// Reopen ends what b has of a process, and opens its store again, as after a restart. It closes
	// b, or ends it less politely; the suite closes what it returns. It must be set for a backend
	// with Traits.Durable and Traits.Replay, which fails rule D1 without.
	Reopen func(t testing.TB, b hub.Backend) hub.Backend

	// Trim makes retention remove all messages that topic has when it is called. It may append
	// messages of its own, with AfterEnd, and it returns when the removal shows.
	Trim func(t testing.TB, b hub.Backend, topic string)

	// Break breaks the path on which b gets live messages of topic, such that what is appended
	// before restore is called is not delivered as it is appended. Publish and Read go on.
	// restore makes the path usable again.
	Break func(t testing.TB, b hub.Backend, topic string) (restore func())

	// Outage makes the store of b unreachable, and restore makes it reachable again. With Outage
	// the rules on errors, on stop and on contexts are tested at the time they are made for.
	Outage func(t testing.TB, b hub.Backend) (restore func())

	// Retention is one that backends from New have in their options; its Prefix is set. Rule L6
	// drives each of its bounds alone: messages of 16 bytes must be bounded by their number, and
	// half as many of the size that reaches Bytes, by Bytes. With Age the rule takes some three
	// times as long as that. Good values are 200 messages, 1 MiB and two seconds.
	Retention hub.Retention

	// Lacks names rules, by number such as "F9", that are known not to hold, with the reason.
	// They are skipped.
	Lacks map[string]string

	// Timeout is how long the suite waits for something that should happen. It passes only where
	// a rule is broken. Default 10 s.
	Timeout time.Duration
}

// Run runs every rule as a subtest of t, named by its number and its gist. Rules run one after
// another.
func Run(t *testing.T, c Config) {
	t.Helper()
	if c.New == nil {
		t.Fatal("backendtest: Config.New is not set")
	}
	for _, number := range slices.Sorted(maps.Keys(c.Lacks)) {
		if !slices.ContainsFunc(rules, func(r rule) bool { return r.number() == number }) {
			t.Errorf("backendtest: Config.Lacks names %q, which is no rule", number)
		}
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) { r.run(t, c) })
	}
}

// rule is one numbered rule of hub.Backend.
type rule struct {
	name   string // number and gist
	reason string // why readers or publishers depend on it; shown when the rule is broken
	check  func(s *suite)
}

func (r rule) number() string {
	number, _, _ := strings.Cut(r.name, " ")
	return number
}

func (r rule) run(t testing.TB, c Config) {
	t.Helper()
	if reason, ok := c.Lacks[r.number()]; ok {
		t.Skipf("Config.Lacks: %s", reason)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("rule %s, because %s", r.name, r.reason)
		}
	})
	r.check(newSuite(t, c))
}

var rules = []rule{
	{"P1 nil means appended", "a publisher that was told so does not publish again: what is not there then is lost without a word", nilMeansAppended},
	{"P2 IDs are valid, unique and the same for everyone", "an ID is what a reader resumes with, on any instance, and what repeats are recognised by", idsAreUnique},
	{"P3 messages come back as published", "a browser, a Go subscriber and a replay must see the same bytes", contentIsKept},
	{"P4 publish order is append order", "a publisher that waited for the first message relies on the second coming later", publishOrder},
	{"P5 rejected means not appended", "a rejected message is published again: if it was appended, readers get it twice under two IDs", rejectedMeansAbsent},
	{"P6 no slice or map is kept", "publishers reuse their buffers", publisherOwnsSlices},
	{"P7 a repeated key appends nothing", "a publisher that does not know the outcome repeats the message with its key", keysAreHonoured},
	{"P8 a context that is done appends nothing", "a caller that gave up must be able to trust that nothing happens after", doneContextIsRejected},
	{"P9 a batch is appended as a whole", "who publishes several messages together has readers that must not see some of them", batchesAreAtomic},
	{"P10 nothing comes behind an end by mistake", "readers leave at the end: what is appended there is seen by nobody, and the publisher should know", endsAreEnds},

	{"F1 exactly what comes after the tail", "replay ends at the tail and live begins there: one message more is a repeat, one less a loss", exactlyAfterTail},
	{"F2 delivery has begun when Follow returns", "nobody asks again for what is appended between the return and a later beginning: it would be lost", deliveryHasBegun},
	{"F3 the tail is a place that Read knows", "the first cursor a client gets on a quiet topic is the tail, and it must be good to resume with", tailIsReadable},
	{"F4 calls into a sink are serial", "the hub appends what it gets to one log: two calls at once have no order", sinkCallsAreSerial},
	{"F5 stop returns at once and ends delivery", "readers leave while networks hang, and the hub stops following while the sink may be running", stopIsImmediate},
	{"F6 the context ends with the establishing", "the first reader's request ends while others still read the topic", contextBoundsEstablishing},
	{"F7 follows are independent", "a process has several hubs, and one of them letting go must not silence the others", followsAreIndependent},
	{"F8 live messages are chained", "Prev is what a loss on the live path is noticed by", liveMessagesAreChained},
	{"F9 a broken path says Restored", "after a break the hub must read what it missed, and nothing else tells it", brokenPathIsRestored},

	{"R1 pages are ordered, limited and complete", "a replay ends at the first empty page, so an empty page before the end is a loss", pagesAreComplete},
	{"R2 reading from the beginning is never a gap", "who asks for what there is has missed nothing", beginningIsNoGap},
	{"R3 removed messages are a gap", "a reader that missed messages must be told before it gets later ones", removedIsGap},
	{"R4 an unknown ID is a gap", "cursors come from clients: they may be old, foreign or forged, and must neither fail nor leak", unknownIsGap},
	{"R5 the newest place is no gap", "each reader that is up to date would be told of a loss that never was", newestIsNoGap},
	{"R6 Next goes on", "a reader holds Next and resumes there: without it a reader of an empty topic has no place", nextGoesOn},
	{"R7 what was seen can be read", "healing reads what the live path announced: a page that lags would pass for the end", readSeesDelivered},
	{"R8 Final marks the end", "a client that comes back to a finished feed is told to stay away", finalMarksEnd},
	{"R9 a page stays as it is", "messages of a page are shared by many readers for as long as they like", pagesStay},

	{"L1 a deleted topic begins anew", "who comes back with an ID of before would miss what the topic has now, or get what was deleted", deletedBeginsAnew},
	{"L2 an erased message is gone, and no gap", "a reader before it has missed nothing, and other instances must take it from their windows too", erasedIsGone},
	{"L3 Info says what is retained", "a route answers by it whether there is a topic", infoIsOfRetained},
	{"L4 Seek finds the position", "a client that starts with the newest messages would get too many, or miss some", seekFindsPositions},
	{"L5 Ping says whether messages are taken", "a balancer sends requests where it is told that all is well", pingSaysReady},
	{"L6 retention by prefix holds under load", "a topic that is kept longer than it should be fills the store, and a shorter one loses readers", retentionByPrefix},

	{"S1 other instances see it", "readers are on any instance, and come back to another one", instancesShare},
	{"D1 what is published survives a restart", "publishers were told that it is appended, and readers come back with IDs of before", messagesSurvive},

	{"C1 Close ends everything", "a backend that lives on after Close leaks, and delivers into a hub that is gone", closeEndsEverything},
	{"C2 methods return when their context ended", "shutdown waits for calls that are running", methodsReturn},
}
