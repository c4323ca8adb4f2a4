package faults

import (
	"context"
	"net"
	"slices"
	"time"

	"github.com/headrace/headrace/internal/testenv"
)

// faultKind is something that may happen to servers or connections.
type faultKind struct {
	name        string
	of          []string // the topologies
	least, most time.Duration
	weight      int // how often it is chosen, beside others; 0 is 1
	// link: it happens to the connections of a hub.
	link bool
	// back is after how long everybody is back, once Redis takes writes again.
	back time.Duration
	// moves: another master takes over before the fault ends.
	moves bool
	// swallows: connections are dead from then on, and who does not use them does not notice.
	swallows bool
	// begin does it and returns what ends it.
	begin func(s *site, f fault) (end func())
}

var (
	everywhere = []string{"single", "sentinels", "cluster"}
	alone      = []string{"single"}
	replicated = []string{"sentinels", "cluster"}
)

// How long it takes until everybody is back: what is closed is noticed at once. Silence is noticed
// by timeouts, of 5 s for a command and of 8 s for the live path. A path that was swallowed costs
// one timeout more when it is used again: so do connections to a replica when it becomes the
// master.
const (
	backAtOnce   = 3 * time.Second
	backBySilent = 12 * time.Second
	oneTimeout   = 6 * time.Second
)

var nothing = func() {}

