//go:build linux

// Command load is many clients of an event stream in one process and one thread: it opens raw TCP
// connections, sends each one request, and reads with epoll what comes, counting messages without
// parsing the stream.
//
// Its standard input takes commands, one a line, and each gets one line as its answer; "error" and
// a text when it failed:
//
//	open COUNT                    open further connections         opened COUNT STARTED
//	connect COUNT SECONDS         and wait for a byte of each      connected COUNT STARTED FIRST
//	join SECONDS                  wait for a probe of each         joined COUNT
//	reset STEP LATENCY RECEIVERS  count from 0 again               ok
//	expect COUNT SECONDS          wait for COUNT messages of each  done LAST TOTAL LEAST MOST LOST
//	                                                               SAMPLES P50 P99
//
// COUNT in the answers of connect and join is that of all connections. With a STEP that is not 0 a
// line "progress COUNT" comes in between, whenever all connections have got STEP messages more.
// Where each message has only so many RECEIVERS (0: all connections have it) that is whenever so
// many times STEP have come. Latency is measured if LATENCY is not 0. STARTED, FIRST, when the last
// connection got its first byte, and LAST, when the last message came, are times of payload.Now;
// P50 and P99 are nanoseconds from publishing to reading. LOST is how many connections have ended.
// The program ends at the end of its input.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	addrs := flag.String("addr", "", "the `addresses` to connect to in turn, separated by commas; latency is measured at the last")
	path := flag.String("path", "/events", "the `path` to request; {n} in it is the connection's number, from 0")
	cursor := flag.String("cursor", "", "the Last-Event-ID to send")
	flag.Parse()
	if err := run(strings.Split(*addrs, ","), *path, *cursor); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(addrs []string, path, cursor string) error {
	l, err := newLoop(int(os.Stdin.Fd()), os.Stdout)
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		if err := l.add(addr, path, cursor); err != nil {
			return err
		}
	}
	return l.run()
}
