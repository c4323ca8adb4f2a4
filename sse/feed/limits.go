package feed

import (
	"errors"
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrTooMany means that a stream was refused because of Options.Limits. The error has a method
// StatusCode() int, for errors.As: 503 where Limits.Max or Limits.Process was reached, 429 where
// only Limits.PerKey was.
var ErrTooMany = errors.New("feed: too many streams")

// Limits bound how many streams are open at once. All routes that it is to bound together share
// one value, by pointer; the zero value, like no Limits, bounds them by Process only. Do not change
// its fields once a stream was served. Nobody who has a stream loses it to somebody else. Who is
// refused is told to come back, and the connection is closed if it is of HTTP/1. Its methods are
// safe for concurrent use.
type Limits struct {
	// Max is how many streams may be open at once in this process. Default 0: any number.
	Max int
	// Process is how many streams may be open at once in this process, those of other Limits and of
	// none among them, for one more to be let in.
	//
	// The default leaves a quarter of the process' file descriptors, at most 1,024, to everything
	// else: each connection takes one, and without any no request is answered. The limit is read at
	// the first stream (RLIMIT_NOFILE, which Go raises as far as it may); where the system states
	// none, as on Windows, there is no bound. Each stream counts as a descriptor, though streams on
	// one HTTP/2 connection share it. math.MaxInt switches the bound off.
	Process int
	// PerKey is how many streams with the same key may be open at once. Default 0: any number.
	// Leave room for pages that a browser keeps for its back button: over HTTP/2 they hold the
	// streams that they had, and were seen to hold seven in one tab.
	PerKey int
	// Key says whose stream a request asks for: a user, a tenant, an address. PerKey does not
	// bound the key "". If PerKey is set, Key is called for each request, for several at once, on
	// the handler's goroutine; a panic in it is the handler's. Default ClientAddr(), the address
	// of the connection's other end.
	Key func(*http.Request) string
	// Retry is the least time that refused clients are asked to wait; each is told a random time
	// up to half as long again. Default 15 s.
	Retry time.Duration

	mu   sync.Mutex
	open int
	keys map[string]int // streams by key, without the keys that have none
}

// Open returns how many streams are open now, that of a nil Limits being 0.
func (l *Limits) Open() int {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

var peerAddr = ClientAddr()

// acquire counts a stream as open until release is called; further calls of release do nothing.
// release is nil when there is an error, which is ErrTooMany. A nil Limits has the default of
// Process.
func (l *Limits) acquire(r *http.Request) (release func(), err error) {
	if l == nil {
		l = &Limits{}
	}
	key := ""
	if l.PerKey > 0 {
		of := l.Key
		if of == nil {
			of = peerAddr
		}
		// Before the lock and before anything is counted, because it may panic and may block.
		key = of(r)
	}
	ours := process
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.Max > 0 && l.open >= l.Max:
		return nil, &tooManyError{code: http.StatusServiceUnavailable}
	case key != "" && l.keys[key] >= l.PerKey:
		return nil, &tooManyError{code: http.StatusTooManyRequests}
	case !ours.acquire(l.Process): // last, because it counts
		return nil, &tooManyError{code: http.StatusServiceUnavailable, process: true}
	}
	l.open++
	if key != "" {
		if l.keys == nil {
			l.keys = make(map[string]int)
		}
		l.keys[key]++
	}
	held := true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !held {
			return
		}
		held = false
		ours.release()
		l.open--
		if key == "" {
			return
		}
		if l.keys[key]--; l.keys[key] == 0 {
			delete(l.keys, key) // clients come and go, and each would leave its key behind
		}
	}, nil
}

// retry draws the time that a refused client is asked to wait, in whole milliseconds.
func (l *Limits) retry() time.Duration {
	least := time.Duration(0)
	if l != nil {
		least = l.Retry
	}
	return Options{Retry: positive(least, 15*time.Second)}.retry()
}

// tooManyError does not hold the key, which may be a secret.
type tooManyError struct {
	code    int
	process bool // Limits.Process was reached
}

func (e *tooManyError) Error() string {
	switch {
	case e.process:
		return ErrTooMany.Error() + " for the file descriptors of this process"
	case e.code == http.StatusTooManyRequests:
		return ErrTooMany.Error() + " with the same key"
	}
	return ErrTooMany.Error() + " in this process"
}

func (e *tooManyError) Is(target error) bool { return target == ErrTooMany }

// StatusCode is how errors of other packages carry a status too.
func (e *tooManyError) StatusCode() int { return e.code }

// ClientAddr returns a Limits.Key: the client's address, as far as the client cannot choose it.
// That is the address of the connection's other end, http.Request.RemoteAddr, unless that belongs
// to a trusted proxy. Then it is the last entry of X-Forwarded-For that belongs to no trusted
// proxy; several such headers count as one. Where all entries belong to trusted proxies, it is
// the first. An entry that is no address is not believed, and neither is what stands before it. No
// other header is read.
//
// trusted are the networks of proxies that append to X-Forwarded-For, or replace it, and of
// nothing else: a client with an address in them can forge its key. Middleware that takes
// RemoteAddr from a header lets everybody do that.
//
// An IPv4 address is the whole key. Of an IPv6 address the key is the /64, because one subscriber
// has at least that many addresses. Ports, brackets and zones are dropped, and an IPv4-mapped
// IPv6 address is the IPv4 address, in trusted too. The key is "", which is not bounded per key,
// where RemoteAddr is no address, as on Unix sockets: there PerKey needs another Key. It is "" too
// where a trusted proxy does not say who its client is, because all its clients would be one.
//
// Behind a proxy that is not in trusted all its clients have one key, the proxy's.
//
// The function is safe for concurrent use.
func ClientAddr(trusted ...netip.Prefix) func(*http.Request) string {
	proxies := make([]netip.Prefix, len(trusted))
	for i, p := range trusted {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		proxies[i] = p
	}
	return func(r *http.Request) string {
		addr, ok := parseAddr(r.RemoteAddr)
		if !ok {
			return ""
		}
		told := false
		for entry := range hops(r.Header) {
			if !contain(proxies, addr) {
				break
			}
			if addr, told = parseAddr(entry); !told {
				return "" // what stands before it may be anybody's
			}
		}
		if !told && contain(proxies, addr) {
			return ""
		}
		return addrKey(addr)
	}
}

// hops yields the entries of X-Forwarded-For, the last one first. Empty ones are yielded too: a
// proxy that knows no address may have written them.
func hops(h http.Header) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range slices.Backward(h.Values("X-Forwarded-For")) {
			for more := true; more; {
				i := strings.LastIndexByte(line, ',')
				if !yield(line[i+1:]) {
					return
				}
				if more = i >= 0; more {
					line = line[:i]
				}
			}
		}
	}
}

func contain(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// parseAddr reads an address with or without a port, and with or without brackets if it is an
// IPv6 address.
func parseAddr(s string) (netip.Addr, bool) {
	s = strings.Trim(s, " \t")
	addr, err := netip.ParseAddr(s)
	if err != nil {
		if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") {
			addr, err = netip.ParseAddr(strings.TrimSuffix(inner, "]"))
			if !addr.Is6() {
				return netip.Addr{}, false
			}
		} else {
			var with netip.AddrPort
			with, err = netip.ParseAddrPort(s)
			addr = with.Addr()
		}
	}
	// Prefixes contain no address that has a zone.
	return addr.Unmap().WithZone(""), err == nil
}

func addrKey(addr netip.Addr) string {
	if addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}
