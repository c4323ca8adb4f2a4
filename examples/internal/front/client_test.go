package front

import (
	"net/http"
	"strings"
	"testing"
)

func TestClient(t *testing.T) {
	const client, proxy = "192.0.2.1", "10.0.0.1"
	xff := func(s string) http.Header { return http.Header{"X-Forwarded-For": {s}} }
	for name, test := range map[string]struct {
		proxies string
		remote  string
		header  http.Header
		want    string
		says    string // in the log
	}{
		"directly":                            {"", client, nil, client, ""},
		"directly, IPv6":                      {"", "[2001:db8:1:2:3::4]", nil, "2001:db8:1:2::/64", ""},
		"a Unix socket":                       {"", "@", nil, "", ""},
		"an empty header":                     {"", client, xff(""), client, ""},
		"unknown proxy, X-Forwarded-For":      {"", proxy, xff(client), "", "-proxies"},
		"unknown proxy, Forwarded":            {"", proxy, http.Header{"Forwarded": {"for=" + client}}, "", "-proxies"},
		"unknown proxy, X-Real-IP":            {"", proxy, http.Header{"X-Real-Ip": {client}}, "", "-proxies"},
		"unknown proxy, header without sense": {"", proxy, xff("unknown"), "", "-proxies"},
		"known proxy":                         {"10.0.0.0/8", proxy, xff(client), client, ""},
		"known proxy, one address":            {"10.0.0.1", proxy, xff(client), client, ""},
		"known proxy, IPv6":                   {"2001:db8:ff::1,10.0.0.1", "[2001:db8:ff::1]", xff(client), client, ""},
		"known proxy, IPv4-mapped":            {"10.0.0.1", "[::ffff:10.0.0.1]", xff(client), client, ""},
		"known proxy, IPv4-mapped network":    {"::ffff:10.0.0.0/104", proxy, xff(client), client, ""},
		"known proxy, forged before":          {"10.0.0.0/8", proxy, xff("198.51.100.1, " + client), client, ""},
		"known proxy that says nothing":       {"10.0.0.0/8", proxy, nil, "", "X-Forwarded-For"},
		"known proxy, other header":           {"10.0.0.0/8", proxy, http.Header{"X-Real-Ip": {client}}, "", "X-Forwarded-For"},
		"known proxy, header without sense":   {"10.0.0.0/8", proxy, xff("unknown"), "", "X-Forwarded-For"},
		"client beside known proxies":         {"10.0.0.0/8", client, nil, client, ""},
		"client that forges, known proxies":   {"10.0.0.0/8", client, xff("198.51.100.1"), client, "-proxies"},
		"client that forges, no proxies":      {"none", client, xff("198.51.100.1"), client, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var args []string
			if test.proxies != "" {
				args = []string{"-proxies", test.proxies}
			}
			f, log := parse(t, args...)
			key := f.Client()
			for range 3 {
				r := &http.Request{RemoteAddr: test.remote + ":4711", Header: test.header}
				if test.remote == "@" {
					r.RemoteAddr = "@"
				}
				if got := key(r); got != test.want {
					t.Errorf("the key is %q, want %q", got, test.want)
				}
			}
			if lines := strings.Count(log.String(), "\n"); test.says == "" && lines != 0 ||
				test.says != "" && (lines != 1 || !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), test.says)) {
				t.Errorf("the log has %q", log)
			}
			if strings.Contains(log.String(), "198.51.100.1") {
				t.Error("what a client makes up is in the log")
			}
		})
	}
}

func TestLimits(t *testing.T) {
	for _, test := range [][3]int{{1000, 50, 50}, {20, 50, 10}, {20, 5, 5}, {3, 50, 2}, {1, 50, 1}} {
		if l := new(Front).Limits(test[0], test[1]); l.Max != test[0] || l.PerKey != test[2] {
			t.Errorf("of %d places one client can take %d, want %d", l.Max, l.PerKey, test[2])
		}
	}
}
