package direct

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// party is connections of one topic that run user code.
type party struct {
	t       *testing.T
	engine  Engine
	feeds   []*fakeFeed
	sockets []*fakeSocket
	done    []<-chan session.Result
}

func newParty(t *testing.T, n int) *party {
	p := &party{t: t}
	p.join(n)
	return p
}

// join adds n connections whose user code the shards run.
func (p *party) join(n int) {
	for range n {
		f, s := newFakeFeed("t"), newFakeSocket()
		f.custom, f.poll = true, func() {}
		p.feeds, p.sockets = append(p.feeds, f), append(p.sockets, s)
		p.done = append(p.done, p.engine.runInBackground(p.t.Context(), session.Config{}, f, s))
	}
	for range trusted + 1 { // so often that the shards run their code
		p.put("data: warm\n\n")
		synctest.Wait()
	}
}

func (p *party) put(frame string) {
	for _, f := range p.feeds {
		f.put(frame)
	}
}

// got returns which connections have a text.
func (p *party) got(text string) (have []bool) {
	for _, s := range p.sockets {
		have = append(have, strings.Contains(s.got(), text))
	}
	return have
}

func (p *party) leave() {
	for _, s := range p.sockets {
		s.change(func() { s.gone = true })
	}
	for _, done := range p.done {
		isCause(p.t, (<-done).Cause, session.ErrClientGone)
	}
}

// code sets what the user code of a connection does.
func (p *party) code(i int, poll func()) {
	p.feeds[i].mu.Lock()
	defer p.feeds[i].mu.Unlock()
	p.feeds[i].poll = poll
}

// TestUserCodeThatNeverReturns: the other connections wait for it once, for a moment, and what it
// was called for is written when it returns after all.
func TestUserCodeThatNeverReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 20)
		release := make(chan struct{})
		for i := range 2 { // one in each shard, if there are two
			p.code(i, func() { <-release })
		}
		begun := time.Now()
		p.put("data: a\n\n")
		time.Sleep(2 * patience)
		synctest.Wait()
		for i, got := range p.got("data: a") {
			equal(t, fmt.Sprint("connection ", i, " got it"), got, i >= 2)
		}
		if took := time.Since(begun); took > 2*patience {
			t.Errorf("the others waited for %v", took)
		}
		p.put("data: b\n\n")
		synctest.Wait()
		for i, got := range p.got("data: b") {
			equal(t, fmt.Sprint("connection ", i, " got the next at once"), got, i >= 2)
		}
		close(release)
		synctest.Wait()
		for i, got := range p.got("data: a\n\ndata: b\n\n") {
			equal(t, fmt.Sprint("connection ", i, " has both"), got, true)
		}
		p.leave()
	})
}

// TestUserCodeThatSleeps: however many connections have slow code, the others wait for one call
// of each shard, the first time, and for none afterwards.
func TestUserCodeThatSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 1000)
		for i := range p.feeds {
			if i%2 == 0 {
				p.code(i, func() { time.Sleep(100 * time.Millisecond) })
			}
		}
		lock, release := make(chan struct{}), make(chan struct{})
		p.code(0, func() { <-release })          // never, as far as the others can tell
		p.code(2, func() { lock <- struct{}{} }) // waits for a lock
		defer func() {
			close(release)
			go func() {
				for range lock {
				}
			}()
			p.leave()
			close(lock)
		}()
		for round := range 5 {
			text := fmt.Sprintf("data: %d\n\n", round)
			p.put(text)
			if round == 0 {
				time.Sleep(2 * patience)
			}
			synctest.Wait()
			for i, got := range p.got(text) {
				if i%2 == 1 && !got {
					t.Fatalf("connection %d waits for the code of others in round %d", i, round)
				}
			}
			time.Sleep(time.Second)
			for i, got := range p.got(text) {
				if !got && i != 0 && i != 2 {
					t.Fatalf("connection %d lost %q", i, text)
				}
			}
		}
	})
}

