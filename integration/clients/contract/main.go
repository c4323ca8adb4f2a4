// Command contract drives sse.Client by the contract of launchdarkly/sse-contract-tests, a test
// harness for clients of Server-Sent Events in any language. Start it, and then the harness:
//
//	contract -addr 127.0.0.1:8000 &
//	sse-contract-tests --url http://127.0.0.1:8000 --stop-service-at-end
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "where the harness reaches the service; a loopback address, because anyone there can have it request any URL")
	flag.Parse()
	if err := run(*addr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until the harness ends the service.
func run(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	s := newService(func() { close(ended) })
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	down := make(chan error, 1)
	go func() {
		<-ended
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		down <- server.Shutdown(ctx)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	s.close()
	return <-down
}