// faultKinds are all of them. Their order is part of what a seed means.
var faultKinds = []faultKind{
	{name: "kill", of: alone, least: 50 * ms1, most: 2 * time.Second, weight: 3, back: backAtOnce, begin: func(s *site, f fault) func() {
		n := s.nodes[0]
		n.Kill()
		return func() {
			n.more = nil
			if f.number%3 == 0 {
				// It answers that it is loading for a while.
				n.more = []string{"--key-load-delay", "100"}
			}
			n.Start()
			if f.number%3 == 0 {
				n.config(s.t, "key-load-delay", "0")
			}
		}
	}},
	{name: "kill while the AOF is written anew", of: alone, least: 50 * ms1, most: time.Second, back: backAtOnce, begin: func(s *site, f fault) func() {
		n := s.nodes[0]
		n.raw.BgRewriteAOF(context.Background())
		pause(s.t.Context(), time.Duration(f.number%50)*ms1)
		n.Kill()
		return n.Start
	}},
	{name: "stop", of: alone, least: 50 * ms1, most: time.Second, back: backAtOnce, begin: func(s *site, _ fault) func() {
		s.nodes[0].Stop()
		return s.nodes[0].Start
	}},
	{name: "load anew", of: alone, least: ms1, most: 100 * ms1, back: backAtOnce, begin: func(s *site, _ fault) func() {
		s.nodes[0].raw.Do(context.Background(), "DEBUG", "RELOAD")
		s.nodes[0].Await()
		return nothing
	}},
	{name: "freeze", of: alone, least: 300 * ms1, most: 9 * time.Second, weight: 2, back: backBySilent, begin: freeze},
	{name: "short freeze", of: replicated, least: 100 * ms1, most: down / 2, back: backBySilent, begin: freeze},
	{name: "no memory", of: everywhere, least: 200 * ms1, most: 2 * time.Second, back: backAtOnce, begin: func(s *site, f fault) func() {
		n := s.master(f.shard)
		n.config(s.t, "maxmemory", "1")
		return func() { n.config(s.t, "maxmemory", "0") }
	}},
	{name: "pause of writes", of: alone, least: 200 * ms1, most: 3 * time.Second, back: backAtOnce, begin: func(s *site, f fault) func() {
		return pauseClients(s.master(f.shard), "WRITE")
	}},
	// Sentinels write, too.
	{name: "short pause of writes", of: replicated, least: 100 * ms1, most: down / 2, back: backAtOnce, begin: func(s *site, f fault) func() {
		return pauseClients(s.master(f.shard), "WRITE")
	}},
	{name: "pause", of: alone, least: 200 * ms1, most: 3 * time.Second, back: backAtOnce, begin: func(s *site, f fault) func() {
		return pauseClients(s.master(f.shard), "ALL")
	}},
	{name: "tiny output limit", of: everywhere, least: 500 * ms1, most: 3 * time.Second, back: backAtOnce, begin: func(s *site, f fault) func() {
		n := s.master(f.shard)
		n.config(s.t, "client-output-buffer-limit", "pubsub 8192 1 1")
		return func() { n.config(s.t, "client-output-buffer-limit", "pubsub 33554432 8388608 60") }
	}},
	{name: "Pub/Sub connections killed", of: everywhere, least: ms1, most: 500 * ms1, back: backAtOnce, begin: func(s *site, f fault) func() {
		s.master(f.shard).raw.ClientKillByFilter(context.Background(), "TYPE", "pubsub")
		return nothing
	}},
	{name: "all connections killed", of: everywhere, least: ms1, most: 500 * ms1, back: backAtOnce, begin: func(s *site, f fault) func() {
		for _, kind := range []string{"pubsub", "normal"} {
			s.master(f.shard).raw.ClientKillByFilter(context.Background(), "TYPE", kind)
		}
		return nothing
	}},
	{name: "scripts forgotten", of: everywhere, least: ms1, most: 500 * ms1, back: backAtOnce, begin: func(s *site, f fault) func() {
		s.master(f.shard).raw.ScriptFlush(context.Background())
		return nothing
	}},
	{name: "connections cut", of: everywhere, least: ms1, most: 500 * ms1, link: true, back: backAtOnce, begin: func(s *site, f fault) func() {
		s.networks[f.hub].each((*testenv.Relay).Cut)
		return nothing
	}},
	{name: "connections swallowed", of: everywhere, least: ms1, most: 500 * ms1, link: true, swallows: true, back: backBySilent, begin: func(s *site, f fault) func() {
		s.networks[f.hub].each((*testenv.Relay).Swallow)
		return nothing
	}},
	{name: "network down", of: everywhere, least: 200 * ms1, most: 4 * time.Second, link: true, back: backAtOnce, begin: func(s *site, f fault) func() {
		s.networks[f.hub].each((*testenv.Relay).Down)
		return func() { s.networks[f.hub].each((*testenv.Relay).Open) }
	}},
	{name: "network silent", of: everywhere, least: 200 * ms1, most: 7 * time.Second, link: true, swallows: true, back: backBySilent, begin: func(s *site, f fault) func() {
		s.networks[f.hub].each((*testenv.Relay).Block)
		return func() { s.networks[f.hub].each((*testenv.Relay).Open) }
	}},
	{name: "network slow", of: everywhere, least: 500 * ms1, most: 4 * time.Second, link: true, back: backBySilent, begin: func(s *site, f fault) func() {
		s.networks[f.hub].each(func(r *testenv.Relay) {
			r.Delay(time.Duration(f.number%100) * ms1)
			r.Rate(1 << 20)
		})
		return func() {
			s.networks[f.hub].each(func(r *testenv.Relay) {
				r.Delay(0)
				r.Rate(0)
			})
		}
	}},
	{name: "master killed", of: replicated, least: 7 * time.Second, most: 11 * time.Second, weight: 2, back: backAtOnce, moves: true, begin: func(s *site, f fault) func() {
		n := s.master(f.shard)
		n.Kill()
		return func() { s.comeBack(n, f.number%2 == 0) }
	}},
	{name: "master killed for a moment", of: replicated, least: 50 * ms1, most: time.Second, back: backAtOnce, begin: func(s *site, f fault) func() {
		n := s.master(f.shard)
		n.Kill()
		return func() { s.comeBack(n, false) }
	}},
	{name: "master killed, the replica lags", of: replicated, least: 7 * time.Second, most: 11 * time.Second, weight: 2, back: backAtOnce, moves: true, begin: func(s *site, f fault) func() {
		n, replica := s.master(f.shard), s.replica(f.shard)
		replica.freeze()
		n.raw.ClientKillByFilter(context.Background(), "TYPE", "replica")
		pause(s.t.Context(), time.Duration(200+f.number)*ms1)
		n.Kill()
		replica.thaw()
		return func() { s.comeBack(n, f.number%2 == 0) }
	}},
	{name: "master frozen", of: replicated, least: 4 * time.Second, most: 9 * time.Second, back: backBySilent, moves: true, begin: func(s *site, f fault) func() {
		n := s.master(f.shard)
		n.freeze()
		return n.thaw
	}},
	{name: "master cut off from the sentinels", of: []string{"sentinels"}, least: 7 * time.Second, most: 11 * time.Second, weight: 2, back: backAtOnce, moves: true,
		begin: func(s *site, f fault) func() {
			n := s.master(f.shard)
			if f.number%2 == 0 {
				n.backbone.Down()
			} else {
				n.backbone.Block()
			}
			return n.backbone.Open
		}},
	{name: "failover", of: replicated, least: 5 * time.Second, most: 7 * time.Second, weight: 2, back: backAtOnce, moves: true, begin: func(s *site, f fault) func() {
		if len(s.sentinels) > 0 {
			s.sentinels[f.number%len(s.sentinels)].raw.Do(context.Background(), "SENTINEL", "FAILOVER", "main")
			return nothing
		}
		how := [][]any{{"CLUSTER", "FAILOVER"}, {"CLUSTER", "FAILOVER", "FORCE"}, {"CLUSTER", "FAILOVER", "TAKEOVER"}}
		s.replica(f.shard).raw.Do(context.Background(), how[f.number%len(how)]...)
		return nothing
	}},
	{name: "replica killed", of: replicated, least: 100 * ms1, most: 3 * time.Second, back: backAtOnce, begin: func(s *site, f fault) func() {
		n := s.replica(f.shard)
		n.Kill()
		return func() { s.comeBack(n, true) }
	}},
	{name: "sentinel killed", of: []string{"sentinels"}, least: 100 * ms1, most: 3 * time.Second, back: backAtOnce, begin: func(s *site, f fault) func() {
		n := s.sentinels[f.number%len(s.sentinels)]
		n.Kill()
		return n.Start
	}},
}

