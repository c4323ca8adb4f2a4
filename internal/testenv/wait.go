package testenv

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience only ends what would hang: no verdict depends on it.
const patience = time.Minute

// Eventually calls check again and again until it returns nil. It is for what another process or
// the network does, of which nothing tells. It fails the test after a minute, and at once when a
// server ends that this test or a test above it has started, with the server's log. It must be
// called from the goroutine of the test.
func Eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	if err := eventually(patience, check, func() error { return fallen(t.Name()) }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// eventually returns nil when check has, and an error when that was not in time or there is a
// reason to give up.
func eventually(patience time.Duration, check, giveUp func() error) error {
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		reason := giveUp()
		err := check()
		switch {
		case err == nil:
			return nil
		case reason != nil:
			return errors.Join(err, reason)
		case time.Now().After(deadline):
			return errors.Join(errors.New("not in time"), err)
		}
		time.Sleep(pause) // only asking again tells
	}
}

// servers are those that run, or ended by themselves.
var servers struct {
	mu   sync.Mutex
	list map[*Server]string // with the names of their tests
}

func register(s *Server, test string) (remove func()) {
	servers.mu.Lock()
	defer servers.mu.Unlock()
	if servers.list == nil {
		servers.list = make(map[*Server]string)
	}
	servers.list[s] = test
	return func() {
		servers.mu.Lock()
		defer servers.mu.Unlock()
		delete(servers.list, s)
	}
}

// fallen returns an error if a server that a test or one above it has started ended by itself.
func fallen(test string) (err error) {
	servers.mu.Lock()
	defer servers.mu.Unlock()
	for s, owner := range servers.list {
		if test == owner || strings.HasPrefix(test, owner+"/") {
			err = errors.Join(err, s.fallen())
		}
	}
	return err
}
