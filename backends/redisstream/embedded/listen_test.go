package embedded

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// listening counts the sockets of this process that listen.
func listening(t *testing.T) (n int) {
	t.Helper()
	links, _ := filepath.Glob("/proc/self/fd/*")
	own := make(map[string]bool)
	for _, link := range links {
		if name, err := os.Readlink(link); err == nil {
			own[strings.Trim(strings.TrimPrefix(name, "socket:"), "[]")] = true
		}
	}
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			t.Skipf("this system does not say who listens: %v", err)
		}
		for line := range bytes.Lines(text) {
			const state, listen, inode = 3, "0A", 9
			if f := strings.Fields(string(line)); len(f) > inode && f[state] == listen && own[f[inode]] {
				n++
			}
		}
	}
	return n
}

func TestListensNowhere(t *testing.T) {
	before := listening(t)
	b := open(t, "miniredis://")
	defer b.Close()
	if _, err := b.Publish(t.Context(), "t", hub.Message{Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if n := listening(t); n != before {
		t.Errorf("%d sockets listen, %d did before", n, before)
	}
	if addr := b.(*backend).server.redis.Addr(); addr != "" {
		t.Errorf("the server has the address %s", addr)
	}
}

// TestLongPipelines: while a client writes, and reads nothing, the server writes replies.
func TestLongPipelines(t *testing.T) {
	b := open(t, "miniredis://")
	defer b.Close()
	client := b.(*backend).Client()
	const commands = 2000
	value := strings.Repeat("0123456789abcdef", 256)
	p := client.Pipeline()
	echoes := make([]*redis.StringCmd, commands)
	for i := range echoes {
		echoes[i] = p.Echo(t.Context(), value)
	}
	if _, err := p.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, echo := range echoes {
		if echo.Val() != value {
			t.Fatalf("the reply to command %d is another one", i)
		}
	}
}

// TestCloseEndsTheServer: nothing runs on when the last backend is closed.
func TestCloseEndsTheServer(t *testing.T) {
	running := func() string {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for one := range strings.SplitSeq(string(stacks), "\n\n") {
			if strings.Contains(one, "miniredis") && !strings.Contains(one, "embedded.TestCloseEndsTheServer") {
				return one
			}
		}
		return ""
	}
	for _, url := range []string{"miniredis://", "miniredis://?follow=xread"} {
		b := open(t, url)
		for i := range 20 {
			var wg sync.WaitGroup
			if _, _, err := b.Follow(t.Context(), fmt.Sprint("t", i), counter{&wg}); err != nil {
				t.Fatal(err)
			}
		}
		if running() == "" {
			t.Error("no server is found")
		}
		_ = b.Close()
		testenv.Eventually(t, url+": the end of the server", func() error {
			if one := running(); one != "" {
				return fmt.Errorf("it runs on:\n%s", one)
			}
			return nil
		})
	}
}
