package main

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// daemonDirs are searched after PATH: Debian keeps daemons out of an ordinary user's PATH.
var daemonDirs = []string{"/usr/local/sbin", "/usr/sbin", "/sbin"}

// find returns the path of a program of the machine.
func find(program string) (string, error) {
	for _, dir := range append([]string{""}, daemonDirs...) {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("demo: %s is not installed: run make deps", program)
}

// probeTimeout is for one try to talk to a program that is starting.
const probeTimeout = 2 * time.Second

// newRedis returns a redis-server that keeps its data in a folder, so that it has them still when
// it comes back.
func newRedis(path, dir string) *service {
	return &service{
		name:     "redis",
		addr:     "127.0.0.1:0",
		graceful: syscall.SIGTERM,
		command: func(addr string) (*exec.Cmd, error) {
			host, port, _ := net.SplitHostPort(addr)
			// No configuration file, hence nothing of the machine's; noeviction, because a backend
			// cannot keep messages that Redis throws away.
			return command(path, "--bind", host, "--port", port, "--dir", dir, "--save", "", "--appendonly", "yes",
				"--maxmemory-policy", "noeviction"), nil
		},
		check: pingRedis,
	}
}

// pingRedis succeeds when the server at the address is the process that was started, and not one
// that had the port before it.
func pingRedis(ctx context.Context, s *service, p *process) error {
	conn, err := (&net.Dialer{Timeout: probeTimeout}).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(probeTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "INFO server\r\nPING\r\nQUIT\r\n"); err != nil {
		return err
	}
	pid, pong := fmt.Sprintf("process_id:%d", p.pid()), false
	found := false
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		found = found || lines.Text() == pid
		pong = pong || lines.Text() == "+PONG" // not while it loads its data
	}
	if !found || !pong {
		return fmt.Errorf("%s does not answer as expected", s.addr)
	}
	return nil
}

// newInstance returns an instance of an example, behind an nginx that is reached under the hosts,
// beside the loopback names.
func newInstance(name, program, backendURL, hosts string) *service {
	return &service{
		name:     name,
		addr:     "127.0.0.1:0",
		graceful: syscall.SIGTERM,
		command: func(addr string) (*exec.Cmd, error) {
			cmd := command(program, "-addr", addr, "-backend", backendURL, "-proxies", "127.0.0.1") // where nginx's connections come from
			if hosts != "" {
				cmd.Args = append(cmd.Args, "-hosts", hosts)
			}
			return cmd, nil
		},
		check: func(_ context.Context, s *service, p *process) error {
			// The examples print their URL when they listen.
			if !strings.Contains(p.output.String(), "http://"+s.addr+"/") {
				return fmt.Errorf("it has not said that it listens at %s", s.addr)
			}
			return nil
		},
	}
}

// nginxTemplate is shared with docker-compose.yml.
//
//go:embed nginx.conf.template
var nginxTemplate string

// nginxMain is what nginx's image brings along: the rest of the configuration. All paths are
// relative to the folder that is given with -p, whose own path may have characters that mean
// something here.
const nginxMain = `daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
%s
}
`

// newNginx returns an nginx in front of the instances, whose names become those of the template's
// variables: tickets-1 is TICKETS_1.
func newNginx(path, dir, addr string, instances []*service) *service {
	return &service{
		name:     "nginx",
		addr:     addr,
		graceful: syscall.SIGQUIT,
		command: func(addr string) (*exec.Cmd, error) {
			values := map[string]string{"LISTEN": addr, "RESOLVER": "127.0.0.1"}
			for _, s := range instances {
				values[variable(s.name)] = s.addr
			}
			err := os.WriteFile(filepath.Join(dir, "nginx.conf"), fmt.Appendf(nil, nginxMain, fill(nginxTemplate, values)), 0o600)
			cmd := command(path, "-p", dir, "-c", "nginx.conf", "-e", "stderr")
			if os.Geteuid() == 0 {
				// As root nginx gives its workers to a user who may not enter the folder.
				cmd.Args = append(cmd.Args, "-g", "user root;")
			}
			return cmd, err
		},
		check: func(ctx context.Context, s *service, p *process) error {
			// It writes this file when it has the port. Before that a worker of a master that was
			// killed may answer.
			if pid, _ := fs.ReadFile(os.DirFS(dir), "nginx.pid"); strings.TrimSpace(string(pid)) != strconv.Itoa(p.pid()) {
				return fmt.Errorf("it has not got its port: its pid file has %q", pid)
			}
			return fetch(ctx, s.addr, instances)
		},
	}
}

// variable returns the name of the template's variable with a service's address.
func variable(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

// fill replaces the variables that have a value. Like the envsubst of nginx's image it leaves all
// others, which are nginx's.
func fill(template string, values map[string]string) string {
	return os.Expand(template, func(name string) string {
		if value, ok := values[name]; ok {
			return value
		}
		return "$" + name
	})
}

// fetch succeeds when the page comes through nginx from one of the instances.
func fetch(ctx context.Context, addr string, instances []*service) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return err
	}
	req.Close = true
	req.Host = "localhost" // which the instances always know
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for _, s := range instances {
		if resp.StatusCode == http.StatusOK && strings.Contains(resp.Header.Get("X-Served-By"), s.addr) {
			return nil
		}
	}
	return fmt.Errorf("GET / is answered with status %d by another server", resp.StatusCode)
}
