//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/headrace/headrace/integration/bench/internal/payload"
	"github.com/headrace/headrace/integration/bench/internal/peer"
)

const (
	// readSize is how much is read from a connection at once.
	readSize = 256 << 10
	// maxEvents is how many connections one wait reports.
	maxEvents = 1024
	// openBatch is how many connections are opened before what came meanwhile is read: fewer than a
	// server's backlog takes.
	openBatch = 64
	// openPause is what the server gets to accept a batch.
	openPause = 2 * time.Millisecond
	// connectTimeout is how long a connection may take to be made.
	connectTimeout = 5 * time.Second
	// maxConns and maxSamples bound memory.
	maxConns   = 1 << 17
	maxSamples = 4 << 20
)

// target is one address to connect to.
type target struct {
	addr unix.SockaddrInet4
	// before and after are the request; with numbered the connection's number stands between them.
	before, after []byte
	numbered      bool
}

// request returns the request of a connection.
func (t *target) request(number int) []byte {
	if !t.numbered {
		return t.before
	}
	return slices.Concat(t.before, strconv.AppendInt(nil, int64(number), 10), t.after)
}

// loop has all connections and reads from them and from the input of commands.
type loop struct {
	epoll   int
	input   int
	out     io.Writer
	line    []byte // the part of a command that has come
	ended   bool   // the input has
	targets []target
	conns   map[int32]*conn
	opened  int
	lost    int
	joined  int
	// answered is how many connections have got a byte, and first is when the last one of them did.
	answered int
	first    int64
	buffer   []byte
	events   []unix.EpollEvent

	latency bool
	samples []int64
	step    int
	// receivers is how many connections get each message, 0 when all do.
	receivers int
	reached   []int // how many connections have got at least step, 2·step… messages
	told      int   // how many steps have been told as progress
	total     int
	last      int64 // when the last message came
	expected  int   // 0 when nobody waits
	finished  int

	// until is when the wait for done is given up, zero when nobody waits.
	until time.Time
	done  func() bool
	reply func()
}

func newLoop(input int, out io.Writer) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	l := &loop{
		epoll: epoll, input: input, out: out, conns: make(map[int32]*conn),
		buffer: make([]byte, readSize), events: make([]unix.EpollEvent, maxEvents),
	}
	return l, l.watch(input)
}

// watch has a file reported as long as there is something to read from it.
func (l *loop) watch(fd int) error {
	err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	if err != nil {
		return fmt.Errorf("load: watching a file: %w", err)
	}
	return nil
}

// add adds an address to connect to, and what is to be sent there.
func (l *loop) add(addr, path, cursor string) error {
	at, err := netip.ParseAddrPort(addr)
	if err != nil || !at.Addr().Is4() {
		return fmt.Errorf("load: %q is no IPv4 address with a port", addr)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n", path, addr)
	fmt.Fprint(&b, "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\nAccept-Language: en-GB,en;q=0.9\r\n")
	if cursor != "" {
		fmt.Fprintf(&b, "Last-Event-ID: %s\r\n", cursor)
	}
	fmt.Fprint(&b, "\r\n")
	t := target{addr: unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}}
	t.before, t.after, t.numbered = bytes.Cut(b.Bytes(), []byte(peer.Number))
	l.targets = append(l.targets, t)
	return nil
}

// run reads and obeys until the input has ended.
func (l *loop) run() error {
	defer l.close()
	for !l.ended {
		if err := l.poll(l.patience()); err != nil {
			return err
		}
		if l.done != nil && (l.done() || !time.Now().Before(l.until)) {
			l.done = nil
			l.reply()
		}
	}
	return nil
}

func (l *loop) close() {
	for fd := range l.conns {
		_ = unix.Close(int(fd))
	}
	_ = unix.Close(l.epoll)
}

// patience is how long to wait for something to read, in milliseconds.
func (l *loop) patience() int {
	if l.done == nil {
		return -1
	}
	return int(max(0, time.Until(l.until).Milliseconds()+1))
}

// poll waits for something to read, at most so many milliseconds, and reads it.
func (l *loop) poll(patience int) error {
	n, err := unix.EpollWait(l.epoll, l.events, patience)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("load: waiting: %w", err)
	}
	for _, event := range l.events[:max(0, n)] {
		if int(event.Fd) == l.input {
			l.readInput()
			continue
		}
		if c := l.conns[event.Fd]; c != nil {
			l.read(c)
		}
	}
	return nil
}

func (l *loop) readInput() {
	var b [1024]byte
	n, err := unix.Read(l.input, b[:])
	if err != nil && (errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN)) {
		return
	}
	if n <= 0 {
		l.ended = true
		return
	}
	l.line = append(l.line, b[:n]...)
	for {
		line, rest, ok := bytes.Cut(l.line, []byte("\n"))
		if !ok {
			return
		}
		words := strings.Fields(string(line))
		l.line = rest
		if len(words) == 0 {
			continue
		}
		if err := l.obey(words); err != nil {
			l.answer("error %s", strings.ReplaceAll(err.Error(), "\n", " "))
		}
	}
}

func (l *loop) answer(format string, args ...any) { fmt.Fprintf(l.out, format+"\n", args...) }

// open opens connections to the targets in turn.
func (l *loop) open(count int) error {
	if len(l.conns)+count > maxConns {
		return fmt.Errorf("load: more than %d connections", maxConns)
	}
	for i := range count {
		if err := l.connect(l.opened); err != nil {
			return fmt.Errorf("load: connection %d: %w", l.opened+1, err)
		}
		l.opened++
		if i%openBatch == openBatch-1 {
			if err := l.poll(int(openPause.Milliseconds())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *loop) connect(number int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	index := number % len(l.targets)
	t := &l.targets[index]
	patience := unix.NsecToTimeval(int64(connectTimeout))
	err = errors.Join(
		// A client that resets its connections leaves none behind that use up ports.
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		// It bounds the connecting too.
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience),
	)
	if err == nil {
		err = connected(fd, unix.Connect(fd, &t.addr))
	}
	if err == nil {
		// The first bytes of a connection always have room.
		_, err = unix.Write(fd, t.request(number))
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil {
		err = l.watch(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	l.conns[int32(fd)] = &conn{fd: fd, sampled: index == len(l.targets)-1}
	return nil
}

// connected waits for a connect that a signal has interrupted: it goes on all the same.
func connected(fd int, err error) error {
	if !errors.Is(err, unix.EINTR) {
		return err
	}
	for end := time.Now().Add(connectTimeout); time.Now().Before(end); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(time.Until(end).Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n == 1 {
			code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && code != 0 {
				err = unix.Errno(code)
			}
			return err
		}
	}
	return unix.ETIMEDOUT
}

// read reads what a connection has, at most one buffer full: others have something too.
func (l *loop) read(c *conn) {
	n, err := unix.Read(c.fd, l.buffer)
	switch {
	case err != nil && (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)):
	case n <= 0:
		l.drop(c)
	default:
		if err := l.feed(c, l.buffer[:n], payload.Now()); err != nil {
			l.answer("error %v", err)
			l.drop(c)
		}
	}
}

func (l *loop) drop(c *conn) {
	l.lost++
	delete(l.conns, int32(c.fd))
	_ = unix.Close(c.fd)
}
