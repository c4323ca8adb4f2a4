package redisstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/internal/testenv"
)

const (
	brokenLine  = "the live path is broken"
	wholeLine   = "the live path is whole again"
	betweenLine = "the live path broke and is whole again"
	refusedLine = "Redis refuses a subscription"
	allowedLine = "Redis allows the subscription again"
)

// said is a log that a backend writes to.
type said struct {
	logBuffer
	*slog.Logger
}

func newSaid() *said {
	s := &said{}
	s.Logger = slog.New(slog.NewTextHandler(&s.logBuffer, nil))
	return s
}

// count is how many lines have a text.
func (s *said) count(text string) int { return strings.Count(s.String(), text) }

// want waits for a line, and fails the test for one more than that.
func (s *said) want(t *testing.T, text string, n int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%q for the %d. time", text, n), func() bool { return s.count(text) >= n })
	if s.count(text) > n {
		t.Errorf("it was said %d times that %s, want %d:\n%s", s.count(text), text, n, s)
	}
	for _, secret := range []string{"127.0.0.1", "localhost"} {
		if strings.Contains(s.String(), secret) {
			t.Errorf("the log shows %s:\n%s", secret, s)
		}
	}
}

// within fails a test in the long form when something took longer than an operator should wait.
func within(t *testing.T, long bool, what string, since time.Time, most time.Duration) {
	t.Helper()
	took := time.Since(since)
	t.Logf("%s after %v", what, took)
	if long && took > most {
		t.Errorf("%s after %v, want %v at most", what, took, most)
	}
}

func TestOutage(t *testing.T) {
	type step struct {
		at     time.Duration
		part   string
		broken bool
	}
	for _, test := range []struct {
		name  string
		steps []step
		want  string // lines: B broken, W whole, M both meanwhile
	}{
		{"one part", []step{{0, "a", true}, {1, "a", false}}, "B W"},
		{"several parts are one", []step{{0, "a", true}, {1, "b", true}, {2, "a", false}, {3, "b", false}}, "B W"},
		{"it stays broken", []step{{0, "a", true}, {1, "a", true}}, "B"},
		{"a part that was whole", []step{{0, "a", false}, {1, "b", true}, {2, "a", false}}, "B"},
		{"again much later", []step{{0, "a", true}, {1, "a", false}, {20, "a", true}, {21, "a", false}}, "B W B W"},
		{"again soon, and for long", []step{{0, "a", true}, {1, "a", false}, {2, "a", true}, {15, "a", false}}, "B W B W"},
		{"again soon, and not for long", []step{{0, "a", true}, {1, "a", false}, {2, "a", true}, {3, "a", false}}, "B W M"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newSaid()
				o := newOutage(log.Logger)
				defer o.close()
				began := time.Now()
				for _, s := range test.steps {
					time.Sleep(s.at*time.Second - time.Since(began))
					if s.broken {
						o.broken(s.part, ErrUnreachable)
					} else {
						o.whole(s.part)
					}
				}
				time.Sleep(time.Minute)
				if got := log.letters(); got != test.want {
					t.Errorf("said %s, want %s:\n%s", got, test.want, log)
				}
			})
		})
	}
}

// hangingLog is a log that takes no line before it is let go.
type hangingLog struct {
	slog.Handler
	letGo chan struct{}
}

func (h hangingLog) Handle(ctx context.Context, r slog.Record) error {
	<-h.letGo
	return h.Handler.Handle(ctx, r)
}

// TestLogHangs: what goes on while the live path is looked at does not wait for a log.
func TestLogHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newSaid()
		hanging := hangingLog{log.Handler(), make(chan struct{})}
		o := newOutage(slog.New(hanging))
		defer o.close()
		go o.broken("a", ErrUnreachable)
		synctest.Wait()
		o.hold("b")
		if !o.is() {
			t.Error("nothing is broken")
		}
		o.whole("a")
		o.whole("b")
		close(hanging.letGo)
		synctest.Wait()
		if got := log.letters(); got != "B W" {
			t.Errorf("said %s", got)
		}
	})
}

func (s *said) letters() string {
	var list []string
	for line := range strings.Lines(s.String()) {
		for text, letter := range map[string]string{brokenLine: "B", wholeLine: "W", betweenLine: "M"} {
			if strings.Contains(line, text) {
				list = append(list, letter)
			}
		}
	}
	return strings.Join(list, " ")
}

