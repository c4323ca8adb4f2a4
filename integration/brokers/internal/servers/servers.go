// Package servers starts the brokers that the tests of this module need, each on ports of its own,
// with its files in a folder of its own, and ends them with the test. A broker that is not
// installed skips the test, or fails it where HEADRACE_REQUIRE names its tool (redis, rabbitmq,
// postgres). Only tests import it.
package servers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/headrace/headrace/internal/testenv"
)

// Server is a broker of the test's own.
type Server struct {
	*testenv.Server
	// URL is where clients reach it, in the form of its scheme, without parameters. It stays the
	// same over restarts.
	URL string
}

// folder returns a folder that is removed when the test ends. Unlike that of t.TempDir, all folders
// above it can be entered by every user.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "headrace-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A killed process may write its last file while the folder is being removed.
		if err := os.RemoveAll(dir); err != nil {
			err = os.RemoveAll(dir)
			if err != nil {
				t.Errorf("servers: %v", err)
			}
		}
	})
	return dir
}

// program returns a command for a program that was found on this machine, not started yet.
func program(path string, args ...string) *exec.Cmd {
	return exec.Command(path, args...) //nolint:gosec // tests choose the program
}

// greets reports whether the server at an address answers to hello with a text that begins with the
// wanted one.
func greets(addr, hello, want string) error {
	const patience = 5 * time.Second // for one try
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(hello)); err != nil {
		return err
	}
	got := make([]byte, len(want))
	for n := 0; n < len(got); {
		k, err := conn.Read(got[n:])
		if n += k; err != nil && n < len(got) {
			return fmt.Errorf("answered %q: %w", got[:n], err)
		}
	}
	if string(got) != want {
		return fmt.Errorf("answered %q", got)
	}
	return nil
}

// beside returns the path of the program beside another one, which is installed with it.
func beside(t testing.TB, path, name string) string {
	t.Helper()
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(filepath.Dir(resolved), name)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		t.Fatalf("servers: there is no %s beside %s", name, resolved)
	}
	return path
}
