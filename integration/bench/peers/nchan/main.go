// Command nchan is nginx with the module nchan. nginx does the serving; this program starts it,
// publishes to it over HTTP, and ends it.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/headrace/headrace/integration/bench/internal/peer"
)

const (
	startPatience = 10 * time.Second
	stopPatience  = 5 * time.Second
)

// configuration of nginx: the module, a folder, the files a process may open, the port, and how
// many messages it keeps.
const configuration = `load_module %s;
daemon off;
pid %[2]s/pid;
error_log %[2]s/log error;
worker_processes %[7]d;
worker_rlimit_nofile %[3]d;
events { worker_connections %[3]d; }
http {
	access_log off;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	keepalive_requests 100000000;
	nchan_shared_memory_size 512M;
	server {
		listen 127.0.0.1:%[4]s backlog=4096;
		location = /events {
			nchan_subscriber eventsource;
			nchan_channel_id load;
			nchan_subscriber_first_message %[6]s;
		}
		location = /publish {
			nchan_publisher;
			nchan_channel_id load;
			nchan_message_buffer_length %[5]d;
			nchan_message_timeout 1h;
		}
	}
}
`

func main() { peer.Main(open) }

func open(o peer.Options) (server *peer.Server, err error) {
	nginx, module, err := installed()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "headrace-nchan-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	// Without a client that comes later, what a slow one may still have to get is kept.
	kept, first := 4096, "newest"
	if o.Retain > 0 {
		kept, first = o.Retain+1, "oldest"
	}
	file := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(configuration, module, dir, filesLimit(), port, kept, first, runtime.NumCPU())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	cmd := exec.Command(nginx, "-c", file, "-p", dir, "-e", filepath.Join(dir, "log")) //nolint:gosec // it is what was found on this machine
	cmd.Stderr = os.Stderr
	// Should this program be killed, the master is told, and it tells its workers.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(stopPatience):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-done
		}
		_ = os.RemoveAll(dir)
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	processes, err := workers(cmd.Process.Pid, done)
	if err != nil {
		return nil, fmt.Errorf("%w; its log: %s", err, logOf(dir))
	}
	addr := "127.0.0.1:" + port
	return &peer.Server{Addr: addr, Path: "/events", Processes: processes, Publish: publisher("http://" + addr + "/publish"), Close: stop}, nil
}

// installed returns the paths of nginx and of the module. HEADRACE_NCHAN names a module that is not
// where Debian puts it.
func installed() (nginx, module string, err error) {
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if nginx, err = exec.LookPath(name); err == nil {
			break
		}
	}
	if err != nil {
		return "", "", err
	}
	module = os.Getenv("HEADRACE_NCHAN")
	if module == "" {
		module = "/usr/lib/nginx/modules/ngx_nchan_module.so"
	}
	_, err = os.Stat(module) //nolint:gosec // whoever runs this chooses it
	return nginx, module, err
}

func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port), nil
}

func filesLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return min(limit.Max, 1<<20)
}

// workers waits until nginx has all its workers, which is after it listens, and returns its
// processes.
func workers(master int, done <-chan struct{}) ([]int, error) {
	for deadline := time.Now().Add(startPatience); ; {
		processes, err := family(master)
		if err == nil && len(processes) == 1+runtime.NumCPU() {
			return processes, nil
		}
		select {
		case <-done:
			return nil, errors.New("nchan: nginx ended at its start")
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(errors.New("nchan: nginx has not started its workers"), err)
		}
	}
}

func logOf(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "log")) //nolint:gosec // the folder is this program's own
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}

// family returns a process and its children.
func family(pid int) ([]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return nil, err
	}
	list := []int{pid}
	for word := range strings.FieldsSeq(string(text)) {
		child, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		list = append(list, child)
	}
	return list, nil
}

// publisher returns a function that posts to a URL over one connection.
func publisher(url string) func(string, []byte) (string, error) {
	client := &http.Client{Timeout: 10 * time.Second}
	return func(_ string, data []byte) (string, error) {
		response, err := client.Post(url, "application/json", bytes.NewReader(data))
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		if err == nil && response.StatusCode/100 != 2 {
			err = fmt.Errorf("nchan: publishing was answered %s", response.Status)
		}
		return "", err
	}
}
