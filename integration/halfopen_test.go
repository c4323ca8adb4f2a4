package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// halfOpenVariable says which part of TestHalfOpen a process has: "" starts the others, "near" has
// the servers, "far" the clients that vanish.
const halfOpenVariable = "HEADRACE_HALF_OPEN"

const (
	nearAddress, farAddress = "192.0.2.1", "192.0.2.2"
	// halfOpenTimeout is how long a client may fail to acknowledge.
	halfOpenTimeout = time.Second
)

// TestHalfOpen: a client that vanishes without a word, with its address, is noticed soon, although
// what it is sent finds room in the socket's buffer. The two ends of the connection are processes
// with networks of their own, which need no rights where users may make namespaces.
func TestHalfOpen(t *testing.T) {
	switch os.Getenv(halfOpenVariable) {
	case "near":
		testHalfOpen(t)
		return
	case "far":
		if err := vanish(); err != nil {
			t.Fatal(err)
		}
		return
	}
	if runtime.GOOS != "linux" {
		t.Skip("networks of a process's own need Linux")
	}
	ip := testenv.Need(t, "ip")
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip(err)
	}
	if out, err := exec.Command(unshare, "-Urn", ip, "link", "add", "near", "type", "veth", "peer", "name", "far").CombinedOutput(); err != nil {
		t.Skipf("a user may not make a network of its own here: %v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*deadline) // the other process's own waits end before
	defer cancel()
	cmd := exec.CommandContext(ctx, unshare, "-Urn", self(t), "-test.run=^TestHalfOpen$", "-test.v")
	cmd.Env = append(os.Environ(), halfOpenVariable+"=near", "PATH="+os.Getenv("PATH")+":"+filepath.Dir(ip))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	t.Logf("%s", out)
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ip changes the network that the process is in.
func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// testHalfOpen has the servers, and a process for the clients.
func testHalfOpen(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	far := exec.Command("unshare", "-n", self(t), "-test.run=^TestHalfOpen$")
	far.Env = append(os.Environ(), halfOpenVariable+"=far")
	in, err := far.StdinPipe()
	must(err)
	out, err := far.StdoutPipe()
	must(err)
	far.Stderr = os.Stderr
	must(far.Start())
	defer func() {
		_ = in.Close()
		if err := far.Wait(); err != nil {
			t.Errorf("the process of the clients: %v", err)
		}
	}()
	said := bufio.NewScanner(out)
	expect := func(want string) {
		t.Helper()
		var before []string
		for said.Scan() {
			if said.Text() == want {
				return
			}
			before = append(before, said.Text())
		}
		t.Fatalf("the process of the clients never said %q, but %q", want, before)
	}
	expect("in a network of its own")
	must(ip("link", "set", "lo", "up"))
	must(ip("link", "add", "near", "type", "veth", "peer", "name", "far"))
	must(ip("link", "set", "far", "netns", fmt.Sprint(far.Process.Pid)))
	must(ip("addr", "add", nearAddress+"/24", "dev", "near"))
	must(ip("link", "set", "near", "up"))

	o := feed.Options{WriteTimeout: halfOpenTimeout, Heartbeat: halfOpenTimeout / 5, NoRotation: true}
	var labs []*lab
	var addresses []string
	for _, tc := range []struct {
		way
		listen func(net.Listener, time.Duration) net.Listener
	}{
		{way{"parked", true, false}, nil},
		{way{"detached", true, true}, nil},
		{way{"ordinary, behind feed.Listener", false, false}, feed.Listener},
		// The guard of this test, last: here nothing but the system's patience ends the stream,
		// after a quarter of an hour.
		{way{"ordinary", false, false}, nil},
	} {
		listener, err := net.Listen("tcp4", nearAddress+":0")
		must(err)
		if tc.listen != nil {
			listener = tc.listen(listener, halfOpenTimeout)
		}
		l := newLab(t, tc.way, o, newHub(t, memory.Options{}, hub.Options{}), listener)
		labs, addresses = append(labs, l), append(addresses, l.address())
	}
	_, err = fmt.Fprintln(in, strings.Join(addresses, " "))
	must(err)
	expect("connected")
	for _, l := range labs {
		if e := l.ends("far"); len(e) > 0 {
			t.Fatalf("%s: ended before the client vanished: %v", l.way.name, e[0].Cause)
		}
	}
	_, err = fmt.Fprintln(in, "vanish")
	must(err)
	expect("vanished")
	vanished := time.Now()

	guard := labs[len(labs)-1]
	for _, l := range labs[:len(labs)-1] {
		eventually(t, l.way.name+": the stream has ended", func() error {
			if len(l.ends("far")) == 0 {
				return errors.New("it has not")
			}
			return nil
		})
		e := l.ends("far")[0]
		t.Logf("%s: ended after %v by %v", l.way.name, time.Since(vanished), e.Cause)
		if !errors.Is(e.Cause, feed.ErrClientGone) && !errors.Is(e.Cause, feed.ErrWriteFailed) {
			t.Errorf("%s: ended by %v", l.way.name, e.Cause)
		}
		settle(t, l.hub)
	}
	<-time.After(time.Until(vanished.Add(2 * halfOpenTimeout)))
	if e := guard.ends("far"); len(e) > 0 {
		t.Errorf("without a bound the stream ended too, by %v: this network does not show half-open connections", e[0].Cause)
	}
	guard.server.CloseClientConnections()
	guard.allEnded(t, []string{"far"})
}

// vanish has the clients: it takes the address away on which they are connected.
func vanish() error {
	fmt.Println("in a network of its own")
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return errors.New("no addresses")
	}
	if err := errors.Join(ip("addr", "add", farAddress+"/24", "dev", "far"), ip("link", "set", "far", "up")); err != nil {
		return err
	}
	for address := range strings.FieldsSeq(in.Text()) {
		c, err := openRaw(address, "/clients/far", 0, 0)
		if err != nil {
			return err
		}
		defer c.Close()
		if e, err := sse.NewDecoder(c.body).Decode(); err != nil || e.Type != "checkpoint" {
			return fmt.Errorf("%s: first event: %q, %w", address, e.Type, err)
		}
	}
	fmt.Println("connected")
	if !in.Scan() {
		return errors.New("the servers are gone")
	}
	if err := ip("addr", "del", farAddress+"/24", "dev", "far"); err != nil {
		return err
	}
	fmt.Println("vanished")
	_, err := io.Copy(io.Discard, os.Stdin) // until the servers have seen enough
	return err
}
