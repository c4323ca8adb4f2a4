package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
)

// change is an event of the tickets' feed, as far as it counts here.
type change struct {
	ID     string `json:"-"` // of the event
	Ticket struct {
		ID      string
		Version int
	}
	Comment *struct{ Text string }
}

// follower follows the tickets' feed as a program does, over reconnections.
type follower struct {
	mu       sync.Mutex
	changes  []change
	other    []string // types of events that are no changes
	servedBy []string // one for each connection: the instances that nginx tried, the last of which answered
	whole    int      // connections that ended as if the stream had
}

// RoundTrip implements http.RoundTripper.
func (f *follower) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusOK {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.servedBy = append(f.servedBy, resp.Header.Get("X-Served-By"))
	}
	return resp, err
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context, url string) error {
	client := sse.Client{URL: url, HTTPClient: &http.Client{Transport: f}, MinBackoff: 100 * time.Millisecond, OnReconnect: func(reason error, _ time.Duration) {
		if reason == nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.whole++
		}
	}}
	for e, err := range client.Events(ctx) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		f.mu.Lock()
		c := change{ID: e.ID}
		if e.Type == "checkpoint" || e.Type == "gap" || e.Type == "close" {
			f.other = append(f.other, e.Type)
		} else if err := json.Unmarshal([]byte(e.Text()), &c); err != nil {
			f.mu.Unlock()
			return fmt.Errorf("event %s: %w", e.ID, err)
		} else {
			f.changes = append(f.changes, c)
		}
		f.mu.Unlock()
	}
	return nil
}

// seen returns what was received, and which instances the connections came from.
func (f *follower) seen() (changes []change, other, servedBy []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.changes), slices.Clone(f.other), slices.Clone(f.servedBy)
}

func (f *follower) wholes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.whole
}

// browse opens a page in a browser of its own.
func browse(t *testing.T, url string) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(testenv.Need(t, "chromium")),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("no-sandbox", true), // it refuses to start as root otherwise, and it sees nothing here but this demo
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("no-first-run", true),
		chromedp.Flag("disable-gpu", true),
	)
	allocator, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(cancel)
	page, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		if err := chromedp.Cancel(page); err != nil {
			t.Logf("closing the browser: %v", err)
		}
		cancel()
	})
	// Without a deadline: the browser lives as long as the context it was started with.
	if err := chromedp.Do(page); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(page, patience)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	return page
}

func evaluate[T any](page context.Context, t *testing.T, expression string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(page, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// stage is a demo with a page and a follower, both through nginx.
type stage struct {
	t        *testing.T
	demo     *demo
	revive   chan struct{} // takes one value for each program that may be started again
	page     context.Context
	follower follower
	ticket   string
	made     []string // texts of the comments
	unsure   int      // requests without an answer from an instance
}

// TestKill: instances are killed in turns while changes are made. The page and a program that
// follow through nginx go on with the other instance and get each change once, in order.
func TestKill(t *testing.T) {
	testenv.Long(t)
	testenv.Need(t, "redis")
	testenv.Need(t, "nginx")
	testenv.Need(t, "chromium")
	s := &stage{t: t, revive: make(chan struct{})}
	var printed syncBuffer
	s.demo = &demo{dir: t.TempDir(), addr: "127.0.0.1:0", stdout: &printed, pause: func(ctx context.Context) {
		select {
		case <-s.revive:
		case <-ctx.Done():
		}
	}}
	t.Cleanup(func() {
		if err := s.demo.stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the demo printed:\n%s", printed.String())
		}
	})
	if err := s.demo.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.page = browse(t, s.url())
	s.until("the page is live", `document.getElementById("state").dataset.state === "live"`)

	following, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.follower.run(following, s.url()+"tickets/events") }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the program that follows gave up: %v", err)
		}
	}()
	testenv.Eventually(t, "the program follows", func() error {
		if _, other, _ := s.follower.seen(); len(other) == 0 {
			return fmt.Errorf("no checkpoint yet")
		}
		return nil
	})

	s.create()
	first, second := s.demo.instances[0], s.demo.instances[1]
	s.killAndGoOn(first, second)
	// Both streams come from the second one now, wherever they came from before.
	cuts := evaluate[int](s.page, t, `document.querySelectorAll("#log [data-note=lost]").length`)
	_, _, connections := s.follower.seen()
	s.killAndGoOn(second, first)
	if now := evaluate[int](s.page, t, `document.querySelectorAll("#log [data-note=lost]").length`); now <= cuts {
		t.Errorf("the page lost its connection %d times, want more than %d", now, cuts)
	}
	if _, other, now := s.follower.seen(); len(now) <= len(connections) || !strings.HasSuffix(now[len(now)-1], first.addr) {
		t.Errorf("the program was served by %v, want a last connection to %s", now, first.addr)
	} else if slices.Contains(other, "gap") || slices.Contains(other, "close") {
		t.Errorf("beside the changes the program got %v", other)
	}
	if n := evaluate[int](s.page, t, `document.querySelectorAll("#log [data-note=gap]").length`); n > 0 {
		t.Errorf("the page got %d gaps", n)
	}
	if s.follower.wholes() > 0 {
		t.Error("to the program a stream that was cut looked as if it had ended")
	}

	// Everything else comes back too: nginx, whose workers have its port until they are ended, and
	// Redis with its data.
	for _, victim := range []*service{s.demo.nginx, s.demo.redis} {
		killed := s.kill(victim)
		<-killed.done
		s.revived(victim, killed)
		s.comment()
		s.complete()
	}
}

