// Command gosse is tmaxmax/go-sse: its Server with Joe, the provider that it brings.
package main

import (
	"net/http"

	"github.com/tmaxmax/go-sse"

	"github.com/headrace/headrace/integration/bench/internal/peer"
	"github.com/headrace/headrace/integration/bench/internal/wrap"
)

func main() { peer.Main(open) }

func open(o peer.Options) (*peer.Server, error) {
	joe := &sse.Joe{}
	cursor := ""
	if o.Retain > 0 {
		// The cursor's own message is kept too, and is the first.
		replayer, err := sse.NewFiniteReplayer(o.Retain+1, true)
		if err != nil {
			return nil, err
		}
		joe.Replayer, cursor = replayer, "0"
	}
	server := &sse.Server{Provider: joe, OnSession: func(_ http.ResponseWriter, r *http.Request) ([]string, bool) {
		return o.Follows(peer.Connection(r.URL.Path)), true
	}}
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A page sees at once that the stream is open.
		w.Header().Set("Content-Type", "text/event-stream")
		if http.NewResponseController(w).Flush() == nil {
			server.ServeHTTP(w, r)
		}
	})
	if o.Wrapped {
		handler = wrap.Handler(handler)
	}
	return &peer.Server{
		Handler: handler,
		Path:    o.Path(),
		Publish: func(topic string, data []byte) (string, error) {
			m := &sse.Message{}
			m.AppendData(string(data))
			return cursor, server.Publish(m, topic)
		},
	}, nil
}
