package table

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// engine is a browser, told by a page of its own to show others in frames. So no protocol of any
// driver is needed, and all engines are used in the same way.
type engine struct {
	name string
	// command returns what opens a page, with a folder for what the browser keeps. Its first word
	// is looked up; nil means that it is not installed.
	command func(folder, page string) *exec.Cmd

	mu      sync.Mutex
	owner   *testing.T
	host    string // its address; "" as long as the browser does not run
	orders  chan order
	last    int
	takers  map[string]func(report)
	missing string
}

// order tells the page of an engine to show another page, or to take it away.
type order struct {
	ID  string `json:"id"`
	URL string `json:"url"`
}

const hostPage = `<!doctype html><meta charset="utf-8"><title>Host</title><script type="module">
const frames = new Map();
for (;;) {
  const { id, url } = await (await fetch("/next")).json();
  frames.get(id)?.remove();
  frames.delete(id);
  if (!url) continue;
  const frame = document.createElement("iframe");
  frame.src = url;
  frames.set(id, frame);
  document.body.append(frame);
}
</script><body>`

var (
	chromium = &engine{name: "Chromium", command: func(folder, page string) *exec.Cmd {
		return found([]string{"chromium", "chromium-browser", "google-chrome"},
			"--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-background-networking",
			"--disable-component-update", "--user-data-dir="+folder, page)
	}}
	firefox = &engine{name: "Firefox", command: func(folder, page string) *exec.Cmd {
		return found([]string{"firefox-esr", "firefox"}, "--headless", "--no-remote", "--profile", folder, page)
	}}
	webkit = &engine{name: "WebKit", command: func(folder, page string) *exec.Cmd {
		browsers, _ := filepath.Glob("/usr/lib/*/webkit2gtk-4.*/MiniBrowser")
		if len(browsers) == 0 {
			return nil
		}
		display, err := exec.LookPath("Xvfb")
		if err != nil {
			return nil
		}
		// The display's number comes from Xvfb, on its standard output, which the browser's shell
		// reads.
		script := `exec 3< <(exec "$0" -displayfd 1 -screen 0 800x600x24 -nolisten tcp 2>/dev/null); server=$!
trap 'kill $server' EXIT; read -r number <&3
DISPLAY=:$number HOME="$2" "$1" --private "$3" & browser=$!
trap 'kill $browser $server' EXIT TERM; wait $browser`
		cmd := exec.Command("bash", "-c", script, display, browsers[0], folder, page)
		cmd.Env = append(os.Environ(), "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS=1", "GDK_BACKEND=x11", "LIBGL_ALWAYS_SOFTWARE=1", "NO_AT_BRIDGE=1")
		return cmd
	}}
)

func found(names []string, args ...string) *exec.Cmd {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return exec.Command(path, args...)
		}
	}
	return nil
}

// open has the engines run until a test ends.
func open(t *testing.T) {
	for _, e := range []*engine{chromium, firefox, webkit} {
		e.owner, e.orders, e.takers = t, make(chan order), make(map[string]func(report))
	}
}

// ready starts the browser unless it runs.
func (e *engine) ready(t *testing.T) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.missing != "" {
		t.Skip(e.missing)
	}
	if e.host != "" {
		return
	}
	folder, err := os.MkdirTemp("", "engine")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, hostPage)
	})
	mux.HandleFunc("GET /next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case o := <-e.orders:
			_ = json.NewEncoder(w).Encode(o)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /report/{id}", func(_ http.ResponseWriter, r *http.Request) {
		var all []report
		if json.NewDecoder(r.Body).Decode(&all) != nil {
			return
		}
		e.mu.Lock()
		take := e.takers[r.PathValue("id")]
		e.mu.Unlock()
		for _, one := range all {
			if take != nil {
				take(one)
			}
		}
	})
	host := serve(e.owner, mux)
	cmd := e.command(folder, "http://"+host+"/")
	if cmd == nil {
		e.missing = e.name + " is not installed: run make test-clients"
		_ = os.RemoveAll(folder)
		t.Skip(e.missing)
	}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	group(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e.host = host
	e.owner.Cleanup(func() {
		end(cmd)
		_ = os.RemoveAll(folder)
		if e.owner.Failed() {
			e.owner.Logf("%s says:\n%.2000s", e.name, output.String())
		}
	})
}

// reports returns a name, and where its page reports to.
func (e *engine) reports(s *site) (id, address string) {
	s.t.Helper()
	e.ready(s.t)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	id = strconv.Itoa(e.last)
	e.takers[id] = s.take
	return id, fmt.Sprintf("http://%s/report/%s", e.host, id)
}

// show shows a page until the test ends.
func (e *engine) show(t *testing.T, id, page string) {
	t.Helper()
	send := func(o order) bool {
		ctx, cancel := limited()
		defer cancel()
		select {
		case e.orders <- o:
			return true
		case <-ctx.Done():
			return false
		}
	}
	if !send(order{id, page}) {
		t.Fatalf("%s asks for no page", e.name)
	}
	t.Cleanup(func() {
		e.mu.Lock()
		delete(e.takers, id)
		e.mu.Unlock()
		if !send(order{ID: id}) {
			t.Errorf("%s asks for no page any more", e.name)
		}
	})
}
