// Package peer is the frame of a server that is measured: a program of its own that serves one
// topic, publishes to it at the word of the measuring program, and ends with it.
//
// Its standard output begins with a line
//
//	ready ADDRESS PATH PID…
//
// that says where the topic is, and which processes do the serving. Its standard input takes
// commands, one a line, and each gets one line as its answer; "error" and a text when it failed:
//
//	probe                            publish messages that are not counted    ok
//	own COUNT                        the same to the own topics of so many    ok
//	publish SECONDS RATE SIZE AHEAD  publish for a time, RATE a second        published COUNT STARTED
//	retain COUNT SIZE                publish what clients read later          retained CURSOR
//	gc                               give unused memory back to the system    ok
//	profile NAME                     begin a CPU profile, or end it with -    ok
//	heap NAME                        write a profile of the heap              ok
//	allow COUNT                      COUNT messages have reached everybody    (none)
//
// A probe goes to each of Options.Topics, and publish takes them in turn. Where each connection has
// only some of them, publish ends when each topic has got as many messages as the others.
//
// A RATE of 0 is as fast as possible, but at most AHEAD messages ahead of what allow said last; an
// AHEAD of 0 does not wait for anybody. STARTED is a time of payload.Now. CURSOR is the
// Last-Event-ID of a client that is to get what was retained, "-" for none. The program ends at the
// end of its input.
package peer

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/headrace/headrace/integration/bench/internal/payload"
)

// ProbeSize is the length of a message that is not counted.
const ProbeSize = 64

// Server is what is measured.
type Server struct {
	// Handler serves the topic. It is served by net/http on a free port of the loopback interface.
	Handler http.Handler
	// Path is where the topics are; Options.Path is a good one.
	Path string
	// Addr is where the topic is served when there is no Handler.
	Addr string
	// Processes are the ones that serve, when they are not this one.
	Processes []int
	// Publish publishes one message and returns its id if it has one. It is called by one goroutine
	// at a time and may keep data. A server that knows one topic only may ignore its name.
	Publish func(topic string, data []byte) (id string, err error)
	// Close ends what was started besides. It may be nil.
	Close func()

	topics  []string // that are published to in turn
	round   int      // publishing ends after a multiple of it
	profile profiler
}

// Options are what the command line says.
type Options struct {
	// Retain is how many messages a client that comes later gets. 0 is none.
	Retain int
	// Backend is the URL of the backend, for servers that know such a thing.
	Backend string
	// Width is how many topics there are on each stream. All connections share them.
	Width int
	// Own makes the last of these topics one of the connection's own.
	Own bool
	// Spread is how many topics there are, of which each connection follows one. 0 is one that all
	// connections follow.
	Spread int
	// Filter asks for a function that says yes to each message, for each connection.
	Filter bool
	// Map asks for a function that makes the event of each message, for each connection.
	Map bool
	// Wrapped asks for a middleware that wraps the response writer.
	Wrapped bool
	// Plain asks for net/http without a framework, of a server that is served by one else.
	Plain bool
	// Detached asks for giving the handler's goroutine back, of a server that can.
	Detached bool
	// Profile is the folder where profiles are left, "" for none.
	Profile string
	// Paged asks for reading what is retained from the backend and not from memory shared by
	// connections.
	Paged bool
}

// Main is the main function of a server program. It does not return.
func Main(open func(Options) (*Server, error)) {
	var o Options
	flag.IntVar(&o.Retain, "retain", 0, "keep this many messages for clients that come later")
	flag.StringVar(&o.Backend, "backend", "memory://", "the backend's `URL`")
	flag.IntVar(&o.Width, "topics", 1, "how many topics are on each stream")
	flag.BoolVar(&o.Own, "own", false, "make the last of them one of the connection's own")
	flag.IntVar(&o.Spread, "spread", 0, "have this many topics, and one of them on each stream")
	flag.BoolVar(&o.Filter, "filter", false, "filter messages for each connection")
	flag.BoolVar(&o.Map, "map", false, "map messages for each connection")
	flag.BoolVar(&o.Wrapped, "wrapped", false, "wrap the response writer")
	flag.BoolVar(&o.Plain, "plain", false, "do without a framework")
	flag.BoolVar(&o.Detached, "detached", false, "give the handler's goroutine back")
	flag.StringVar(&o.Profile, "profile", "", "the `folder` to leave profiles in")
	flag.BoolVar(&o.Paged, "paged", false, "read what is retained from the backend")
	flag.Parse()
	if err := run(open, o, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(open func(Options) (*Server, error), o Options, in io.Reader, out io.Writer) error {
	server, err := open(o)
	if err != nil {
		return err
	}
	server.profile.folder = o.Profile
	server.topics, server.round = o.Topics(), o.round()
	if server.Close != nil {
		defer server.Close()
	}
	if server.Handler != nil {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer listener.Close()
		server.Addr, server.Processes = listener.Addr().String(), []int{os.Getpid()}
		s := &http.Server{Handler: server.Handler, ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = s.Serve(listener) }() // it ends when the listener does
	}
	fmt.Fprintf(out, "ready %s %s%s\n", server.Addr, server.Path, join(server.Processes))
	return serve(server, in, out)
}

func join(processes []int) string {
	var b strings.Builder
	for _, pid := range processes {
		b.WriteString(" " + strconv.Itoa(pid))
	}
	return b.String()
}

// serve executes commands until their end. One command is executed at a time; allow comes in
// between.
func serve(s *Server, in io.Reader, out io.Writer) error {
	allowed := newGate()
	defer allowed.close()
	commands := make(chan []string)
	defer close(commands)
	go func() {
		for words := range commands {
			answer, err := execute(s, allowed, words)
			if err != nil {
				answer = "error " + strings.ReplaceAll(err.Error(), "\n", " ")
			}
			fmt.Fprintln(out, answer)
		}
	}()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 0:
		case words[0] == "allow":
			n, err := numbers(words[1:], 1)
			if err != nil {
				return err
			}
			allowed.open(n[0])
		default:
			// What was allowed before belongs to the command before.
			allowed.reset()
			commands <- words
		}
	}
	return lines.Err()
}

