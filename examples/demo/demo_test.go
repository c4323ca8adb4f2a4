package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
)

func TestMain(m *testing.M) {
	if os.Getenv(asDemo) != "" {
		main() // instead of the tests, in a process of its own
		return
	}
	testenv.Main(m)
}

// asDemo is the variable that makes the test program the demo.
const asDemo = "HEADRACE_TEST_AS_DEMO"

// patience is how long one step may take before the test gives up.
const patience = time.Minute

// request sends a request and returns the status and the body, or an error when there was no whole
// answer.
func request(t *testing.T, method, url, body string, header ...string) (int, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

// follow opens a stream and reads its checkpoint: from there on it misses nothing.
func follow(t *testing.T, url string) *sse.Decoder {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	// Once the stream is open, no event may take longer.
	impatient := time.AfterFunc(patience, cancel)
	t.Cleanup(func() { impatient.Stop(); cancel() })
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	d := sse.NewDecoder(resp.Body)
	if e, err := d.Decode(); err != nil || e.Type != "checkpoint" {
		t.Fatalf("GET %s: status %d, %+v, %v", url, resp.StatusCode, e, err)
	}
	return d
}

// outline is what the demo prints about one of its programs.
var outline = regexp.MustCompile(`^(\S+) +pid (\d+) +(\S+)$`)

// introduction reads what the demo prints when all is there: the URLs and the pids of its programs,
// by name.
func introduction(lines *bufio.Scanner) (urls, pids map[string]string, err error) {
	urls, pids = make(map[string]string), make(map[string]string)
	for lines.Scan() && lines.Text() != "Ctrl-C ends it." {
		if m := outline.FindStringSubmatch(lines.Text()); m != nil {
			pids[m[1]], urls[m[1]] = m[2], m[3]
		}
	}
	for _, name := range []string{"redis", "tickets-1", "tickets-2", "gateway-1", "gateway-2", "nginx"} {
		if urls[name] == "" {
			err = errors.Join(err, fmt.Errorf("nothing is printed about %s", name))
		}
	}
	return urls, pids, err
}

// TestRun starts the demo as a user does: what is published at any place is followed at any other,
// and at the end nothing is left.
func TestRun(t *testing.T) {
	testenv.Need(t, "redis")
	testenv.Need(t, "nginx")
	temp := filepath.Join(t.TempDir(), `a "folder"; of [many] $names`)
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", temp)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stdout, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-addr", "127.0.0.1:0"}, out)
		out.Close()
	}()
	lines := bufio.NewScanner(stdout)
	urls, pids, err := introduction(lines)
	if err != nil {
		t.Fatalf("%v; run: %v", err, <-ended)
	}
	go func() {
		for lines.Scan() {
		}
	}()

	places := []string{urls["gateway-1"], urls["gateway-2"], urls["nginx"]}
	var streams []*sse.Decoder
	for _, place := range places {
		streams = append(streams, follow(t, place+"topics/news"))
	}
	for i, place := range places {
		code, answer, err := request(t, http.MethodPost, place+"topics/news?type=greeting", fmt.Sprint("hello ", i))
		var made struct{ ID string }
		if err != nil || code != http.StatusCreated || json.Unmarshal([]byte(answer), &made) != nil {
			t.Fatalf("POST at %s: status %d, %s, %v", place, code, answer, err)
		}
		for j, d := range streams {
			if e, err := d.Decode(); err != nil || e.ID != made.ID || e.Type != "greeting" || e.Text() != fmt.Sprint("hello ", i) {
				t.Errorf("published at %s, followed at %s: %+v, %v", place, places[j], e, err)
			}
		}
	}
	serving := make(map[string]bool)
	for range 4 {
		resp, err := http.Get(urls["nginx"] + "tickets")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		serving["http://"+resp.Header.Get("X-Served-By")+"/"] = true
	}
	if !serving[urls["tickets-1"]] || !serving[urls["tickets-2"]] {
		t.Errorf("nginx asks %v, want both instances of tickets in turns", serving)
	}
	// As an older browser sends it, from the page.
	origin := strings.TrimSuffix(urls["nginx"], "/")
	if code, answer, err := request(t, http.MethodPost, urls["nginx"]+"tickets", `{"subject":"a"}`, "Origin", origin); err != nil || code != http.StatusCreated {
		t.Errorf("a request from the page: status %d, %s, %v", code, answer, err)
	}

	checkHosts(t, urls)

	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	for _, d := range streams {
		_, err := d.Decode()
		if !errors.Is(err, io.EOF) {
			t.Errorf("a stream ended with %v, want a clean end", err)
		}
		if retry, ok := d.Retry(); !ok || retry <= 0 {
			t.Error("a client was not told when to come back")
		}
	}
	nothingIsLeft(t, temp)
	for name, pid := range pids {
		if _, err := os.Stat("/proc/" + pid); runtime.GOOS == "linux" && err == nil {
			t.Errorf("%s still runs", name)
		}
	}
}

// checkHosts: through nginx and without it the instances answer under the names of this machine,
// and under no other.
func checkHosts(t *testing.T, urls map[string]string) {
	t.Helper()
	for _, place := range []string{"nginx", "tickets-1", "tickets-2", "gateway-1", "gateway-2"} {
		for host, want := range map[string]int{"": http.StatusOK, "localhost:1234": http.StatusOK, "evil.example": http.StatusMisdirectedRequest} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, urls[place], nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s answers a request for %q with %d, want %d", place, host, resp.StatusCode, want)
			}
		}
	}
}

