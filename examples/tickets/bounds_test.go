package main

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"testing"

	"github.com/headrace/headrace/examples/internal/front"
)

// TestOneVisitor: of 20 places a visitor gets half, wherever the streams are, and others still come
// in.
func TestOneVisitor(t *testing.T) {
	// The test is the proxy, so that it can be at several addresses.
	before := front.Front{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	o := ordinary()
	o.limits, o.client = before.Limits(20, 50), before.Client()
	a := serveWith(t, "memory://", nil, o)
	made := a.create("one")
	paths := []string{"/tickets/events", "/desk/events", "/tickets/" + made.ID + "/events"}
	open := func(i int, address string, header ...string) (ok bool) {
		t.Helper()
		c := a.follow(paths[i%len(paths)], "", append(header, "X-Forwarded-For", address)...)
		_, err := c.Decode()
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return err == nil
	}
	got := 0
	for i := range 40 {
		// Of an IPv6 network every address is the same visitor's, and what a visitor says before
		// the proxy does not count.
		if open(i, []string{"2001:db8::1", "2001:db8::2:3", "198.51.100.1, 2001:db8::4"}[i%3]) {
			got++
		}
	}
	if got != 10 {
		t.Errorf("one visitor has %d streams of 20, want 10", got)
	}
	if code, _ := a.doOnce("GET", "/desk/events", "X-Forwarded-For", "2001:db8::1"); code != http.StatusTooManyRequests {
		t.Errorf("a program is answered %d, want 429", code)
	}
	for i := range 5 {
		if !open(i, "192.0.2.1") {
			t.Errorf("another visitor has %d streams only", i)
		}
	}
	// Who has signed in is counted by name, where a route looks at that: the changes alone are for
	// everybody.
	_, cookies := a.signIn("192.0.2.1", roleAgent)
	for i := range 4 {
		if !open(1+i%2, "2001:db8::1", "Cookie", cookies) {
			t.Errorf("an agent beside the visitor has %d streams only", i)
		}
	}
}

// TestUnknownProxy: visitors behind a proxy that nobody has named are not taken for one.
func TestUnknownProxy(t *testing.T) {
	var before front.Front
	o := ordinary()
	o.limits, o.client = before.Limits(20, 2), before.Client()
	a := serveWith(t, "memory://", nil, o)
	for range 10 {
		a.follow("/desk/events", "", "X-Forwarded-For", "192.0.2.1").hello()
	}
}