func execute(s *Server, allowed *gate, words []string) (string, error) {
	switch words[0] {
	case "probe":
		return "ok", s.probe(s.topics)
	case "own":
		n, err := numbers(words[1:], 1)
		if err != nil {
			return "", err
		}
		topics := make([]string, int(n[0]))
		for i := range topics {
			topics[i] = own(i)
		}
		return "ok", s.probe(topics)
	case "publish":
		n, err := numbers(words[1:], 4)
		if err != nil {
			return "", err
		}
		started := payload.Now()
		count, err := publish(s, allowed, time.Duration(n[0]*float64(time.Second)), n[1], int(n[2]), int(n[3]))
		return fmt.Sprintf("published %d %d", count, started), err
	case "retain":
		n, err := numbers(words[1:], 2)
		if err != nil {
			return "", err
		}
		cursor, err := retain(s, int(n[0]), int(n[1]))
		return "retained " + cursor, err
	case "gc":
		// What the first collection only marks for a finalizer goes with the second one.
		runtime.GC()
		debug.FreeOSMemory()
		return "ok", nil
	case "profile", "heap":
		if len(words) != 2 {
			return "", fmt.Errorf("peer: %s has one argument", words[0])
		}
		if words[0] == "heap" {
			return "ok", s.profile.heap(words[1])
		}
		if words[1] == "-" {
			s.profile.stop()
			return "ok", nil
		}
		return "ok", s.profile.start(words[1])
	}
	return "", fmt.Errorf("peer: unknown command %q", words[0])
}

// numbers returns words as that many numbers that are not negative.
func numbers(words []string, count int) ([]float64, error) {
	if len(words) != count {
		return nil, fmt.Errorf("peer: %d arguments and not %d", len(words), count)
	}
	list := make([]float64, count)
	for i, word := range words {
		n, err := strconv.ParseFloat(word, 64)
		if err != nil || n < 0 || n > 1e12 {
			return nil, fmt.Errorf("peer: %q is no number", word)
		}
		list[i] = n
	}
	return list, nil
}

// probe publishes a message that is not counted to each of some topics.
func (s *Server) probe(topics []string) error {
	for _, topic := range topics {
		if _, err := s.Publish(topic, payload.ProbeMessage(ProbeSize)); err != nil {
			return err
		}
	}
	return nil
}

// publish publishes for a time, and on until the round is whole, and returns how many messages that
// were.
func publish(s *Server, allowed *gate, long time.Duration, rate float64, size, ahead int) (int, error) {
	begin := time.Now()
	end := time.NewTimer(long)
	defer end.Stop()
	over := false
	for count := 0; ; count++ {
		if rate > 0 {
			// From the beginning, and not from the message before, so that no delay adds up.
			time.Sleep(time.Until(begin.Add(time.Duration(float64(count) / rate * float64(time.Second)))))
		}
		over = over || time.Since(begin) >= long || ahead > 0 && !allowed.wait(count-ahead+1, end.C)
		// The rest of a round is no faster than what came before.
		if over && (count%s.round == 0 || ahead > 0 && !allowed.wait(count-ahead+1, nil)) {
			return count, nil
		}
		if _, err := s.Publish(s.topics[count%len(s.topics)], payload.Message(size, payload.Now())); err != nil {
			return count, err
		}
	}
}

// retain publishes a probe, whose id is the cursor, and then messages that are counted.
func retain(s *Server, count, size int) (cursor string, err error) {
	topic := s.topics[0]
	cursor, err = s.Publish(topic, payload.ProbeMessage(ProbeSize))
	if err != nil {
		return "", err
	}
	for range count {
		if _, err := s.Publish(topic, payload.Message(size, payload.Now())); err != nil {
			return "", err
		}
	}
	if cursor == "" {
		cursor = "-"
	}
	return cursor, nil
}
