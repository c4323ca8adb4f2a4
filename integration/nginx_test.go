package integration

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/internal/testenv"
)

const nginxConfig = `
daemon off;
pid %[1]s/nginx.pid;
error_log stderr;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		location / {
			proxy_pass http://%[3]s;
			proxy_read_timeout 6s;
		}
	}
}
`

// startNginx starts an nginx with its default proxy settings in front of a server, but for the time
// it lets pass in silence, and returns its URL.
func startNginx(t *testing.T, upstream string) string {
	t.Helper()
	program := testenv.Need(t, "nginx")
	dir := t.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	return "http://" + testenv.Start(t, testenv.Program{
		Name: "nginx",
		Command: func(ports []string) *exec.Cmd {
			text := fmt.Appendf(nil, nginxConfig, dir, net.JoinHostPort("127.0.0.1", ports[0]), upstream)
			if err := os.WriteFile(config, text, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program, "-p", dir, "-c", config, "-e", "stderr")
			if os.Geteuid() == 0 {
				// As root nginx gives its workers to a user who may not enter the test's folder.
				cmd.Args = append(cmd.Args, "-g", "user root;")
			}
			return cmd
		},
		Ready: func(pid int, ports []string) error {
			// It writes this file when it has its port.
			if got, _ := os.ReadFile(filepath.Join(dir, "nginx.pid")); strings.TrimSpace(string(got)) != strconv.Itoa(pid) {
				return fmt.Errorf("its pid file has %q", got)
			}
			conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", ports[0]))
			if err != nil {
				return err
			}
			return conn.Close()
		},
		Crash: os.Interrupt, // its workers end with it
	}).Addr
}

// TestThroughNginx (FAILURES 13): with nginx's defaults, which hold back a response until it is
// whole, each event comes at once, heartbeats keep a silent stream open for longer than
// proxy_read_timeout, and a client that leaves is noticed.
func TestThroughNginx(t *testing.T) {
	h := newHub(t, memory.Options{})
	server := serve(t, h, ginsse.Options{Heartbeat: 500 * time.Millisecond})
	url := startNginx(t, server.Listener.Addr().String()) + "/topics/news"

	c := connect(t, http.DefaultClient, url, "")
	checkpoint := c.next(t)
	if checkpoint.Type != "checkpoint" {
		t.Fatalf("first event: %+v", checkpoint)
	}
	ids := publish(t, h, "news", 1, 1)
	expect(t, c, "message "+ids[0]+" 1")

	// The next message comes after a silence of more than nginx's read timeout, which a busy
	// machine's heartbeats meet by far.
	silence := time.NewTimer(7 * time.Second)
	<-silence.C
	ids = append(ids, publish(t, h, "news", 2, 2)...)
	expect(t, c, "message "+ids[1]+" 2")

	c.drop()
	http.DefaultClient.CloseIdleConnections()
	settle(t, h)
	ids = append(ids, publish(t, h, "news", 3, 3)...)
	c = connect(t, http.DefaultClient, url, ids[1])
	defer c.drop()
	expect(t, c, "message "+ids[2]+" 3")
}
