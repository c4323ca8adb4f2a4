package testenv

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

const (
	loopback = "127.0.0.1"
	// busDistance is how far above its port a node of a Redis cluster takes another one.
	busDistance = 10_000
	// The ports that are given out lie below these, and above those of privileged programs.
	portsTop   = 29_000
	portsFloor = 1100
	portsMost  = 8000
)

// Ports reserves ports of the loopback interface until the test ends. Nobody listens at them now.
// Nobody else who calls Ports gets them meanwhile, in this process or another, and the system gives
// them to no connection. The same holds for the port 10,000 above each of them, which a node of a
// Redis cluster takes too.
func Ports(t testing.TB, n int) []string {
	t.Helper()
	list := make([]string, 0, n)
	for range n {
		port, release, err := reserve()
		if err != nil {
			t.Fatalf("testenv: %v", err)
		}
		t.Cleanup(release)
		list = append(list, strconv.Itoa(port))
	}
	return list
}

// turn counts the ports that were tried. Each process begins elsewhere, and a port that was given
// back comes last.
var turn atomic.Uint64

func init() { turn.Store(rand.Uint64N(portsMost)) }

func reserve() (port int, release func(), err error) {
	first, count := portRange(ephemeral())
	for range count {
		port := first + int(turn.Add(1)%uint64(count))
		if release, err = hold(port, port+busDistance); err == nil {
			return port, release, nil
		}
	}
	return 0, nil, fmt.Errorf("all ports from %d to %d are taken, the last one: %w", first, first+count-1, err)
}

// hold takes ports that nobody has. A UDP socket marks a port as reserved: it is in nobody's way,
// no two processes can have the same one, and the system removes it with the process, however that
// ends.
func hold(ports ...int) (release func(), err error) {
	var held []io.Closer
	release = func() {
		for _, h := range held {
			_ = h.Close()
		}
	}
	for _, port := range ports {
		addr := net.JoinHostPort(loopback, strconv.Itoa(port))
		mark, err := net.ListenPacket("udp4", addr)
		if err != nil {
			release()
			return nil, err
		}
		held = append(held, mark)
		listener, err := net.Listen("tcp4", addr)
		if err != nil {
			release()
			return nil, err
		}
		_ = listener.Close()
	}
	return release, nil
}

// portRange returns where ports are taken from, so that those 10,000 above them too lie below the
// first one that the system gives to connections. Where there is no such place a port may be lost
// to a connection, and a server is started again.
func portRange(ephemeral int) (first, count int) {
	top := min(ephemeral, portsTop) - busDistance
	if top-portsFloor < 1000 {
		top = portsTop - busDistance
	}
	count = min(top-portsFloor, portsMost)
	return top - count, count
}

// ephemeral returns the first port that the system gives to connections.
func ephemeral() (first int) {
	// Linux has no smaller default than other systems.
	const usual = 32768
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return usual
	}
	if _, err := fmt.Sscan(string(text), &first); err != nil {
		return usual
	}
	return first
}
