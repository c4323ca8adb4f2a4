// Package front is what the examples know of what stands between them and their clients: the names
// under which they are reached, and the proxies. It is small enough to be copied.
package front

import (
	"errors"
	"flag"
	"log/slog"
	"net/netip"
	"strings"
	"sync"

	"github.com/headrace/headrace/sse/feed"
)

// Front says what stands in front of a server. The zero value is right for one whose clients
// connect directly; it says so in the log when they do not. Do not change a Front that is in use.
// Its methods are safe for concurrent use.
type Front struct {
	// Hosts are names and addresses, without ports, under which clients reach the server. Default:
	// on a loopback address the loopback names, elsewhere any name.
	Hosts []string
	// Proxies are the networks of proxies that append to X-Forwarded-For, or replace it, and of
	// nothing else. Default: none is known.
	Proxies []netip.Prefix
	// NoProxies says that there are no proxies. Without it, and without Proxies, who sends headers
	// of a proxy is taken for one.
	NoProxies bool
	// Logger gets a line at Warn, once, for each thing that does not fit. Default slog.Default().
	Logger *slog.Logger

	unknown, untold, misdirected sync.Once
}

// Flags defines -hosts and -proxies.
func (f *Front) Flags(flags *flag.FlagSet) {
	flags.Func("hosts", "`list` of names under which the server is reached, such as app.example.com,10.0.0.7; others are refused. "+
		"On a loopback address the loopback names are known without it, elsewhere all names are", f.setHosts)
	flags.Func("proxies", "`list` of addresses and networks of proxies, such as 10.0.0.0/8, whose X-Forwarded-For says who a client is; "+
		"none if clients connect directly", f.setProxies)
}

func (f *Front) setHosts(list string) error {
	f.Hosts = nil
	for name := range strings.SplitSeq(list, ",") {
		if addr, err := netip.ParseAddr(name); err == nil && addr.Is6() {
			name = "[" + name + "]"
		}
		canonical, port, ok := split(name)
		if !ok || port {
			return errors.New("each must be a name or an address, without a port")
		}
		f.Hosts = append(f.Hosts, canonical)
	}
	return nil
}

func (f *Front) setProxies(list string) error {
	f.Proxies, f.NoProxies = nil, list == "none"
	if f.NoProxies {
		return nil
	}
	for text := range strings.SplitSeq(list, ",") {
		network, err := netip.ParsePrefix(text)
		if addr, bad := netip.ParseAddr(text); bad == nil {
			network, err = addr.Unmap().WithZone("").Prefix(addr.Unmap().BitLen())
		} else if network.Addr().Is4In6() && network.Bits() >= 96 {
			network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96) // as addresses are compared
		}
		if err != nil {
			return errors.New("each must be an address or a network, such as 10.0.0.0/8; or none alone")
		}
		f.Proxies = append(f.Proxies, network)
	}
	return nil
}

// Limits bound streams to so many, and to so many of each client, but to half of all in any case:
// no client takes all places.
func (f *Front) Limits(all, each int) *feed.Limits {
	return &feed.Limits{Max: all, PerKey: min(each, (all+1)/2), Key: f.Client()}
}

func (f *Front) warn(once *sync.Once, message string, args ...any) {
	once.Do(func() {
		logger := f.Logger
		if logger == nil {
			logger = slog.Default()
		}
		logger.Warn(message, args...)
	})
}
