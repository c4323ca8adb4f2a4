// Command raw is the floor for servers that send one message at a time: a loop that writes a
// prepared frame to each connection of a topic.
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

func open(o peer.Options) (*peer.Server, error) {
	l := &loop{options: o, topics: make(map[string][]net.Conn)}
	return &peer.Server{Handler: l, Path: o.Path(), Publish: l.publish}, nil
}

// loop has the connections.
type loop struct {
	options peer.Options

	mu     sync.Mutex
	topics map[string][]net.Conn
	last   int
	frame  []byte
}

// ServeHTTP takes the connection over and is done with it. Nothing reads from it any more: a client
// that leaves is seen by a write.
func (l *loop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	topics := l.options.Follows(peer.Connection(r.URL.Path))
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := conn.Write([]byte(header)); err != nil {
		_ = conn.Close()
		return
	}
	for _, topic := range topics {
		l.topics[topic] = append(l.topics[topic], conn)
	}
}

func (l *loop) publish(topic string, data []byte) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.frame = strconv.AppendInt(append(l.frame[:0], "id: "...), int64(l.last), 10)
	l.frame = append(append(append(l.frame, "\ndata: "...), data...), "\n\n"...)
	conns := l.topics[topic]
	kept := conns[:0]
	for _, conn := range conns {
		if _, err := conn.Write(l.frame); err != nil {
			_ = conn.Close()
			continue
		}
		kept = append(kept, conn)
	}
	clear(conns[len(kept):])
	l.topics[topic] = kept
	return "", nil
}
