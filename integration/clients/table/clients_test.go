package table

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
)

// client is one that people use: a row of the table.
type client struct {
	name string
	// start starts it for the site's feed. It ends with the test. Nil: it is not run, and missing
	// says why.
	start   func(s *site)
	missing string
	// page says that it runs in a browser.
	page bool
	// chunks says that it takes each event's data for a chunk of its own format: such are published
	// then, and the feed sends nothing else.
	chunks bool
	// short says that the short form runs it.
	short bool
	// limits are what it does in a scenario that is not to simply follow.
	limits map[string]limit
}

// limit is something that a client does not do.
type limit struct {
	outcome outcome // what is seen of it
	note    string  // for docs/clients.md: what it does, and the recipe
}

// startClient starts the client of a test.
func startClient(s *site) { s.client.start(s) }

// node is a client from npm.
func node(name string) func(s *site) {
	return func(s *site) {
		needPackages(s.t)
		run(s, exec.Command(testenv.Need(s.t, "node"), "drivers/node.js", name, s.feedURL()), nil)
	}
}

// needPackages wants the packages installed that the lock file names, and no others.
func needPackages(t *testing.T) {
	t.Helper()
	want, err := os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if have, _ := os.ReadFile(filepath.Join("node_modules", ".installed")); !bytes.Equal(want, have) {
		testenv.Lacks(t, "node", "the npm packages of integration/clients/table are not installed")
	}
}

// self is a client in Go, in a process of its own.
func self(name string) func(s *site) {
	return func(s *site) {
		program, err := os.Executable()
		if err != nil {
			s.t.Fatal(err)
		}
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), goClient+"="+name, goFeed+"="+s.feedURL())
		run(s, cmd, nil)
	}
}

// curl shows the bytes of one connection; sse.Decoder reads them.
func curl(s *site) {
	program, err := exec.LookPath("curl")
	if err != nil {
		s.t.Skip("curl is not installed")
	}
	run(s, exec.Command(program, "-sN", s.feedURL()), func(out *bufio.Reader) {
		d := sse.NewDecoder(out)
		for {
			e, err := d.Decode()
			if err != nil {
				return
			}
			typ := e.Type
			if typ == "" {
				typ = "message"
			}
			s.take(report{Kind: "event", Type: typ, Data: e.Text(), ID: e.ID})
		}
	})
}

// requests is a client in Python.
func requests(s *site) {
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(python, "-c", "import requests").Run() == nil {
			run(s, exec.Command(python, "drivers/requests.py", s.feedURL()), nil)
			return
		}
	}
	s.t.Skip("python3 has no requests")
}

// run runs a program until the test ends, and takes what it prints: reports, a line each, unless
// read knows better. When its output ends, so has the client.
func run(s *site, cmd *exec.Cmd, read func(*bufio.Reader)) {
	s.t.Helper()
	if read == nil {
		read = func(out *bufio.Reader) {
			d := json.NewDecoder(out)
			for {
				var r report
				if d.Decode(&r) != nil {
					return
				}
				s.take(r)
			}
		}
	}
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		read(bufio.NewReader(out))
		s.take(report{Kind: "end"})
	}()
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("the client says:\n%.2000s", errors.String())
		}
	})
}

// page is a client in an engine's page.
func page(e *engine, name string) func(s *site) {
	return func(s *site) {
		needPackages(s.t)
		id, reports := e.reports(s)
		query := url.Values{"client": {name}, "feed": {s.feedURL()}, "report": {reports}}
		if s.pages == s.addr {
			query.Set("feed", "/feed")
		}
		e.show(s.t, id, "http://"+s.pages+"/drivers/page.html?"+query.Encode())
	}
}

// limited limits the time of what a cleanup waits for.
func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func TestMain(m *testing.M) {
	if name := os.Getenv(goClient); name != "" {
		runGoClient(name, os.Getenv(goFeed))
		return
	}
	testenv.Main(m)
}
