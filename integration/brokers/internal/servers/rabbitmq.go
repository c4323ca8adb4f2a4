package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/headrace/headrace/internal/testenv"
)

// RabbitMQ starts a rabbitmq-server with further lines for its configuration file. Its URL has the scheme amqp and names the user guest
// with its password. Erlang's port mapper runs beside it on a port of its own, so that the node meets no other one of this machine.
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
	dir, free := folder(t), ports(t, 3)
	port, distribution, mapperPort := free[0], free[1], free[2]
	addr := "127.0.0.1:" + port
	file := filepath.Join(dir, "rabbitmq.conf")
	text := strings.Join(append([]string{"listeners.tcp.local = " + addr, "log.file.level = warning"}, config...), "\n") + "\n"
	for name, content := range map[string]string{file: text, filepath.Join(dir, "plugins"): "[].\n", filepath.Join(dir, "env"): ""} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"LANG=C.UTF-8",
		"HOME=" + dir, // of Erlang's cookie
		"ERL_EPMD_PORT=" + mapperPort,
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_NODENAME=" + fmt.Sprintf("headrace%s@localhost", port),
		"RABBITMQ_DIST_PORT=" + distribution,
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

	epmd := &Server{
		t: t, name: "epmd", Addr: "127.0.0.1:" + mapperPort, log: filepath.Join(dir, "epmd.log"), polite: os.Kill,
		command: func() *exec.Cmd {
			return detach(program(mapper, "-port", mapperPort, "-address", "127.0.0.1"))
		},
		// NAMES_REQ. The answer begins with the mapper's port.
		ready: func() error { return greets("127.0.0.1:"+mapperPort, "\x00\x01n", "\x00\x00") },
	}
	epmd.run()
	s := &Server{
		t: t, name: "rabbitmq-server", URL: "amqp://guest:guest@" + addr, Addr: addr, log: filepath.Join(dir, "log"), polite: terminate,
		command: func() *exec.Cmd {
			cmd := detach(program(path))
			cmd.Dir, cmd.Env = dir, env
			return cmd
		},
		// A wrong version is answered with the right one.
		ready: func() error { return greets(addr, "AMQP\x00\x00\x00\x00", "AMQP\x00\x00\x09\x01") },
	}
	return s.run()
}
