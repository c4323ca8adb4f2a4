package feed

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// of returns a request whose key is, with byKey, key.
func of(key string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Key", key)
	return r
}

func byKey(r *http.Request) string { return r.Header.Get("Key") }

// take acquires a place that has to be there.
func take(t *testing.T, l *Limits, r *http.Request) (release func()) {
	t.Helper()
	release, err := l.acquire(r)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

// isRefused expects that there is no place, and the status that says why.
func isRefused(t *testing.T, l *Limits, r *http.Request, code int) {
	t.Helper()
	open := l.Open()
	release, err := l.acquire(r)
	var status interface{ StatusCode() int }
	if !errors.Is(err, ErrTooMany) || !errors.As(err, &status) {
		t.Fatalf("got %v, want ErrTooMany with a status", err)
	}
	equal(t, "status", status.StatusCode(), code)
	equal(t, "nothing to release", release == nil, true)
	equal(t, "open after a refusal", l.Open(), open)
}

// isEmpty expects that nothing is held or remembered.
func isEmpty(t *testing.T, l *Limits) {
	t.Helper()
	equal(t, "open", l.Open(), 0)
	equal(t, "keys", len(l.keys), 0)
}

func TestLimitOfAll(t *testing.T) {
	l := &Limits{Max: 2}
	a, b := take(t, l, of("")), take(t, l, of(""))
	equal(t, "open", l.Open(), 2)
	isRefused(t, l, of(""), http.StatusServiceUnavailable)
	a()
	c := take(t, l, of(""))
	isRefused(t, l, of(""), http.StatusServiceUnavailable)
	b()
	c()
	isEmpty(t, l)
}

func TestLimitPerKey(t *testing.T) {
	l := &Limits{Max: 5, PerKey: 2, Key: byKey}
	a1, a2 := take(t, l, of("a")), take(t, l, of("a"))
	isRefused(t, l, of("a"), http.StatusTooManyRequests)
	b := take(t, l, of("b"))
	a1()
	equal(t, "keys", len(l.keys), 2)
	a3 := take(t, l, of("a"))
	isRefused(t, l, of("a"), http.StatusTooManyRequests)
	a2()
	a3()
	equal(t, "keys that have streams", len(l.keys), 1)
	b()
	isEmpty(t, l)
}

// TestLimitMetTwice: where nobody gets in, it is not said to be the key's fault.
func TestLimitMetTwice(t *testing.T) {
	l := &Limits{Max: 1, PerKey: 1, Key: byKey}
	defer take(t, l, of("a"))()
	isRefused(t, l, of("a"), http.StatusServiceUnavailable)
}

func TestNoKeyIsNotLimitedPerKey(t *testing.T) {
	l := &Limits{Max: 3, PerKey: 1, Key: byKey}
	for range 3 {
		defer take(t, l, of(""))()
	}
	equal(t, "keys", len(l.keys), 0)
	isRefused(t, l, of(""), http.StatusServiceUnavailable)
}

func TestNoLimits(t *testing.T) {
	for name, l := range map[string]*Limits{
		"zero":     {},
		"negative": {Max: -1, PerKey: -1},
		"no key":   {Key: func(*http.Request) string { panic("called although there is no bound") }},
	} {
		t.Run(name, func(t *testing.T) {
			var releases []func()
			for range 100 {
				releases = append(releases, take(t, l, of("a")))
			}
			equal(t, "open", l.Open(), 100)
			for _, release := range releases {
				release()
			}
			isEmpty(t, l)
		})
	}
	t.Run("nil", func(t *testing.T) {
		var l *Limits
		release := take(t, l, of("a"))
		equal(t, "open", l.Open(), 0)
		release()
	})
}

func TestReleaseTwice(t *testing.T) {
	l := &Limits{PerKey: 5, Key: byKey}
	a, b := take(t, l, of("a")), take(t, l, of("a"))
	a()
	a()
	equal(t, "open", l.Open(), 1)
	equal(t, "with the key", l.keys["a"], 1)
	b()
	a()
	b()
	isEmpty(t, l)
}

func TestDefaultKeyIsTheAddress(t *testing.T) {
	l := &Limits{PerKey: 1}
	request := func(addr string) *http.Request {
		r := of("")
		r.RemoteAddr = addr
		r.Header.Set("X-Forwarded-For", "198.51.100."+addr[len(addr)-1:])
		return r
	}
	defer take(t, l, request("192.0.2.1:1"))()
	isRefused(t, l, request("192.0.2.1:2"), http.StatusTooManyRequests)
	take(t, l, request("192.0.2.2:1"))()
}

// TestKeyPanics: the panic comes through, and the limits are as if it had not been.
func TestKeyPanics(t *testing.T) {
	l := &Limits{Max: 1, PerKey: 1, Key: func(r *http.Request) string {
		if byKey(r) == "boom" {
			panic("boom")
		}
		return byKey(r)
	}}
	func() {
		defer func() { equal[any](t, "panic", recover(), "boom") }()
		_, _ = l.acquire(of("boom"))
	}()
	take(t, l, of("a"))()
	isEmpty(t, l)
}

// TestKeyMayUseLimits, because it is not called under their lock.
func TestKeyMayUseLimits(t *testing.T) {
	l := &Limits{PerKey: 1}
	l.Key = func(*http.Request) string {
		if !l.mu.TryLock() {
			t.Error("the lock is held")
			return ""
		}
		defer l.mu.Unlock()
		return "a"
	}
	take(t, l, of(""))()
}

func TestLimitsKeepTheirFields(t *testing.T) {
	l := &Limits{PerKey: 1}
	take(t, l, of(""))()
	_ = l.retry()
	if l.Max != 0 || l.PerKey != 1 || l.Key != nil || l.Retry != 0 {
		t.Error("a default was written into the caller's struct")
	}
}

func TestRetryOfTheRefused(t *testing.T) {
	for _, test := range []struct{ set, least time.Duration }{
		{0, 15 * time.Second},
		{-time.Second, 15 * time.Second},
		{4 * time.Second, 4 * time.Second},
	} {
		l := &Limits{Retry: test.set}
		seen := make(map[time.Duration]bool)
		for range 200 {
			d := l.retry()
			if d < test.least || d > test.least*3/2 {
				t.Fatalf("Retry %v: %v", test.set, d)
			}
			seen[d] = true
		}
		if len(seen) < 50 {
			t.Errorf("Retry %v: only %d times of 200 differ", test.set, len(seen))
		}
	}
}

// TestLimitsConcurrently: never more than the bounds, and nothing is left behind.
func TestLimitsConcurrently(t *testing.T) {
	const clients, rounds = 32, 300
	keys := []string{"a", "b", "c", "d", ""}
	l := &Limits{Max: 7, PerKey: 2, Key: byKey}
	var all, taken atomic.Int64
	perKey := make([]atomic.Int64, len(keys))
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range rounds {
				k := rand.N(len(keys))
				release, err := l.acquire(of(keys[k]))
				if err != nil {
					continue
				}
				taken.Add(1)
				if n := all.Add(1); n > 7 {
					t.Errorf("%d streams", n)
				}
				if n := perKey[k].Add(1); n > 2 && keys[k] != "" {
					t.Errorf("%d streams of %s", n, keys[k])
				}
				if n := l.Open(); n < 1 || n > 7 {
					t.Errorf("Open says %d", n)
				}
				perKey[k].Add(-1)
				all.Add(-1)
				// Both ends of a connection may find that it is over.
				var both sync.WaitGroup
				both.Go(release)
				both.Go(release)
				both.Wait()
			}
		})
	}
	wg.Wait()
	if taken.Load() == 0 {
		t.Error("nobody got in")
	}
	isEmpty(t, l)
}

