package tabs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/internal/testenv"
)

// driver sends commands of the WebDriver standard to a browser. The arguments are a map or nil.
type driver struct {
	mu   sync.Mutex
	send func(command string, arguments map[string]any) (json.RawMessage, error)
}

// The commands that are used, each with its place in the HTTP form.
var commands = map[string]string{
	"NewSession":     "POST /session",
	"NewWindow":      "POST /session/{}/window/new",
	"SwitchToWindow": "POST /session/{}/window",
	"Navigate":       "POST /session/{}/url",
	"ExecuteScript":  "POST /session/{}/execute/sync",
	"CloseWindow":    "DELETE /session/{}/window",
}

type driverTab struct {
	*driver
	handle string
}

// in sends a command to a tab.
func (d driverTab) in(command string, arguments map[string]any) (json.RawMessage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.send("SwitchToWindow", map[string]any{"handle": d.handle, "focus": false}); err != nil {
		return nil, err
	}
	return d.send(command, arguments)
}

func (d *driver) open(url string) (tab, error) {
	d.mu.Lock()
	result, err := d.send("NewWindow", map[string]any{"type": "tab", "focus": false})
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var window struct{ Handle string }
	if err := json.Unmarshal(result, &window); err != nil {
		return nil, err
	}
	opened := driverTab{d, window.Handle}
	return opened, opened.visit(url)
}

func (d driverTab) visit(url string) error {
	_, err := d.in("Navigate", map[string]any{"url": url})
	return err
}

func (d driverTab) eval(expression string) (json.RawMessage, error) {
	// Through JSON here too, because a driver makes something of its own of some values.
	result, err := d.in("ExecuteScript", map[string]any{"script": "return JSON.stringify(eval(arguments[0]))", "args": []any{expression}})
	if err != nil {
		return nil, err
	}
	var text string
	if err := json.Unmarshal(result, &text); err != nil {
		return nil, err
	}
	return json.RawMessage(text), nil
}

func (d driverTab) close() error {
	_, err := d.in("CloseWindow", nil)
	return err
}

// start starts a program that ends with the test.
func start(t *testing.T, name string, arguments []string, environment ...string) {
	t.Helper()
	cmd := exec.Command(name, arguments...)
	cmd.Env = append(os.Environ(), environment...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		timer := time.AfterFunc(patience/10, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
		if t.Failed() {
			t.Logf("%s says:\n%s", name, output.String())
		}
	})
}

// find returns the path of a program, which make deps does not install.
func find(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// until tries something until it works.
func until(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-pause.C
	}
}

// firefox starts Firefox, and talks to it as Marionette, because Debian has no other driver for it.
func firefox(t *testing.T) func(url string) (tab, error) {
	t.Helper()
	program := find(t, "firefox-esr")
	profile := t.TempDir()
	// Port 0: it chooses one, and writes it down.
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(`user_pref("marionette.port", 0);`), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, program, []string{"--headless", "--marionette", "--no-remote", "--profile", profile})
	var conn net.Conn
	until(t, func() error {
		port, err := os.ReadFile(filepath.Join(profile, "MarionetteActivePort"))
		if err == nil {
			conn, err = net.Dial("tcp", net.JoinHostPort("127.0.0.1", strings.TrimSpace(string(port))))
		}
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	in := bufio.NewReader(conn)
	read := func() ([]byte, error) {
		length, err := in.ReadString(':')
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
		if err != nil {
			return nil, err
		}
		packet := make([]byte, n)
		_, err = io.ReadFull(in, packet)
		return packet, err
	}
	if _, err := read(); err != nil { // who it is
		t.Fatal(err)
	}
	d := &driver{send: func(command string, arguments map[string]any) (json.RawMessage, error) {
		packet, err := json.Marshal([]any{0, 1, "WebDriver:" + command, arguments})
		if err != nil {
			return nil, err
		}
		if _, err := fmt.Fprintf(conn, "%d:%s", len(packet), packet); err != nil {
			return nil, err
		}
		if packet, err = read(); err != nil {
			return nil, err
		}
		var answer [4]json.RawMessage
		if err := json.Unmarshal(packet, &answer); err != nil {
			return nil, err
		}
		if string(answer[2]) != "null" {
			return nil, fmt.Errorf("%s: %s", command, answer[2])
		}
		return unwrapped(answer[3]), nil
	}}
	if _, err := d.send("NewSession", map[string]any{}); err != nil {
		t.Fatal(err)
	}
	return d.open
}

// unwrapped returns the value of an answer.
func unwrapped(answer json.RawMessage) json.RawMessage {
	var wrapped struct{ Value json.RawMessage }
	if err := json.Unmarshal(answer, &wrapped); err == nil && wrapped.Value != nil {
		return wrapped.Value
	}
	return answer
}

// webKit starts WebKitGTK on a display of its own.
func webKit(t *testing.T) func(url string) (tab, error) {
	t.Helper()
	program, display := find(t, "WebKitWebDriver"), find(t, "Xvfb")
	browsers, _ := filepath.Glob("/usr/lib/*/webkit2gtk-4.*/MiniBrowser")
	if len(browsers) == 0 {
		t.Skip("MiniBrowser is not installed")
	}
	// Display numbers are as free as ports.
	number := ":" + testenv.Ports(t, 1)[0]
	start(t, display, []string{number, "-screen", "0", "800x600x24", "-nolisten", "tcp"})
	until(t, func() error {
		_, err := os.Stat("/tmp/.X11-unix/X" + number[1:])
		return err
	})
	port := testenv.Ports(t, 1)[0]
	home := t.TempDir()
	start(t, program, []string{"--host=127.0.0.1", "--port=" + port}, "DISPLAY="+number, "HOME="+home, "XDG_RUNTIME_DIR="+home, "GDK_BACKEND=x11",
		"LIBGL_ALWAYS_SOFTWARE=1", "WEBKIT_DISABLE_COMPOSITING_MODE=1")
	var session string
	d := &driver{send: func(command string, arguments map[string]any) (json.RawMessage, error) {
		method, path, _ := strings.Cut(commands[command], " ")
		body, err := json.Marshal(arguments)
		if err != nil {
			return nil, err
		}
		r, err := http.NewRequest(method, "http://127.0.0.1:"+port+strings.Replace(path, "{}", session, 1), bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", command, answer)
		}
		return unwrapped(answer), err
	}}
	until(t, func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	answer, err := d.send("NewSession", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"webkitgtk:browserOptions": map[string]any{"binary": browsers[len(browsers)-1], "args": []string{"--automation"}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	var opened struct{ SessionID string }
	if err := json.Unmarshal(answer, &opened); err != nil {
		t.Fatal(err)
	}
	session = opened.SessionID
	t.Cleanup(func() {
		r, err := http.NewRequest(http.MethodDelete, "http://127.0.0.1:"+port+"/session/"+session, nil)
		if err != nil {
			return
		}
		if resp, err := http.DefaultClient.Do(r); err == nil {
			_ = resp.Body.Close()
		}
	})
	return d.open
}
