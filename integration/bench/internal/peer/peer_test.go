package peer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/integration/bench/internal/payload"
)

// fake keeps what is published.
type fake struct {
	topics   []string
	messages [][]byte
	err      error
}

func (f *fake) publish(topic string, data []byte) (string, error) {
	f.topics = append(f.topics, topic)
	f.messages = append(f.messages, data)
	return "7", f.err
}

// server returns a server with topics to publish to in turn.
func (f *fake) server(round int, topics ...string) *Server {
	return &Server{Publish: f.publish, topics: topics, round: round}
}

// start runs a server and returns what asks it a question, and what ends it.
func start(t *testing.T, f *fake) (ask func(string) string, end func()) {
	t.Helper()
	in, commands := io.Pipe()
	answers, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- serve(f.server(1, "load"), in, out) }()
	lines := bufio.NewScanner(answers)
	ask = func(command string) string {
		t.Helper()
		if _, err := io.WriteString(commands, command+"\n"); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(command, "allow") {
			return ""
		}
		lines.Scan()
		return lines.Text()
	}
	return ask, func() {
		t.Helper()
		_ = commands.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestPublishIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		begin := time.Now()
		count, err := publish(f.server(1, "load"), newGate(), 2*time.Second, 50, 200, 0)
		if err != nil || count != 100 || len(f.messages) != 100 || time.Since(begin) != 2*time.Second {
			t.Errorf("%d messages in %v: %v", count, time.Since(begin), err)
		}
		if len(f.messages[0]) != 200 || bytes.Count(f.messages[0], []byte{payload.Mark}) != 1 {
			t.Errorf("got %s", f.messages[0])
		}
	})
}

func TestPublishStaysWithinAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := &fake{}, newGate()
		done := make(chan int)
		go func() {
			count, _ := publish(f.server(1, "load"), g, time.Minute, 0, 200, 10)
			done <- count
		}()
		for _, allowed := range []int{0, 4, 64} {
			g.open(float64(allowed))
			synctest.Wait()
			if len(f.messages) != allowed+10 {
				t.Errorf("%d messages with %d allowed", len(f.messages), allowed)
			}
		}
		if count := <-done; count != 74 {
			t.Errorf("%d at the end", count)
		}
	})
}

func TestCommands(t *testing.T) {
	f := &fake{}
	ask, end := start(t, f)
	defer end()
	if got := ask("probe"); got != "ok" || len(f.messages) != 1 || bytes.IndexByte(f.messages[0], payload.Probe) < 0 {
		t.Errorf("probe: %q, %q", got, f.messages)
	}
	if got := ask("retain 5 100"); got != "retained 7" || len(f.messages) != 7 {
		t.Errorf("retain: %q, %d messages", got, len(f.messages))
	}
	if got := ask("gc"); got != "ok" {
		t.Errorf("gc: %q", got)
	}
	// What an earlier command was allowed does not count for the next one.
	ask("allow 1000")
	if got := ask("publish 0.01 0 100 3"); !strings.HasPrefix(got, "published 3 ") {
		t.Errorf("publish: %q", got)
	}
	for _, wrong := range []string{"dance", "publish 1 2 3", "retain x 1", "publish 1 -2 3 4"} {
		if got := ask(wrong); !strings.HasPrefix(got, "error ") {
			t.Errorf("%s: %q", wrong, got)
		}
	}
	f.err = errors.New("two\nlines")
	if got := ask("probe"); got != "error two lines" {
		t.Errorf("failing: %q", got)
	}
}

func TestRunServesHandler(t *testing.T) {
	open := func(Options) (*Server, error) {
		return &Server{Handler: http.NotFoundHandler(), Path: "/events", Publish: (&fake{}).publish}, nil
	}
	in, commands := io.Pipe()
	answers, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(open, Options{}, in, out) }()
	line, err := bufio.NewReader(answers).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(line)
	if len(words) != 4 || words[0] != "ready" || words[2] != "/events" {
		t.Fatalf("got %q", line)
	}
	response, err := http.Get("http://" + words[1] + "/events")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", response.StatusCode)
	}
	_ = commands.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
