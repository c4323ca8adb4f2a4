package front

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/headrace/headrace/sse/feed"
)

// Client returns a feed.Limits.Key, which is feed.ClientAddr's: the client's address, and of an
// IPv6 address the network. It is never the address of a proxy that can be known for one. Where
// neither Proxies nor NoProxies is set, whoever sends a header of a proxy may be one: the key is
// then "", which is not bounded per key, and the log says how to name the proxies. A client can
// choose to be such a one, so a server that others can reach needs to be told. Behind Proxies, and
// with NoProxies, the header of anybody else is the client's own invention, and changes nothing.
func (f *Front) Client() func(*http.Request) string {
	key := feed.ClientAddr(f.Proxies...)
	return func(r *http.Request) string {
		header, told := forwarded(r.Header)
		switch {
		case f.trusts(r.RemoteAddr):
			client := key(r)
			if client == "" {
				f.warn(&f.untold, "front: a proxy of -proxies does not send X-Forwarded-For, so its clients cannot be told apart", "proxy", r.RemoteAddr)
			}
			return client
		case told && !f.NoProxies:
			f.warn(&f.unknown, "front: a request has come with a header of a proxy that is not known: name proxies with -proxies, "+
				"or say -proxies none if there are none; until then who sends the header is not bounded by address", "header", header, "from", r.RemoteAddr)
			if len(f.Proxies) == 0 {
				return ""
			}
		}
		return key(r)
	}
}

func (f *Front) trusts(remote string) bool {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	addr := peer.Addr().Unmap().WithZone("")
	for _, network := range f.Proxies {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// forwarded returns the first header by which proxies say whose request they pass on.
func forwarded(h http.Header) (name string, ok bool) {
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"} {
		if strings.Join(h.Values(name), "") != "" {
			return name, true
		}
	}
	return "", false
}