// TestOutageFlaps: what breaks all the time fills no log, and nothing is left out of the numbers.
func TestOutageFlaps(t *testing.T) {
	for _, pause := range []time.Duration{time.Millisecond, 400 * time.Millisecond, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			log := newSaid()
			o := newOutage(log.Logger)
			defer o.close()
			const span = time.Minute
			breaks := 0
			for began := time.Now(); time.Since(began) < span; breaks++ {
				o.broken("a", ErrUnreachable)
				time.Sleep(pause)
				o.whole("a")
				time.Sleep(pause)
			}
			time.Sleep(quietFor)
			lines := strings.Count(log.String(), "\n")
			if most := 2 * (int(span/quietFor) + 1); lines > most {
				t.Errorf("%d lines in %v, want %d at most:\n%s", lines, span, most, log)
			}
			counted := 0
			for line := range strings.Lines(log.String()) {
				n := 0
				if _, err := fmt.Sscanf(line[strings.LastIndex(line, " ")+1:], "breaks=%d", &n); err == nil {
					counted += n
				} else if strings.Contains(line, "level=WARN") {
					counted++
				}
			}
			if counted != breaks {
				t.Errorf("%d breaks are in the log, want %d:\n%s", counted, breaks, log)
			}
		})
	}
}

func TestOutageConcurrently(t *testing.T) {
	log := newSaid()
	o := newOutage(log.Logger)
	var wg sync.WaitGroup
	for part := range 8 {
		wg.Go(func() {
			for range 200 {
				o.broken(part, ErrUnreachable)
				o.hold(part + 100)
				o.whole(part)
				o.whole(part + 100)
			}
		})
	}
	wg.Wait()
	if o.is() {
		t.Error("it is broken, and all parts are whole")
	}
	o.close()
	if n := strings.Count(log.String(), "\n"); n > 2 {
		t.Errorf("%d lines:\n%s", n, log)
	}
}

// TestLivePathIsSaid kills a server and starts it again: whether anybody reads or not, there is one
// line when it is gone and one when it is back.
func TestLivePathIsSaid(t *testing.T) {
	t.Parallel()
	long := testenv.IsLong()
	modes(t, func(t *testing.T, o Options) {
		for name, readers := range map[string]int{"without readers": 0, "with readers": 300} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := startServer(t, "--appendonly", "yes")
				log := newSaid()
				o := o
				o.Logger = log.Logger
				r := newRig(t, s.addr, o)
				for i := range readers {
					mustFollow(t, r, "t"+itoa(i))
				}
				mustPublish(t, r, "t0", "x")
				waitFor(t, "the live path", func() bool { return len(r.sessions()) == 1 })
				if n := log.count("\n"); n != 0 {
					t.Errorf("said while all is well:\n%s", log)
				}
				s.program.Kill()
				killed := time.Now()
				log.want(t, brokenLine, 1)
				within(t, long, "the break was said", killed, time.Second)
				s.program.Start()
				started := time.Now()
				log.want(t, wholeLine, 1)
				within(t, long, "the end was said", started, 2*time.Second)
				persist(t, r, "t0", "y")
				log.want(t, brokenLine, 1)
				log.want(t, wholeLine, 1)
				if !strings.Contains(log.String(), "away=") || strings.Contains(log.String(), "level=ERROR") {
					t.Errorf("said:\n%s", log)
				}
			})
		}
	})
}

// TestLivePathAlone breaks the live path and nothing else.
func TestLivePathAlone(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		log := newSaid()
		o.Logger = log.Logger
		r := newRig(t, startServer(t).addr, o)
		mustFollow(t, r, "t")
		waitFor(t, "the live path", func() bool { return len(r.sessions()) == 1 })
		restore := r.breakLive(t)
		log.want(t, brokenLine, 1)
		restore()
		log.want(t, wholeLine, 1)
	})
}

// TestLivePathOfAFrozenServer: a server that does not answer is noticed by that.
func TestLivePathOfAFrozenServer(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	log := newSaid()
	s := startServer(t)
	r := newRig(t, s.addr, Options{Logger: log.Logger})
	waitFor(t, "the live path", func() bool { return len(r.sessions()) == 1 })
	s.freeze()
	frozen := time.Now()
	log.want(t, brokenLine, 1)
	within(t, true, "the break was said", frozen, pingEvery+patience)
	if !strings.Contains(log.String(), "timeout") {
		t.Errorf("said:\n%s", log)
	}
	s.thaw()
	thawed := time.Now()
	log.want(t, wholeLine, 1)
	within(t, true, "the end was said", thawed, 3*time.Second)
}