// TestUserCodeThatIsUnknown: nobody waits for the first calls of a connection.
func TestUserCodeThatIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 3)
		f, s := newFakeFeed("t", "data: first\n\n"), newFakeSocket()
		release := make(chan struct{})
		f.custom, f.poll = true, func() { <-release }
		done := p.engine.runInBackground(t.Context(), session.Config{}, f, s)
		synctest.Wait()
		p.put("data: a\n\n")
		synctest.Wait()
		for i, got := range p.got("data: a") {
			equal(t, fmt.Sprint("connection ", i, " got it at once"), got, true)
		}
		close(release)
		synctest.Wait()
		equal(t, "text", s.got(), ": ok\ndata: first\n\n")
		p.sockets, p.done = append(p.sockets, s), append(p.done, done)
		p.leave()
	})
}

// TestUserCodeForgiven: code that was slow once is run by the shard again when it was quick for
// long.
func TestUserCodeForgiven(t *testing.T) {
	c := newConn(newShard(), &fakeFeed{topics: []string{"t"}, custom: true}, nullSocket{}, Response{})
	equal(t, "at first", c.trust < trusted, true)
	c.judge()
	equal(t, "when none was run", c.trust, 0)
	for range trusted {
		c.Slowest = 1
		c.judge()
	}
	equal(t, "quick", c.trust, trusted)
	c.Slowest = patience
	c.judge()
	for n := 0; c.trust < trusted; n++ {
		if n > 1000 {
			t.Fatal("it is never forgiven")
		}
		c.Slowest = 1
		c.judge()
	}
}

// TestTopicsShareATurn: a connection whose topics change at the same time is polled once for them.
func TestTopicsShareATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShard()
		s.wake = make(chan struct{}, 1)
		s.running, s.joining = true, 1
		l := &loop{shard: s}
		f, socket := &fakeFeed{topics: []string{"a", "b", "c"}}, newFakeSocket()
		c := newConn(s, f, socket, Response{})
		c.Init(t.Context(), session.Config{}, f, c)
		s.poke(c)
		s.pass(l)
		polls := f.polls
		for i := range f.topics {
			c.Topic(i).Wake()
		}
		f.frames = [][]byte{[]byte("data: x\n\n")}
		s.pass(l)
		equal(t, "polls", f.polls-polls, 2) // what there is, and that there is no more
		equal(t, "text", socket.got(), ": ok\ndata: x\n\n")
		s.leave(c)
		equal(t, "groups that are left", len(s.groups), 0)
	})
}

// TestUserCodeChurn: connections of several topics, with code that is quick, slow, or waits for a
// lock, come and go while messages are published. Each gets all of what it was there for, in
// order.
func TestUserCodeChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Engine
		var ends sync.WaitGroup
		turn := make(chan struct{}, 1) // a lock that the fake clock sees somebody wait for
		for i := range 200 {
			ends.Go(func() {
				random := rand.New(rand.NewPCG(uint64(i), 1))
				f, s := newFakeFeed("t"), newFakeSocket()
				f.topics = []string{fmt.Sprint(i % 5), fmt.Sprint("own ", i), fmt.Sprint(i%3, "'")}
				f.custom = i%4 > 0
				var polls atomic.Int64
				f.poll = func() {
					switch n := polls.Add(1); {
					case i%4 == 2 && n%5 == 0:
						time.Sleep(time.Duration(1+i%4) * time.Millisecond)
					case i%4 == 3 && n%3 == 0:
						turn <- struct{}{}
						time.Sleep(time.Millisecond)
						<-turn
					}
				}
				if i%7 == 0 {
					s.room = i
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				done := e.runInBackground(ctx, session.Config{Heartbeat: 7 * time.Millisecond}, f, s)
				want := ""
				for n := range 30 {
					frame := fmt.Sprintf("data: %d\n\n", n)
					f.put(frame)
					want += frame
					time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
				}
				s.change(func() { s.room = -1 })
				switch i % 3 {
				case 0:
					f.update(func(f *fakeFeed) { f.ended = true })
				case 1:
					cancel(nil)
				default:
					s.change(func() { s.gone = true })
				}
				r := <-done
				got := strings.ReplaceAll(strings.TrimPrefix(s.got(), ": ok\n"), ":\n", "")
				if i%3 == 0 && got != want || !strings.HasPrefix(want, got) && i%3 > 0 {
					t.Errorf("connection %d ended by %v with %q", i, r.Cause, got)
				}
			})
		}
		ends.Wait()
	})
}

// privateFeed makes a frame of its own for each connection.
type privateFeed struct {
	*fakeFeed
	name string
}

