package front

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Health is the path at which Handler answers by itself that the server is there, under any name:
// those who watch over servers know their addresses only.
const Health = "/healthz"

// Handler returns next for requests that use a known name for the server, which listens at addr.
// Others are answered 421. A page of any site can otherwise have its own name lead to this machine,
// and is then of the same origin as what it finds there.
func (f *Front) Handler(next http.Handler, addr net.Addr) http.Handler {
	known := f.known(addr)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == Health && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusNoContent)
		case !known(r.Host):
			f.warn(&f.misdirected, "front: a request for a host that is not known is refused; name hosts with -hosts", "host", r.Host)
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusMisdirectedRequest)
			_, _ = w.Write([]byte(`{"error":"misdirected request"}`)) // who is gone needs no answer
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// known returns what tells the hosts of requests that are for a server at addr.
func (f *Front) known(addr net.Addr) func(host string) bool {
	tcp, ok := addr.(*net.TCPAddr)
	loopback := ok && tcp.IP.IsLoopback()
	if !loopback && len(f.Hosts) == 0 {
		return func(string) bool { return true }
	}
	return func(host string) bool {
		name, _, ok := split(host)
		return ok && (slices.Contains(f.Hosts, name) || loopback && isLoopback(name))
	}
}

// isLoopback reports whether a name, as split returns it, can mean nothing but this machine.
func isLoopback(name string) bool {
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.IsLoopback()
	}
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// split returns the one spelling of the name or address in a Host, and whether there is a port. It
// reports false where there is no name in it, or one that cannot be.
func split(host string) (name string, port, ok bool) {
	var rest string
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		text, after, _ := strings.Cut(inner, "]")
		addr, err := netip.ParseAddr(text)
		if err != nil || !addr.Is6() || addr.Zone() != "" || !strings.HasSuffix(host[:len(host)-len(after)], "]") {
			return "", false, false
		}
		name, rest = addr.Unmap().String(), after
		if rest != "" && rest[0] != ':' {
			return "", false, false
		}
		rest, port = strings.CutPrefix(rest, ":")
	} else {
		name, rest, port = strings.Cut(host, ":")
		name = strings.TrimSuffix(strings.ToLower(name), ".")
		for label := range strings.SplitSeq(name, ".") {
			if label == "" || strings.Trim(label, "-_0123456789abcdefghijklmnopqrstuvwxyz") != "" {
				return "", false, false
			}
		}
	}
	if strings.Trim(rest, "0123456789") != "" {
		return "", false, false
	}
	return name, port, true
}
