package servers

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/headrace/headrace/internal/testenv"
)

// RabbitMQ starts a rabbitmq-server with further lines for its configuration file. Its URL has the
// scheme amqp and names the user guest with its password. Erlang's port mapper runs beside it on a
// port of its own, so that the node meets no other one of this machine.
func RabbitMQ(t testing.TB, config ...string) *Server {
	t.Helper()
	path := testenv.Need(t, "rabbitmq")
	// Debian's wrapper of that name insists on the user rabbitmq and its folders.
	const unwrapped = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	if _, err := os.Stat(unwrapped); err == nil {
		path = unwrapped
	}
	mapper, err := exec.LookPath("epmd")
	if err != nil {
		t.Fatalf("servers: rabbitmq-server is installed, but Erlang's epmd is not: %v", err)
	}
	dir := folder(t)
	epmd := testenv.Start(t, testenv.Program{
		Name: "epmd",
		Command: func(ports []string) *exec.Cmd {
			return program(mapper, "-port", ports[0], "-address", "127.0.0.1")
		},
		// NAMES_REQ. The answer begins with the mapper's port.
		Ready:  func(_ int, ports []string) error { return greets("127.0.0.1:"+ports[0], "\x00\x01n", "\x00\x00") },
		Polite: os.Kill,
	})
	file := filepath.Join(dir, "rabbitmq.conf")
	for name, content := range map[string]string{filepath.Join(dir, "plugins"): "[].\n", filepath.Join(dir, "env"): ""} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"LANG=C.UTF-8",
		"HOME=" + dir, // of Erlang's cookie
		"ERL_EPMD_PORT=" + epmd.Ports[0],
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, "mnesia"),
		"RABBITMQ_LOG_BASE=" + filepath.Join(dir, "logs"),
		"RABBITMQ_CONFIG_FILE=" + file,
		"RABBITMQ_CONF_ENV_FILE=" + filepath.Join(dir, "env"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(dir, "plugins"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		// One scheduler: nodes of tests that run side by side would spin on all processors.
		"RABBITMQ_SCHEDULER_BIND_TYPE=u",
		"ERL_AFLAGS=+S 1:1 +sbwt none",
	}

	s := testenv.Start(t, testenv.Program{
		Name:  "rabbitmq-server",
		Ports: 2,
		Command: func(ports []string) *exec.Cmd {
			lines := append([]string{"listeners.tcp.local = 127.0.0.1:" + ports[0], "log.file.level = warning"}, config...)
			if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := program(path)
			cmd.Dir = dir
			cmd.Env = append(slices.Clone(env), "RABBITMQ_NODENAME=headrace"+ports[0]+"@localhost", "RABBITMQ_DIST_PORT="+ports[1])
			return cmd
		},
		// A wrong version is answered with the right one.
		Ready: func(_ int, ports []string) error {
			return greets("127.0.0.1:"+ports[0], "AMQP\x00\x00\x00\x00", "AMQP\x00\x00\x09\x01")
		},
		Polite: syscall.SIGTERM,
	})
	return &Server{s, "amqp://guest:guest@" + s.Addr}
}