const ms1 = time.Millisecond

func freeze(s *site, f fault) func() {
	n := s.master(f.shard)
	n.freeze()
	return n.thaw
}

// pauseClients makes a server put off commands; it ends by itself should nobody end it.
func pauseClients(n *node, what string) func() {
	n.raw.Do(context.Background(), "CLIENT", "PAUSE", 10_000, what)
	return func() { n.raw.Do(context.Background(), "CLIENT", "UNPAUSE") }
}

// master returns a shard's master. It is called while the site is whole.
func (s *site) master(shard int) *node {
	var found *node
	testenv.Eventually(s.t, "the master", func() error {
		list, err := s.masters(s.t.Context())
		if err == nil {
			found = list[shard]
		}
		return err
	})
	return found
}

func (s *site) replica(shard int) *node {
	master := s.master(shard)
	i := slices.IndexFunc(s.shards[shard], func(i int) bool { return s.nodes[i] != master })
	return s.nodes[s.shards[shard][i]]
}

// comeBack starts a server that was killed. Beside sentinels it has no memory of what it was: it
// comes back as the replica that an operator makes it, or as the master that it takes itself for
// until the sentinels tell it.
func (s *site) comeBack(n *node, asReplica bool) {
	if i := slices.Index(n.more, "--replicaof"); i >= 0 {
		n.more = n.more[:i]
	}
	if asReplica && n.backbone != nil {
		if master := s.master(0); master != n {
			host, port, _ := net.SplitHostPort(master.backbone.Addr)
			n.more = append(n.more, "--replicaof", host+" "+port)
		}
	}
	n.Start()
}

func kindOf(name string) faultKind {
	return faultKinds[slices.IndexFunc(faultKinds, func(k faultKind) bool { return k.name == name })]
}
