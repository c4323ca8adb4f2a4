package faults

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/headrace/headrace/internal/testenv"
)

// network is what lies between one hub and the servers: a relay to each of them.
type network struct {
	relays map[string]*testenv.Relay // by the address that clients know
}

// newNetwork returns a network to servers. The keys are the addresses that clients know.
func newNetwork(t testing.TB, servers map[string]*testenv.Server) *network {
	n := &network{relays: make(map[string]*testenv.Relay)}
	for addr, server := range servers {
		n.relays[addr] = testenv.NewRelay(t, server.Addr)
	}
	return n
}

const dialTimeout = 3 * time.Second

// dial is the dialer of a hub's client.
func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	relay := n.relays[addr]
	if relay == nil {
		return nil, fmt.Errorf("there is no server at %s", addr)
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", relay.Addr)
	if err != nil {
		return nil, err
	}
	remote, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &dialed{conn.(*net.TCPConn), remote}, nil
}

// dialed is a connection that names the server, and not the relay before it.
type dialed struct {
	*net.TCPConn
	remote net.Addr
}

// RemoteAddr implements net.Conn.
func (d *dialed) RemoteAddr() net.Addr { return d.remote }

// each does something with the relays to all servers.
func (n *network) each(do func(*testenv.Relay)) {
	for _, r := range n.relays {
		do(r)
	}
}
