package direct

import "sync/atomic"

// group is a shard's connections that follow the same topic. It is the watcher of the topic.
type group struct {
	shard   *shard
	key     any
	dirty   atomic.Bool // is, or is about to be, in shard.dirty
	members []member
}

// member is a connection in a group, for which the group is topics[index].
type member struct {
	conn  *conn
	index int
}

// Wake implements hub.Watcher.
func (g *group) Wake() {
	if g.dirty.Swap(true) {
		return
	}
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	g.shard.dirty = append(g.shard.dirty, g)
	g.shard.signal()
}

// enter puts a connection into the groups of its topics.
func (s *shard) enter(c *conn) {
	for i := range c.topics {
		key := c.source.Topic(i)
		g := s.groups[key]
		if g == nil {
			g = &group{shard: s, key: key}
			s.groups[key] = g
		}
		c.topics[i] = membership{g, len(g.members)}
		g.members = append(g.members, member{c, i})
	}
}

// exit takes a connection out of its groups.
func (s *shard) exit(c *conn) {
	for _, m := range c.topics {
		g := m.group
		last := len(g.members) - 1
		moved := g.members[last]
		g.members[m.index] = moved
		moved.conn.topics[moved.index].index = m.index
		g.members[last] = member{}
		if g.members = g.members[:last]; last == 0 {
			delete(s.groups, g.key)
		}
	}
}