// TestLivePathWhileLoading: a server that loads its data keeps connections, and is not there.
func TestLivePathWhileLoading(t *testing.T) {
	t.Parallel()
	long := testenv.IsLong()
	s := startServer(t, "--enable-debug-command", "yes", "--key-load-delay", "60000", "--loading-process-events-interval-bytes", "1024", "--rdbcompression", "no")
	for i := range 40 {
		if err := s.Set(t.Context(), "k"+itoa(i), strings.Repeat("x", 1024), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	log := newSaid()
	r := newRig(t, s.addr, Options{Logger: log.Logger})
	waitFor(t, "the live path", func() bool { return len(r.sessions()) == 1 })
	loaded := make(chan time.Time, 1)
	go func() {
		// Once: a client would send it again when it has waited long enough.
		_, _ = testenv.RedisDo(s.addr, "DEBUG RELOAD")
		for errors.Is(r.Ping(context.Background()), ErrNotReady) {
		}
		loaded <- time.Now()
	}()
	log.want(t, brokenLine, 1)
	if !strings.Contains(log.String(), "LOADING") || log.count(wholeLine) > 0 {
		t.Errorf("said:\n%s", log)
	}
	since := <-loaded
	log.want(t, wholeLine, 1)
	within(t, long, "the end was said", since, time.Second)
}

// TestLivePathOfACluster: the loss of any master is said, also of one that has no topics.
func TestLivePathOfACluster(t *testing.T) {
	t.Parallel()
	long := testenv.IsLong()
	nodes := startCluster(t)
	log := newSaid()
	r := newClusterRig(t, nodes[0].addr, Options{Logger: log.Logger})
	waitFor(t, "the live paths", func() bool { return len(r.sessions()) == len(nodes) })
	nodes[1].program.Kill()
	killed := time.Now()
	log.want(t, brokenLine, 1)
	within(t, long, "the break was said", killed, time.Second)
	nodes[1].program.Start()
	log.want(t, wholeLine, 1)
	waitFor(t, "the live paths", func() bool { return len(r.sessions()) == len(nodes) })
}

// openWith is Open with options that a URL cannot have.
func openWith(t testing.TB, at string, o Options) *Backend {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	client, err := openClient(u, backends.NewQuery(u.Query()), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(client, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = b.Close()
		_ = client.Close()
	})
	return b
}

// TestLivePathFromTheStart says by name why there has never been any.
func TestLivePathFromTheStart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ url, want string }{
		"no such host":     {"redis://no-such-host.invalid:6379", "host name cannot be resolved"},
		"no such cluster":  {"redis+cluster://no-such-host.invalid:6379", "host name cannot be resolved"},
		"loading":          {"redis://" + answering(t, "-LOADING Redis is loading the dataset in memory"), "LOADING"},
		"no such sentinel": {"redis+sentinel://no-such-host.invalid/master", "host name cannot be resolved"},
		"nobody listens":   {"redis://127.0.0.1:" + freePort(t), "connection refused"},
		"wrong password":   {"redis://:canary@" + startServer(t, "--requirepass", "secret").addr, "WRONGPASS"},
		"no password":      {"redis://" + startServer(t, "--requirepass", "secret").addr, "NOAUTH"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newSaid()
			b := openWith(t, test.url, Options{Logger: log.Logger})
			log.want(t, test.want, 1)
			_, err := b.Read(t.Context(), "t", "", 1)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Read: %v, want %s", err, test.want)
			}
			for _, secret := range []string{"no-such-host", "canary"} {
				if strings.Contains(log.String()+err.Error(), secret) {
					t.Errorf("%s is shown: %v\n%s", secret, err, log)
				}
			}
		})
	}
}

// TestRefusedSubscriptions: however many are refused, it is one line.
func TestRefusedSubscriptions(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	log := newSaid()
	r := newRig(t, s.addr, Options{Logger: log.Logger})
	for i := range 20 {
		mustFollow(t, r, "t"+itoa(i))
	}
	s.Do(t.Context(), "ACL", "SETUSER", "default", "resetchannels")
	log.want(t, refusedLine, 1)
	for range 3 {
		if _, _, err := r.Follow(t.Context(), "other", &recorder{}); !errors.Is(err, ErrDenied) {
			t.Errorf("Follow: %v, want ErrDenied", err)
		}
	}
	log.want(t, refusedLine, 1)
	s.Do(t.Context(), "ACL", "SETUSER", "default", "&*")
	log.want(t, allowedLine, 1)
	log.want(t, refusedLine, 1)
}

// TestOneConnectionToEachServer: what is kept to notice a break is the connection of the live path.
func TestOneConnectionToEachServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	connections := func() (n int) {
		for line := range strings.Lines(s.ClientList(t.Context()).Val()) {
			if strings.Contains(line, " cmd=ping ") || strings.Contains(line, " cmd=subscribe ") {
				n++
			}
		}
		return n
	}
	r := newRig(t, s.addr, Options{})
	waitFor(t, "the connection", func() bool { return connections() == 1 })
	_, _, stop := mustFollow(t, r, "t")
	waitFor(t, "one connection with a reader", func() bool { return connections() == 1 }) // one may just have ended
	stop()
	newRig(t, s.addr, Options{Follow: FollowXRead})
	waitFor(t, "the connection of another process", func() bool { return connections() == 2 })
}
