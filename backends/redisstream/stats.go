package redisstream

import "github.com/redis/go-redis/v9"

// PoolStats are go-redis' statistics of a Backend's own connections, by what these are for. In a
// cluster each is the sum over the servers that are used: those of one that left it go with it.
type PoolStats struct {
	// Publishing has those of Publish, PublishAll, Delete, Erase and Ping. Its counters go back a
	// little when a caller's context ends during Publish, for the connection is given up then.
	Publishing redis.PoolStats
	// Reading has those of Read, Seek and Info, and of the look at a topic's end in Follow.
	Reading redis.PoolStats
	// Following has those of the live path: PubSubStats.Active are the Pub/Sub connections, one to
	// each server, which are in no pool. With FollowXRead the others are those that wait for
	// messages.
	Following redis.PoolStats
}

// addStats adds up the statistics of clients.
func addStats(sum *redis.PoolStats, clients ...*redis.Client) {
	for _, c := range clients {
		s := c.PoolStats()
		sum.Hits += s.Hits
		sum.Misses += s.Misses
		sum.Timeouts += s.Timeouts
		sum.WaitCount += s.WaitCount
		sum.Unusable += s.Unusable
		sum.WaitDurationNs += s.WaitDurationNs
		sum.TotalConns += s.TotalConns
		sum.IdleConns += s.IdleConns
		sum.StaleConns += s.StaleConns
		sum.PendingRequests += s.PendingRequests
		sum.PubSubStats.Created += s.PubSubStats.Created
		sum.PubSubStats.Untracked += s.PubSubStats.Untracked
		sum.PubSubStats.Active += s.PubSubStats.Active
	}
}

// servers returns the clients of one server each that lanes have used. Those of a cluster's own
// statistics would load its layout, and leave Pub/Sub out.
func servers(lanes ...*lanes) (clients []*redis.Client) {
	seen := make(map[*redis.Client]bool)
	for _, l := range lanes {
		if l.single != nil {
			seen[l.single] = true
			continue
		}
		l.mu.Lock()
		for c := range l.batchers {
			seen[c] = true
		}
		l.mu.Unlock()
	}
	for c := range seen {
		clients = append(clients, c)
	}
	return clients
}

// lone returns the clients of publishers who are alone.
func (l *lanes) lone() (clients []*redis.Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.alone {
		a.mu.Lock()
		clients = append(clients, a.client)
		a.mu.Unlock()
	}
	return clients
}

// waiting returns the clients of readers that wait.
func (x *xreaders) waiting() (clients []*redis.Client) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for r := range x.readers {
		if r.client != nil {
			clients = append(clients, r.client)
		}
	}
	return clients
}
