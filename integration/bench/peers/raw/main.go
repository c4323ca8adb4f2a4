// Command raw is the floor for servers that send one message at a time: a loop that writes a prepared frame to each connection.
package main

import (
	"net"
	"net/http"
	"strconv"
	"sync"

	"github.com/headrace/headrace/integration/bench/internal/peer"
)

const header = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\n"

func main() { peer.Main(open) }

func open(peer.Options) (*peer.Server, error) {
	l := &loop{}
	return &peer.Server{Handler: l, Path: "/events", Publish: l.publish}, nil
}

// loop has the connections.
type loop struct {
	mu    sync.Mutex
	conns []net.Conn
	last  int
	frame []byte
}

// ServeHTTP takes the connection over and is done with it. Nothing reads from it any more: a client that leaves is seen by a write.
func (l *loop) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := conn.Write([]byte(header)); err != nil {
		_ = conn.Close()
		return
	}
	l.conns = append(l.conns, conn)
}

func (l *loop) publish(data []byte) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.frame = strconv.AppendInt(append(l.frame[:0], "id: "...), int64(l.last), 10)
	l.frame = append(append(append(l.frame, "\ndata: "...), data...), "\n\n"...)
	kept := l.conns[:0]
	for _, conn := range l.conns {
		if _, err := conn.Write(l.frame); err != nil {
			_ = conn.Close()
			continue
		}
		kept = append(kept, conn)
	}
	clear(l.conns[len(kept):])
	l.conns = kept
	return "", nil
}
