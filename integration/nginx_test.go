package integration

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/internal/testenv"
)

const nginxConfig = `
daemon off;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
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
			proxy_read_timeout 2s;
		}
	}
}
`

// startNginx starts an nginx with its default proxy settings in front of a server, but for the time it lets pass in silence, and returns its URL.
func startNginx(t *testing.T, upstream string) string {
	t.Helper()
	program := testenv.Need(t, "nginx")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, dir, address, upstream), 0o600); err != nil {
		t.Fatal(err)
	}
	// As root nginx gives its workers to a user who may not enter the test's folder.
	cmd := exec.Command(program, "-p", dir, "-c", config, "-e", filepath.Join(dir, "error.log"), "-g", "user root;")
	if os.Geteuid() != 0 {
		cmd.Args = cmd.Args[:len(cmd.Args)-2]
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	eventually(t, "nginx listens", func() error {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			return fmt.Errorf("%w; %s", err, log)
		}
		return conn.Close()
	})
	return "http://" + address
}

// TestThroughNginx (FAILURES 13): with nginx's defaults, which hold back a response until it is whole, each event comes at once, heartbeats keep a silent stream
// open for longer than proxy_read_timeout, and a client that leaves is noticed.
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

	// The next message comes after a silence of two read timeouts of nginx's.
	silence := time.NewTimer(4 * time.Second)
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
