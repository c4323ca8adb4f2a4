package servers

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/headrace/headrace/internal/testenv"
)

// Postgres starts a PostgreSQL server with further settings, each as name=value. Its URL has the scheme postgres, names the user and
// database postgres, and has a password that is not asked for. Where the tests run as root, the server runs as the user postgres or
// nobody, because it refuses root.
func Postgres(t testing.TB, settings ...string) *Server {
	t.Helper()
	path := testenv.Need(t, "postgres")
	dir, port := folder(t), ports(t, 1)[0]
	data, addr := filepath.Join(dir, "data"), "127.0.0.1:"+port
	owned := owner(t, dir)

	initdb := owned(program(beside(t, path, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"))
	initdb.Dir = dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("servers: initdb: %v\n%s", err, out)
	}
	// The files are not worth waiting for the disk.
	args := []string{"-D", data, "-p", port, "-h", "127.0.0.1", "-k", "", "-F"}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	s := &Server{
		t: t, name: "postgres", URL: "postgres://postgres:secret@" + addr + "/postgres", Addr: addr,
		log: filepath.Join(dir, "log"), polite: interrupt, crash: quit,
		command: func() *exec.Cmd {
			cmd := owned(program(path, args...))
			cmd.Dir = dir
			// Left by a crash, it names a process that may be another one by now.
			_ = os.Remove(filepath.Join(data, "postmaster.pid"))
			return cmd
		},
		ready: func() error {
			// The startup message of protocol 3.0 with user postgres. R and a length of 8 say that no password is asked for.
			const startup = "\x00\x00\x00\x17\x00\x03\x00\x00user\x00postgres\x00\x00"
			return greets(addr, startup, "R\x00\x00\x00\x08\x00\x00\x00\x00")
		},
	}
	return s.run()
}

// owner returns what makes commands run as the owner of a folder: this user, or where this is root one of lesser rights, to whom the
// folder is given.
func owner(t testing.TB, dir string) func(*exec.Cmd) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		return detach
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID != nil || errGID != nil {
			continue
		}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
		return func(cmd *exec.Cmd) *exec.Cmd {
			detach(cmd)
			runAs(cmd, uint32(uid), uint32(gid))
			return cmd
		}
	}
	t.Skip("servers: postgres refuses to run as root, and there is no user postgres or nobody")
	return nil
}