func TestHosts(t *testing.T) {
	for _, test := range []struct{ addr, hosts, want string }{
		{"127.0.0.1:8080", "", ""},
		{"localhost:8080", "", ""},
		{"[::1]:8080", "", ""},
		{"127.0.0.1:8080", "app.example", "app.example"},
		{"192.0.2.1:8080", "", "192.0.2.1"},
		{"[2001:db8::1]:8080", "", "2001:db8::1"},
		{"here.example:8080", "", "here.example"},
		{"192.0.2.1:8080", "app.example", "app.example"},
		{"0.0.0.0:8080", "app.example", "app.example"},
		{"0.0.0.0:8080", "", "error"},
		{"[::]:8080", "", "error"},
		{":8080", "", "error"},
		{"8080", "", "error"},
	} {
		got, err := hostsOf(test.addr, test.hosts)
		if err != nil {
			got = "error"
		}
		if got != test.want {
			t.Errorf("-addr %s -hosts %s: %q, %v, want %q", test.addr, test.hosts, got, err, test.want)
		}
	}
}

// nothingIsLeft fails the test if a folder for temporary files has some, or a process names it in
// its command line, as all that the demo starts do but for nginx's workers.
func nothingIsLeft(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the temporary folder has %v, %v", left, err)
	}
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline") // none where there is no /proc
	for _, command := range commands {
		if line, err := os.ReadFile(command); err == nil && strings.Contains(string(line), dir) {
			t.Errorf("%s still runs: %q", command, line)
		}
	}
}

// script puts a program into a folder of its own, which it returns.
func script(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestStartFails: whatever keeps the demo from starting is said, and what was started before it
// ends.
func TestStartFails(t *testing.T) {
	testenv.Long(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		name  string
		needs []string
		args  []string
		first string // a folder that is searched before PATH
		only  bool   // and nothing else is
		want  []string
	}{
		{name: "argument", args: []string{"now"}, want: []string{"unexpected argument"}},
		{name: "unknown flag", args: []string{"-colour", "red"}, want: []string{"colour"}},
		{name: "nothing installed", only: true, want: []string{"redis-server is not installed", "nginx is not installed", "make deps"}},
		{name: "address taken", needs: []string{"redis", "nginx"}, args: []string{"-addr", taken.Addr().String()}, want: []string{"-addr", taken.Addr().String()}},
		{name: "an example does not build", needs: []string{"redis", "nginx"}, first: script(t, "go", "echo no such package >&2; exit 1"), want: []string{"go build", "exit status 1", "no such package"}},
		{name: "Redis fails", needs: []string{"nginx"}, first: script(t, "redis-server", "echo no memory; exit 1"), want: []string{"redis does not start", "exit status 1", "no memory"}},
		{name: "nginx fails", needs: []string{"redis"}, first: script(t, "nginx", "echo no sockets >&2; exit 2"), want: []string{"nginx does not start", "exit status 2", "no sockets"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, tool := range test.needs {
				testenv.Need(t, tool)
			}
			temp := t.TempDir()
			t.Setenv("TMPDIR", temp)
			switch {
			case test.only:
				dirs := daemonDirs
				daemonDirs = nil
				t.Cleanup(func() { daemonDirs = dirs })
				t.Setenv("PATH", temp)
			case test.first != "":
				t.Setenv("PATH", test.first+string(os.PathListSeparator)+os.Getenv("PATH"))
			}
			args := test.args
			if args == nil {
				args = []string{"-addr", "127.0.0.1:0"}
			}
			err := run(t.Context(), args, io.Discard)
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
			nothingIsLeft(t, temp)
		})
	}
	if err := run(t.Context(), []string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}

// TestStoppedWhileStarting: told to end before all is there, the demo ends without an error and
// what it started ends too.
func TestStoppedWhileStarting(t *testing.T) {
	testenv.Long(t)
	testenv.Need(t, "redis")
	testenv.Need(t, "nginx")
	for _, test := range []struct {
		name, first, file string // once there is such a file
	}{
		{"building", script(t, "go", `mktemp -d "${GOTMPDIR:-$TMPDIR}/go-build-XXXXXX"; mkdir "$3"; touch "$3/begun"; sleep 600 & wait`), "bin/begun"},
		{"Redis runs", "", "redis/*"},
	} {
		t.Run(test.name, func(t *testing.T) {
			temp := t.TempDir()
			t.Setenv("TMPDIR", temp)
			t.Setenv("PATH", test.first+string(os.PathListSeparator)+os.Getenv("PATH"))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			ended := make(chan error, 1)
			go func() { ended <- run(ctx, []string{"-addr", "127.0.0.1:0"}, io.Discard) }()
			testenv.Eventually(t, test.file+" is there", func() error {
				files, err := filepath.Glob(filepath.Join(temp, "*", filepath.FromSlash(test.file)))
				if err == nil && len(files) == 0 {
					err = errors.New("it is not")
				}
				return err
			})
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			nothingIsLeft(t, temp)
		})
	}
}
