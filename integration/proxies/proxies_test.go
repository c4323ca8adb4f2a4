package proxies

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headrace/headrace/internal/testenv"
)

const (
	// heartbeat is that of streams, and bound how long the proxies let one be silent. It is far
	// more, for machines that are busy, and beats are so many that they take longer.
	heartbeat = 300 * time.Millisecond
	bound     = "6"
	beats     = 24
	// atOnce is how long the server may take to notice that a client left. It is less than the
	// bound, so that what ends a stream is not the bound. So many events, each waited for, may take
	// as long: with a delay of 200 ms they would take twice the time.
	atOnce = 5 * time.Second
	events = 50
	// settle is how long a proxy may take to pass on an event.
	settle = 2 * time.Second

	http1, http2 = "HTTP/1.1", "HTTP/2"
)

// proxy is one that docs/proxies.md has a configuration of.
type proxy struct {
	name string // of its tool in testenv
	// language is that of its block.
	language string
	// config returns the block as a configuration of its own that listens at a port of the loopback
	// interface, and keeps its files in a folder. h2 asks for HTTP/2 without TLS.
	config func(t *testing.T, block, port, dir string, h2 bool) string
	// command starts it with a file.
	command func(program, file string) *exec.Cmd
	// blind says that it notices that a client has left by what it sends, at the second time.
	blind bool
	// cleanly are the versions of HTTP over which it ends the response as if it were whole when the
	// server's connection breaks.
	cleanly []string
}

var proxies = []proxy{
	{
		name: "nginx", language: "nginx",
		config: func(t *testing.T, block, port, dir string, h2 bool) string {
			listen := "listen 127.0.0.1:" + port
			if h2 {
				listen += " http2"
			}
			var temp strings.Builder
			for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				fmt.Fprintf(&temp, "%s_temp_path %s/%s;\n", kind, dir, kind)
			}
			return "daemon off;\npid " + dir + "/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n" + temp.String() +
				replace(t, block, "listen 80", listen) + "}\n"
		},
		command: func(program, file string) *exec.Cmd {
			cmd := exec.Command(program, "-p", filepath.Dir(file), "-c", file, "-e", "stderr")
			if os.Geteuid() == 0 {
				// As root it gives its workers to a user who may not enter the test's folder.
				cmd.Args = append(cmd.Args, "-g", "user root;")
			}
			return cmd
		},
	},
	{
		name: "haproxy", language: "haproxy",
		config: func(t *testing.T, block, port, _ string, _ bool) string {
			return replace(t, block, "bind :80", "bind 127.0.0.1:"+port)
		},
		command: func(program, file string) *exec.Cmd { return exec.Command(program, "-db", "-f", file) },
		cleanly: []string{http2},
	},
	{
		name: "caddy", language: "caddyfile",
		config: func(t *testing.T, block, port, dir string, h2 bool) string {
			protocols := "h1"
			if h2 {
				protocols = "h1 h2c"
			}
			return "{\nadmin off\nauto_https off\ndefault_bind 127.0.0.1\nstorage file_system " + dir +
				"\nservers {\nprotocols " + protocols + "\n}\n}\n" + replace(t, block, ":80 {", ":"+port+" {")
		},
		command: func(program, file string) *exec.Cmd {
			cmd := exec.Command(program, "run", "--config", file, "--adapter", "caddyfile")
			cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Dir(file)) // it keeps what it ran last
			return cmd
		},
		cleanly: []string{http1, http2},
	},
	{
		name: "apache", language: "apache",
		config: func(t *testing.T, block, port, dir string, _ bool) string {
			var b strings.Builder
			for _, module := range []string{"mpm_event", "authz_core", "proxy", "proxy_http", "http2"} {
				fmt.Fprintf(&b, "LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", module, module)
			}
			fmt.Fprintf(&b, "ServerName localhost\nServerRoot %[1]s\nDefaultRuntimeDir %[1]s\nPidFile %[1]s/pid\nErrorLog /dev/stderr\nProtocols h2c http/1.1\n", dir)
			return b.String() + replace(t, block, "Listen 80", "Listen 127.0.0.1:"+port, "*:80", "*:"+port)
		},
		command: func(program, file string) *exec.Cmd { return exec.Command(program, "-f", file, "-D", "FOREGROUND") },
		blind:   true,
	},
}