func (s *stage) url() string { return "http://" + s.demo.nginx.addr + "/" }

func (s *stage) until(what, expression string) {
	s.t.Helper()
	testenv.Eventually(s.t, what, func() error {
		if !evaluate[bool](s.page, s.t, expression) {
			return fmt.Errorf("the page shows %s", evaluate[string](s.page, s.t, `document.body.innerText`))
		}
		return nil
	})
}

func (s *stage) create() {
	s.t.Helper()
	code, answer, err := request(s.t, http.MethodPost, s.url()+"tickets", `{"subject":"Printer on fire"}`)
	var made struct{ ID string }
	if err != nil || code != http.StatusCreated || json.Unmarshal([]byte(answer), &made) != nil {
		s.t.Fatalf("POST /tickets: status %d, %s, %v", code, answer, err)
	}
	s.ticket = made.ID
}

// comment makes a change through nginx. When the outcome is unknown it looks before it tries again,
// as whoever must not do a thing twice does.
func (s *stage) comment() {
	s.t.Helper()
	text := fmt.Sprintf("comment %d.", len(s.made)+1)
	testenv.Eventually(s.t, text, func() error {
		code, answer, err := request(s.t, http.MethodPost, s.url()+"tickets/"+s.ticket+"/comments", fmt.Sprintf(`{"text":%q}`, text))
		if err == nil && code < 300 {
			return nil
		}
		s.unsure++
		failure := fmt.Errorf("status %d, %s, %v", code, answer, err)
		if code, answer, err := request(s.t, http.MethodGet, s.url()+"tickets/"+s.ticket, ""); err == nil && code == http.StatusOK && strings.Contains(answer, text) {
			return nil
		}
		return failure
	})
	s.made = append(s.made, text)
}

// killAndGoOn kills one instance with changes before, at and after it, sees them arrive through the
// other, and lets the one come back.
func (s *stage) killAndGoOn(victim, other *service) {
	s.t.Helper()
	for range 10 {
		s.comment()
	}
	// At the same time as a request that is perhaps at this instance.
	unsure := s.unsure
	var killed *process
	var group sync.WaitGroup
	group.Go(func() { killed = s.kill(victim) })
	for range 10 {
		s.comment()
	}
	group.Wait()
	<-killed.done
	for range 10 {
		s.comment()
	}
	// One request at a time is made: the one that was at the instance, and perhaps one that its
	// socket still took.
	if n := s.unsure - unsure; n > 2 {
		s.t.Errorf("%d requests got no answer though one instance was there", n)
	}
	s.complete()
	if _, _, servedBy := s.follower.seen(); !strings.HasSuffix(servedBy[len(servedBy)-1], other.addr) {
		s.t.Errorf("with %s killed the program is served by %v, want %s", victim.addr, servedBy, other.addr)
	}

	s.revived(victim, killed)
	if code, answer, err := request(s.t, http.MethodGet, "http://"+victim.addr+"/tickets/"+s.ticket, ""); err != nil || !strings.Contains(answer, s.made[len(s.made)-1]) {
		s.t.Errorf("%s came back without the tickets: status %d, %s, %v", victim.name, code, answer, err)
	}
}

// kill ends a program as kill -9 does, and returns what was its process.
func (s *stage) kill(victim *service) *process {
	killed := victim.process()
	if p, err := os.FindProcess(killed.pid()); err != nil || p.Kill() != nil {
		s.t.Errorf("%s (pid %d) cannot be killed: %v", victim.name, killed.pid(), err)
	}
	return killed
}

// revived lets a program that was killed start again, and waits until it answers.
func (s *stage) revived(victim *service, killed *process) {
	s.t.Helper()
	s.revive <- struct{}{}
	testenv.Eventually(s.t, victim.name+" comes back", func() error {
		if victim.process() == killed {
			return fmt.Errorf("pid %d is its last", killed.pid())
		}
		return nil
	})
}

// complete waits until the page and the program have all changes, and checks that they have them in
// order, each once.
func (s *stage) complete() {
	s.t.Helper()
	want := len(s.made) + 1 // and the creation
	testenv.Eventually(s.t, "the program gets all changes", func() error {
		if changes, _, _ := s.follower.seen(); len(changes) < want {
			return fmt.Errorf("it has %d of %d", len(changes), want)
		}
		return nil
	})
	s.until("the page is live and has all changes", fmt.Sprintf(
		`document.getElementById("state").dataset.state === "live" && document.querySelectorAll("#log [data-id]").length >= %d`, want))

	changes, _, _ := s.follower.seen()
	var ids []string
	for i, c := range changes {
		ids = append(ids, c.ID)
		switch {
		case c.Ticket.ID != s.ticket || c.Ticket.Version != i+1:
			s.t.Errorf("change %d has version %d of ticket %s", i+1, c.Ticket.Version, c.Ticket.ID)
		case i > 0 && (c.Comment == nil || i > len(s.made) || c.Comment.Text != s.made[i-1]):
			s.t.Errorf("change %d has comment %+v", i+1, c.Comment)
		}
	}
	if len(changes) != want {
		s.t.Errorf("the program got %d changes, want %d", len(changes), want)
	}
	onPage := evaluate[[]string](s.page, s.t, `[...document.querySelectorAll("#log [data-id]")].map((item) => item.dataset.id)`)
	slices.Reverse(onPage)
	if !slices.Equal(onPage, ids) {
		s.t.Errorf("the page has %d events %v, the program %d: %v", len(onPage), onPage, len(ids), ids)
	}
}

// syncBuffer may be written to concurrently.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