func (f *privateFeed) Poll(w *session.Work, budget int) (hub.Status, error) {
	n := len(w.Frames)
	status, err := f.fakeFeed.Poll(w, budget)
	frames := slices.Clone(w.Frames[n:])
	w.Frames = w.Frames[:n]
	for _, frame := range frames {
		_ = w.Append(func(dst []byte) ([]byte, error) {
			return append(append(append(dst, "id: "...), f.name...), frame...), nil
		})
	}
	return status, err
}

// TestPrivateFrames: frames that are made in the same memory, one connection after the other, are
// no other's, also where a socket takes them later.
func TestPrivateFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShard()
		s.wake = make(chan struct{}, 1)
		s.running, s.joining = true, 3
		l := &loop{shard: s}
		sockets := []*fakeSocket{newFakeSocket(), newFakeSocket(), newFakeSocket()}
		sockets[0].room = 10
		var conns []*conn
		for i, socket := range sockets {
			f := &privateFeed{newFakeFeed("t", "\ndata: x\n\n", "\ndata: y\n\n"), fmt.Sprint(i)}
			c := newConn(s, f, socket, Response{})
			c.Init(t.Context(), session.Config{}, f, c)
			conns = append(conns, c)
			s.poke(c)
		}
		s.pass(l)
		sockets[0].change(func() { sockets[0].room = -1 })
		synctest.Wait()
		for i, socket := range sockets {
			equal(t, fmt.Sprint("connection ", i), socket.got(), strings.ReplaceAll(": ok\nid: N\ndata: x\n\nid: N\ndata: y\n\n", "N", fmt.Sprint(i)))
		}
		s.pass(l) // the first one is back
		for _, c := range conns {
			c.source.(*privateFeed).put("\ndata: z\n\n")
		}
		s.pass(l)
		for i, socket := range sockets {
			if want := fmt.Sprintf("id: %d\ndata: z\n\n", i); !strings.HasSuffix(socket.got(), want) {
				t.Errorf("connection %d got another's frame: %q", i, socket.got())
			}
			s.leave(conns[i])
		}
	})
}

// TestMissedWhileAway: a change between the last look of a connection's own goroutine and the
// moment in which the shard takes the connection back is seen.
func TestMissedWhileAway(t *testing.T) {
	s := newShard()
	s.wake = make(chan struct{}, 1)
	s.running, s.joining = true, 1
	l := &loop{shard: s}
	f, socket := newFakeFeed("t"), newFakeSocket()
	c := newConn(s, f, socket, Response{})
	c.Init(t.Context(), session.Config{}, f, c)
	s.poke(c)
	s.pass(l)
	for name, wake := range map[string]func(){"topic": func() { c.Topic(0).Wake() }, "own": c.Wake} {
		s.cede(c)
		f.mu.Lock()
		f.frames = [][]byte{[]byte("data: " + name + "\n\n")}
		f.mu.Unlock()
		wake()
		s.pass(l)
		equal(t, "while it is away", strings.Contains(socket.got(), name), false)
		c.back.Store(true)
		s.poke(c)
		s.pass(l)
		equal(t, "when it is back", strings.Contains(socket.got(), name), true)
	}
	s.leave(c)
}

// scripted is a source whose Poll is a function.
type scripted struct {
	*fakeFeed
	script func(w *session.Work) hub.Status
}

func (f *scripted) Poll(w *session.Work, _ int) (hub.Status, error) { return f.script(w), nil }

// TestChangeBehindATurn: a message that comes when a connection has had its turn, because it was
// poked, and its topic is still to be seen to in the same pass, is not passed over.
func TestChangeBehindATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := Engine{shards: []*shard{newShard()}}
		var frames [][]byte
		c, d := &scripted{fakeFeed: newFakeFeed("c")}, &scripted{fakeFeed: newFakeFeed("d")}
		c.script = func(w *session.Work) hub.Status {
			w.Frames = append(w.Frames, frames...)
			if len(frames) == 0 {
				return hub.Waiting
			}
			frames = nil
			return hub.Ready
		}
		turn := 0
		d.script = func(*session.Work) hub.Status {
			switch turn++; turn {
			case 2: // the next pass has c's topic as dirty, and c and then d as poked
				c.watcher.Topic(0).Wake()
				c.watcher.Wake()
				d.watcher.Wake()
			case 3: // behind c's turn in that pass
				frames = [][]byte{[]byte("data: late\n\n")}
				c.watcher.Topic(0).Wake()
			}
			return hub.Waiting
		}
		sockets := []*fakeSocket{newFakeSocket(), newFakeSocket()}
		for i, f := range []*scripted{c, d} {
			go e.Run(t.Context(), session.Config{}, f, sockets[i], Response{}, func(session.Result) {})
			synctest.Wait()
		}
		d.watcher.Wake()
		synctest.Wait()
		equal(t, "turns of the other", turn >= 3, true)
		equal(t, "text", sockets[0].got(), ": ok\ndata: late\n\n")
		for _, socket := range sockets {
			socket.change(func() { socket.gone = true })
		}
	})
}