// start starts a proxy in front of a site, and returns its URL.
func (p proxy) start(t *testing.T, s *site, client *http.Client, h2 bool) string {
	t.Helper()
	program := testenv.Need(t, p.name)
	pairs := []string{server, s.addr}
	if p.name != "caddy" { // which has no bound
		pairs = append(pairs, silence, bound)
	}
	text := replace(t, block(t, p.language), pairs...)
	dir := t.TempDir()
	url := func(port string) string { return "http://" + net.JoinHostPort("127.0.0.1", port) }
	proxy := testenv.Start(t, testenv.Program{
		Name: p.name,
		Command: func(ports []string) *exec.Cmd {
			file := filepath.Join(dir, "config")
			if err := os.WriteFile(file, []byte(p.config(t, text, ports[0], dir, h2)), 0o600); err != nil {
				t.Fatal(err)
			}
			return p.command(program, file)
		},
		Ready: func(_ int, ports []string) error {
			resp, err := client.Get(url(ports[0]) + "/who")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); string(got) != s.addr {
				return fmt.Errorf("status %s, %.200q, %w", resp.Status, got, err)
			}
			return nil
		},
		Crash: syscall.SIGTERM, // its other processes end with it
	})
	return url(proxy.Ports[0])
}

// TestProxies: through each proxy events come one by one, heartbeats keep a stream open, a client
// that leaves is noticed, a broken connection is seen as the page says, and a client that comes
// back after the server was away has missed nothing.
func TestProxies(t *testing.T) {
	testenv.Long(t)
	for _, p := range proxies {
		for _, version := range []string{http1, http2} {
			t.Run(p.name+"/"+version, func(t *testing.T) {
				t.Parallel()
				p.test(t, version)
			})
		}
	}
}

func (p proxy) test(t *testing.T, version string) {
	h2 := version == http2
	s := newSite(t)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!h2)
	transport.Protocols.SetUnencryptedHTTP2(h2)
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	url := p.start(t, s, client, h2)
	open := func(path, cursor string) *stream {
		t.Helper()
		c, err := follow(client, url+path, cursor)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	// Events come before the next is published. Then the client of a silent stream leaves.
	c := open(silent, "")
	if e := c.next(t); e.Type != "checkpoint" {
		t.Fatalf("the first event is %+v", e)
	}
	began := time.Now()
	for range events {
		c.expect(t, s.publish("one"), "one")
	}
	if took := time.Since(began); took > atOnce {
		t.Errorf("%d events, one after the other, took %v", events, took)
	}
	c.leave()
	noticed := false
	if p.blind {
		s.publish("to nobody")
		if noticed = s.ended(silent, settle); !noticed {
			s.publish("to nobody again")
		}
	}
	if !noticed && !s.ended(silent, atOnce) {
		t.Fatalf("the server has not noticed within %v that a client left", atOnce)
	}

	// Heartbeats.
	c = open(beating, "")
	for range beats {
		for {
			e, err := c.Decode()
			if err != nil {
				t.Fatalf("in a silence: %v", err)
			}
			if e.Type == "heartbeat" {
				break
			}
		}
	}
	c.leave()
	if !s.ended(beating, deadline) {
		t.Fatal("the server has not noticed by heartbeats that a client left")
	}

	// The server goes away and comes back.
	c = open(beating, "")
	c.next(t)
	last := s.publish("three")
	c.expect(t, last, "three")
	handler := s.kill()
	var err error
	for err == nil {
		_, err = c.Decode()
	}
	c.leave()
	if clean := errors.Is(c.body.err, io.EOF); clean != slices.Contains(p.cleanly, version) {
		t.Errorf("the response of a broken connection ends by %v", c.body.err)
	}
	next := s.publish("four")
	if again, err := follow(client, url+beating, string(last)); err == nil {
		again.leave()
		t.Fatal("there is a stream although the server is away")
	}
	s.start(handler)
	testenv.Eventually(t, "the client is back", func() error {
		c, err = follow(client, url+beating, string(last))
		return err
	})
	defer c.leave()
	c.expect(t, next, "four")
}
