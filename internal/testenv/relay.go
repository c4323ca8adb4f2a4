package testenv

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Relay stands between clients and a server and is the network between them: it passes on what it
// gets until it is told to be slower, late or broken. Its methods may be called concurrently.
type Relay struct {
	// Addr is where clients find it.
	Addr string

	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu      sync.Mutex
	delay   time.Duration
	rate    int // bytes a second in each direction, 0 for as fast as it goes
	busy    [2]time.Time
	down    bool
	blocked bool
	closed  bool
	pairs   map[*pair]bool
	passed  [2]int64
}

// The directions of a relay.
const (
	toServer = iota
	toClient
)

// pair is the connection of a client and the one to the server.
type pair struct {
	conns     [2]net.Conn // of the client, to the server; the latter may be nil
	swallowed bool        // guarded by Relay.mu
}

func (p *pair) close() {
	for _, c := range p.conns {
		if c != nil {
			_ = c.Close()
		}
	}
}

// NewRelay starts a relay to a server, and ends it with the test.
func NewRelay(t testing.TB, target string) *Relay {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Addr: listener.Addr().String(), listener: listener, target: target, pairs: make(map[*pair]bool)}
	r.wg.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

// Delay makes everything arrive so much later, in each direction: a round trip takes twice as long.
func (r *Relay) Delay(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = d
}

// Rate makes the link carry at most so many bytes a second in each direction, shared by all
// connections; 0 for no limit.
func (r *Relay) Rate(bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rate = bytes
}

// Swallow makes the connections of now silent for good, as one that has forgotten them does: what
// comes over them goes nowhere, and neither side is told. New ones work.
func (r *Relay) Swallow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.swallow()
}

func (r *Relay) swallow() {
	for p := range r.pairs {
		p.swallowed = true
	}
}

// Block is Swallow for new connections too, until Open: clients may connect, and hear nothing.
func (r *Relay) Block() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocked = true
	r.swallow()
}

// Cut closes all connections. New ones work.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut()
}

func (r *Relay) cut() {
	for p := range r.pairs {
		p.close()
	}
}

// Down is Cut, and new connections are closed at once until Open.
func (r *Relay) Down() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = true
	r.cut()
}

// Open ends what Block and Down began. Connections that were swallowed stay so.
func (r *Relay) Open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down, r.blocked = false, false
}

// Passed returns how many bytes went to clients.
func (r *Relay) Passed() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.passed[toClient]
}

func (r *Relay) close() {
	r.mu.Lock()
	r.closed = true
	_ = r.listener.Close()
	r.cut()
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *Relay) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.serve(conn) })
	}
}

func (r *Relay) serve(client net.Conn) {
	p := &pair{conns: [2]net.Conn{client, nil}}
	defer p.close()
	r.mu.Lock()
	down, blocked := r.down || r.closed, r.blocked
	r.mu.Unlock()
	if down {
		return
	}
	if !blocked {
		server, err := net.Dial("tcp", r.target)
		if err != nil {
			return
		}
		p.conns[1] = server
	}
	r.mu.Lock()
	if r.closed || r.down {
		r.mu.Unlock()
		return
	}
	p.swallowed = blocked || r.blocked
	r.pairs[p] = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.pairs, p)
	}()
	if p.conns[1] == nil {
		_, _ = io.Copy(io.Discard, client)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { r.pass(p, toServer) })
	both.Go(func() { r.pass(p, toClient) })
	both.Wait()
}

// chunk is what was read at one time, and when it may arrive.
type chunk struct {
	data []byte
	due  time.Time
}

// Bounds of what is on its way in one direction of a connection.
const (
	chunkBytes = 16 << 10
	chunksHeld = 64
)

// pass carries what comes from one side to the other until a side closes.
func (r *Relay) pass(p *pair, direction int) {
	from, to := p.conns[direction], p.conns[1-direction]
	held := make(chan chunk, chunksHeld)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c := range held {
			time.Sleep(time.Until(c.due)) // it is the network's delay
			if r.swallows(p) {
				continue
			}
			if _, err := to.Write(c.data); err != nil {
				_ = from.Close()
			}
		}
	}()
	for {
		data := make([]byte, chunkBytes)
		n, err := from.Read(data)
		if n > 0 {
			held <- chunk{data[:n], r.due(n, direction)}
		}
		if err != nil {
			break
		}
	}
	close(held)
	<-done
	if !r.swallows(p) {
		_ = to.Close()
		return
	}
	// The other side is not told. It goes when it closes, or with the relay.
	_, _ = io.Copy(io.Discard, to)
}

func (r *Relay) swallows(p *pair) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return p.swallowed && !r.closed
}

// due returns when so many bytes that are here now have arrived.
func (r *Relay) due(n, direction int) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.passed[direction] += int64(n)
	if r.rate > 0 {
		if r.busy[direction].Before(now) {
			r.busy[direction] = now
		}
		r.busy[direction] = r.busy[direction].Add(time.Duration(n) * time.Second / time.Duration(r.rate))
		now = r.busy[direction]
	}
	return now.Add(r.delay)
}
