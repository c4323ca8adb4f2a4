package testenv

import (
	"net"
	"slices"
	"strconv"
	"testing"
)

func TestPorts(t *testing.T) {
	list := Ports(t, 20)
	slices.Sort(list)
	if len(slices.Compact(slices.Clone(list))) != 20 {
		t.Errorf("a port was given out twice: %v", list)
	}
	for _, text := range list {
		port, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		// As another process would find it.
		if _, err := hold(port); err == nil {
			t.Errorf("port %d is reserved a second time", port)
		}
		if _, err := hold(port + busDistance); err == nil {
			t.Errorf("the port above %d is reserved a second time", port)
		}
		for _, p := range []string{text, strconv.Itoa(port + busDistance)} {
			listener, err := net.Listen("tcp4", net.JoinHostPort(loopback, p))
			if err != nil {
				t.Errorf("it is not free for whom it was given to: %v", err)
				continue
			}
			_ = listener.Close()
		}
	}
}

func TestPortsComeBack(t *testing.T) {
	var port int
	t.Run("uses", func(t *testing.T) { port, _ = strconv.Atoi(Ports(t, 1)[0]) })
	release, err := hold(port, port+busDistance)
	if err != nil {
		t.Fatalf("the test that had it is over: %v", err)
	}
	release()
}

func TestHoldLeavesOutWhatIsTaken(t *testing.T) {
	for _, above := range []int{0, busDistance} {
		port, release, err := reserve()
		if err != nil {
			t.Fatal(err)
		}
		release()
		listener, err := net.Listen("tcp4", net.JoinHostPort(loopback, strconv.Itoa(port+above)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hold(port, port+busDistance); err == nil {
			t.Errorf("port %d is reserved though somebody listens %d above it", port, above)
		}
		_ = listener.Close()
		if release, err = hold(port, port+busDistance); err != nil {
			t.Errorf("a failure has kept something: %v", err)
			continue
		}
		release()
	}
}

func TestPortRange(t *testing.T) {
	for _, test := range []struct{ ephemeral, first, count int }{
		{32768, 11000, 8000},
		{49152, 11000, 8000},
		{20000, 2000, 8000},
		{15000, 1100, 3900},
		{1024, 11000, 8000}, // there is no place below
	} {
		if first, count := portRange(test.ephemeral); first != test.first || count != test.count {
			t.Errorf("below %d: %d ports from %d, want %d from %d", test.ephemeral, count, first, test.count, test.first)
		}
	}
}
