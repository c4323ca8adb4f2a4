package testenv

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// Redis starts a redis-server with further arguments. Without arguments that say otherwise it keeps
// nothing over a restart. The test is skipped where there is no redis-server, as Need says.
func Redis(t testing.TB, args ...string) *Server {
	t.Helper()
	return RedisPorts(t, 1, func([]string) []string { return args })
}

// RedisPorts is Redis for a server that listens at several ports. It listens in the usual way at
// the first one; the arguments, which may depend on the ports, say what the others are for.
func RedisPorts(t testing.TB, n int, args func(ports []string) []string) *Server {
	t.Helper()
	path, dir := Need(t, "redis"), t.TempDir()
	return Start(t, Program{
		Name:  "redis-server",
		Ports: n,
		Command: func(ports []string) *exec.Cmd {
			usual := []string{"--port", ports[0], "--bind", loopback, "--save", "", "--dir", dir}
			return exec.Command(path, append(usual, args(ports)...)...) //nolint:gosec // tests choose the program
		},
		Ready: func(pid int, ports []string) error {
			password := ""
			given := args(ports)
			if i := slices.Index(given, "--requirepass"); i >= 0 {
				password = given[i+1]
			}
			conn, err := net.DialTimeout("tcp", net.JoinHostPort(loopback, ports[0]), probeTimeout)
			if err != nil {
				return err
			}
			defer conn.Close()
			return RedisReady(conn, password, pid)
		},
	})
}

// probeTimeout is for one try to talk to a server that is starting.
const probeTimeout = 5 * time.Second

// RedisReady returns nil if the redis-server or sentinel at the other end of a connection is the
// process pid, and has loaded its data. The password is not used when it is "".
func RedisReady(conn net.Conn, password string, pid int) error {
	if err := conn.SetDeadline(time.Now().Add(probeTimeout)); err != nil {
		return err
	}
	commands := "PING\r\nINFO server\r\n"
	if password != "" {
		commands = "AUTH " + password + "\r\n" + commands
	}
	if _, err := io.WriteString(conn, commands); err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "-") {
			return fmt.Errorf("it answers %s", line)
		}
		if number, ok := strings.CutPrefix(line, "process_id:"); ok {
			if number != fmt.Sprint(pid) {
				return fmt.Errorf("another process answers: %s", number)
			}
			return nil
		}
	}
	return fmt.Errorf("it does not answer: %w", cmp.Or(lines.Err(), io.ErrUnexpectedEOF))
}