func prefixes(s ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, p := range s {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

func TestClientAddr(t *testing.T) {
	proxies := prefixes("10.0.0.0/8", "2001:db8:ff::/48")
	for name, test := range map[string]struct {
		trusted []netip.Prefix
		remote  string
		header  []string
		want    string
	}{
		"IPv4":                       {nil, "192.0.2.1:4711", nil, "192.0.2.1"},
		"IPv4 without a port":        {nil, "192.0.2.1", nil, "192.0.2.1"},
		"IPv4-mapped":                {nil, "[::ffff:192.0.2.1]:4711", nil, "192.0.2.1"},
		"IPv6":                       {nil, "[2001:db8:1:2:3:4:5:6]:4711", nil, "2001:db8:1:2::/64"},
		"IPv6 without a port":        {nil, "2001:db8:1:2:3:4:5:6", nil, "2001:db8:1:2::/64"},
		"IPv6 with a zone":           {nil, "[fe80::1%eth0]:4711", nil, "fe80::/64"},
		"loopback":                   {nil, "[::1]:4711", nil, "::/64"},
		"Unix socket":                {proxies, "@", []string{"192.0.2.1"}, ""},
		"no address":                 {proxies, "", []string{"192.0.2.1"}, ""},
		"a name":                     {proxies, "localhost:80", []string{"192.0.2.1"}, ""},
		"nobody trusted":             {nil, "10.0.0.1:1", []string{"192.0.2.1"}, "10.0.0.1"},
		"no header":                  {proxies, "10.0.0.1:1", nil, ""},
		"empty header":               {proxies, "10.0.0.1:1", []string{""}, ""},
		"not trusted":                {proxies, "192.0.2.9:1", []string{"192.0.2.1"}, "192.0.2.9"},
		"not trusted, forges proxy":  {proxies, "192.0.2.9:1", []string{"192.0.2.1, 10.0.0.1"}, "192.0.2.9"},
		"one proxy":                  {proxies, "10.0.0.1:1", []string{"192.0.2.1"}, "192.0.2.1"},
		"one IPv6 proxy":             {proxies, "[2001:db8:ff:1::1]:1", []string{"192.0.2.1"}, "192.0.2.1"},
		"proxy's neighbour":          {prefixes("2001:db8::1/128"), "[2001:db8::2]:1", []string{"192.0.2.1"}, "2001:db8::/64"},
		"one IPv4-mapped proxy":      {proxies, "[::ffff:10.0.0.1]:1", []string{"192.0.2.1"}, "192.0.2.1"},
		"one proxy with a zone":      {prefixes("fe80::/10"), "[fe80::1%eth0]:1", []string{"192.0.2.1"}, "192.0.2.1"},
		"trusted is IPv4-mapped":     {prefixes("::ffff:10.0.0.0/104"), "10.0.0.1:1", []string{"192.0.2.1"}, "192.0.2.1"},
		"trusted has host bits":      {prefixes("10.1.2.3/8"), "10.0.0.1:1", []string{"192.0.2.1"}, "192.0.2.1"},
		"trusted is invalid":         {[]netip.Prefix{{}}, "10.0.0.1:1", []string{"192.0.2.1"}, "10.0.0.1"},
		"all of IPv6 is not IPv4":    {prefixes("::/0"), "10.0.0.1:1", []string{"192.0.2.1"}, "10.0.0.1"},
		"two proxies":                {proxies, "10.0.0.1:1", []string{"192.0.2.1, 10.0.0.2"}, "192.0.2.1"},
		"two proxies, two lines":     {proxies, "10.0.0.1:1", []string{"192.0.2.1", "10.0.0.2"}, "192.0.2.1"},
		"client forges an entry":     {proxies, "10.0.0.1:1", []string{"198.51.100.7, 192.0.2.1, 10.0.0.2"}, "192.0.2.1"},
		"client forges a line":       {proxies, "10.0.0.1:1", []string{"198.51.100.7", "192.0.2.1"}, "192.0.2.1"},
		"client forges a proxy":      {proxies, "10.0.0.1:1", []string{"198.51.100.7, 10.0.0.3, 192.0.2.1"}, "192.0.2.1"},
		"all are proxies":            {proxies, "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"malformed last":             {proxies, "10.0.0.1:1", []string{"192.0.2.1, unknown"}, ""},
		"malformed after a hop":      {proxies, "10.0.0.1:1", []string{"192.0.2.1, unix:, 10.0.0.2"}, ""},
		"malformed before":           {proxies, "10.0.0.1:1", []string{"<script>, 192.0.2.1"}, "192.0.2.1"},
		"empty entry":                {proxies, "10.0.0.1:1", []string{"192.0.2.1, , 10.0.0.2"}, ""},
		"empty entry last":           {proxies, "10.0.0.1:1", []string{"192.0.2.1,"}, ""},
		"empty line last":            {proxies, "10.0.0.1:1", []string{"192.0.2.1", ""}, ""},
		"entry with spaces":          {proxies, "10.0.0.1:1", []string{" \t192.0.2.1 \t,10.0.0.2\t"}, "192.0.2.1"},
		"entry with a port":          {proxies, "10.0.0.1:1", []string{"192.0.2.1:4711,10.0.0.2:80"}, "192.0.2.1"},
		"entry with a bad port":      {proxies, "10.0.0.1:1", []string{"192.0.2.1:x"}, ""},
		"IPv6 entry":                 {proxies, "10.0.0.1:1", []string{"2001:db8:1:2:3:4:5:6"}, "2001:db8:1:2::/64"},
		"IPv6 entry, brackets":       {proxies, "10.0.0.1:1", []string{"[2001:db8:1:2:3:4:5:6]"}, "2001:db8:1:2::/64"},
		"IPv6 entry, brackets, port": {proxies, "10.0.0.1:1", []string{"[2001:db8:1:2:3:4:5:6]:4711"}, "2001:db8:1:2::/64"},
		"IPv6 entry, zone":           {proxies, "10.0.0.1:1", []string{"fe80::1%lan"}, "fe80::/64"},
		"IPv4-mapped entry":          {proxies, "10.0.0.1:1", []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		"IPv4 entry, brackets":       {proxies, "10.0.0.1:1", []string{"[192.0.2.1]"}, ""},
		"half a bracket":             {proxies, "10.0.0.1:1", []string{"[2001:db8::1"}, ""},
		"doubled brackets":           {proxies, "10.0.0.1:1", []string{"[[2001:db8::1]]"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := of("")
			r.RemoteAddr = test.remote
			r.Header["X-Forwarded-For"] = test.header
			r.Header.Set("X-Real-Ip", "203.0.113.99")
			r.Header.Set("Forwarded", "for=203.0.113.99")
			equal(t, "key", ClientAddr(test.trusted...)(r), test.want)
		})
	}
}

func TestClientAddrCopiesTrusted(t *testing.T) {
	trusted := prefixes("10.0.0.0/8")
	key := ClientAddr(trusted...)
	trusted[0] = netip.MustParsePrefix("0.0.0.0/0")
	r := of("")
	r.RemoteAddr = "192.0.2.1:1"
	r.Header.Set("X-Forwarded-For", "198.51.100.7")
	equal(t, "key", key(r), "192.0.2.1")
}

// FuzzClientAddr: whatever a client sends, its key is that of its address, be it connected
// directly or through a proxy.
func FuzzClientAddr(f *testing.F) {
	for _, forged := range []string{"", ",", "198.51.100.7", "10.0.0.1", "10.0.0.1, 10.0.0.2", "[::1]", "\n192.0.2.2", "unknown,"} {
		f.Add(forged)
	}
	key := ClientAddr(prefixes("10.0.0.0/8")...)
	f.Fuzz(func(t *testing.T, forged string) {
		const client = "192.0.2.1"
		for how, r := range map[string]struct {
			remote string
			header []string
		}{
			"directly":             {client + ":1", []string{forged}},
			"directly, two lines":  {client + ":1", []string{forged, forged}},
			"appended":             {"10.0.0.1:1", []string{forged + "," + client}},
			"appended as a line":   {"10.0.0.1:1", []string{forged, client}},
			"appended by two":      {"10.0.0.1:1", []string{forged + ", " + client + ", 10.0.0.2"}},
			"replaced by the last": {"10.0.0.1:1", []string{client}},
		} {
			equal(t, how, key(&http.Request{RemoteAddr: r.remote, Header: http.Header{"X-Forwarded-For": r.header}}), client)
		}
	})
}