// TestUserCodeGoexit: code that ends its goroutine ends its stream, not as a clean end, and nobody
// else's, whether the shard or the connection's own goroutine runs it.
func TestUserCodeGoexit(t *testing.T) {
	for _, when := range []string{"on the shard", "beside the shard", "when the shard is lost"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := Engine{shards: []*shard{newShard()}}
				feeds, sockets := []*fakeFeed{newFakeFeed("a"), newFakeFeed("b")}, []*fakeSocket{newFakeSocket(), newFakeSocket()}
				results := make([]chan session.Result, 2)
				for i, f := range feeds {
					f.custom, f.poll = true, func() {}
					results[i] = make(chan session.Result, 1)
					go func() {
						defer func() {
							if p := recover(); i == 0 && p != errGoexit {
								t.Errorf("the handler panicked with %v", p)
							}
						}()
						e.Run(t.Context(), session.Config{}, f, sockets[i], Response{}, func(r session.Result) { results[i] <- r })
					}()
				}
				synctest.Wait()
				if when != "beside the shard" {
					for range trusted + 1 {
						for _, f := range feeds {
							f.put("data: warm\n\n")
						}
						synctest.Wait()
					}
				}
				feeds[0].mu.Lock()
				feeds[0].poll = func() {
					if when == "when the shard is lost" {
						time.Sleep(10 * patience)
					}
					feeds[0].mu.Lock() // which Poll unlocks
					runtime.Goexit()
				}
				feeds[0].mu.Unlock()
				feeds[0].put("data: x\n\n")
				time.Sleep(time.Second)
				feeds[1].put("data: y\n\n")
				synctest.Wait()
				equal(t, "the other one goes on", strings.HasSuffix(sockets[1].got(), "data: y\n\n"), true)
				r := <-results[0]
				isCause(t, r.Cause, session.ErrPanicked)
				equal(t, "aborted", r.Aborted, true)
				sockets[1].change(func() { sockets[1].gone = true })
				isCause(t, (<-results[1]).Cause, session.ErrClientGone)
			})
		})
	}
}

// TestUserCodeThatIsNearlySlow: code that is just quicker than what loses the shard does not hold
// others up by its number, and is soon not run by the shard any more.
func TestUserCodeThatIsNearlySlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &party{t: t}
		p.engine.shards = []*shard{newShard()} // all of them in one pass
		p.join(200)
		// Quick ones stand all over the pass: one of the last is held up by all that the shard
		// runs.
		quick := func(i int) bool { return i%10 == 9 }
		for i := range p.feeds {
			if !quick(i) {
				p.code(i, func() { time.Sleep(patience * 9 / 10) })
			}
		}
		for round := range 20 {
			text := fmt.Sprintf("data: %d\n\n", round)
			begun := time.Now()
			p.put(text)
			for i, s := range p.sockets {
				for quick(i) && !strings.Contains(s.got(), text) {
					time.Sleep(patience / 10)
					synctest.Wait()
				}
			}
			if waited := time.Since(begun); waited > 3*mostLooks*patience {
				t.Fatalf("round %d: a quick one waited for %v", round, waited)
			}
			time.Sleep(time.Second)
		}
		p.leave()
		trusting := 0
		for i, f := range p.feeds {
			if !quick(i) && f.watcher.(*conn).trust >= trusted {
				trusting++
			}
		}
		// In each pass the first call may lie between two looks.
		if trusting > 2 {
			t.Errorf("the shard still runs the code of %d", trusting)
		}
	})
}
