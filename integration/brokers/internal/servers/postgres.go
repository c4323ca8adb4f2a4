package servers

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/headrace/headrace/internal/testenv"
)

// Postgres starts a PostgreSQL server with further settings, each as name=value. Its URL has the
// scheme postgres, names the user and database postgres, and has a password that is not asked for.
// Where the tests run as root, the server runs as the user postgres or nobody, because it refuses
// root.
func Postgres(t testing.TB, settings ...string) *Server {
	t.Helper()
	path := testenv.Need(t, "postgres")
	dir := folder(t)
	data, owned := filepath.Join(dir, "data"), owner(t, dir)

	initdb := program(beside(t, path, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir = dir
	owned(initdb)
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("servers: initdb: %v\n%s", err, out)
	}
	s := testenv.Start(t, testenv.Program{
		Name: "postgres",
		Command: func(ports []string) *exec.Cmd {
			// The files are not worth waiting for the disk.
			args := []string{"-D", data, "-p", ports[0], "-h", "127.0.0.1", "-k", "", "-F"}
			for _, setting := range settings {
				args = append(args, "-c", setting)
			}
			cmd := program(path, args...)
			cmd.Dir = dir
			owned(cmd)
			// Left by a crash, it names a process that may be another one by now.
			_ = os.Remove(filepath.Join(data, "postmaster.pid"))
			return cmd
		},
		Ready: func(_ int, ports []string) error {
			// The startup message of protocol 3.0 with user postgres. R and a length of 8 say that
			// no password is asked for.
			const startup = "\x00\x00\x00\x17\x00\x03\x00\x00user\x00postgres\x00\x00"
			return greets("127.0.0.1:"+ports[0], startup, "R\x00\x00\x00\x08\x00\x00\x00\x00")
		},
		Crash: syscall.SIGQUIT, // its processes are not all in its group
	})
	return &Server{s, "postgres://postgres:secret@" + s.Addr + "/postgres"}
}

// owner returns what makes commands run as the owner of a folder: this user, or where this is root
// one of lesser rights, to whom the folder is given.
func owner(t testing.TB, dir string) func(*exec.Cmd) {
	t.Helper()
	if os.Geteuid() != 0 {
		return func(*exec.Cmd) {}
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
		return func(cmd *exec.Cmd) { runAs(cmd, uint32(uid), uint32(gid)) }
	}
	t.Skip("servers: postgres refuses to run as root, and there is no user postgres or nobody")
	return nil
}
