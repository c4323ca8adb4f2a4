package hub

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/internal/testenv"
)

// history is what one reader went through, over all its connections.
type history struct {
	start ID
	items []item
}

// item is a message, a gap that was said before what comes next, or a new connection that resumes.
type item struct {
	gap     bool
	resumed bool
	// Of the message; with a gap the place from which the reader goes on, "" if it has no name.
	id ID
}

// published is what there was to receive.
type published struct {
	count  int
	places map[ID]int // of each message, counted from one, and of the places between them
	exact  bool       // a gap may be said only where messages are missing
	// repeats: a new connection that begins with a gap may go on before the place of the last
	// one. Without replay another instance may not have seen that place yet, and begins with the
	// oldest message it has.
	repeats bool
	// lost are messages that the store has lost, by their place. Who never had them need not be
	// told; and a gap may lead back to before them, though not to what was had.
	lost map[int]bool
	// erased are messages that nobody need get any more.
	erased map[int]bool
}

// follows reports whether nothing is missing between two places.
func (p *published) follows(before, place int) bool {
	for n := before + 1; n < place; n++ {
		if !p.lost[n] && !p.erased[n] {
			return false
		}
	}
	return place > before
}

// check returns the first thing that is wrong with a history: not published, not in order, twice,
// lost without a word, a gap without a loss, or an end before the newest message.
func (p *published) check(h history) error {
	at, known := p.places[h.start]
	newest := 0 // of the messages received
	said, resumed := false, false
	for i, it := range h.items {
		if it.resumed {
			resumed = true
			continue
		}
		if it.gap && resumed && p.repeats {
			newest = 0
		}
		if resumed && p.lost != nil {
			newest = min(newest, at) // another instance may not have noticed yet
		}
		resumed = false
		if it.gap {
			if said = true; it.id != "" {
				place, ok := p.places[it.id]
				if !ok || place < newest && p.lost == nil {
					return fmt.Errorf("item %d: a gap leads to %q", i, it.id)
				}
				if p.exact && known && place == at {
					return fmt.Errorf("item %d: a gap is said before %q, and nothing is missing", i, it.id)
				}
				at, known, said = place, true, false
			}
			continue
		}
		place, ok := p.places[it.id]
		switch {
		case !ok:
			return fmt.Errorf("item %d: %q was never published", i, it.id)
		case place <= newest:
			return fmt.Errorf("item %d: %q came again, or late", i, it.id)
		case !said && (!known || !p.follows(at, place)):
			return fmt.Errorf("item %d: something before %q is lost and no gap was said", i, it.id)
		case said && p.exact && known && place == at+1:
			return fmt.Errorf("item %d: a gap is said before %q, and nothing is missing", i, it.id)
		}
		at, newest, known, said = place, place, true, false
	}
	if !said && !p.follows(at, p.count+1) {
		return fmt.Errorf("the end: message %d is the last of %d", at, p.count)
	}
	return nil
}

// TestHistoryChecker mutates good histories.
func TestHistoryChecker(t *testing.T) {
	p := &published{count: 20, places: make(map[ID]int), exact: true}
	for i := range 21 {
		p.places[ID(fmt.Sprint(i))] = i
	}
	good := history{start: "2"}
	for i := 3; i <= 20; i++ {
		if i == 9 || i == 10 {
			continue
		}
		if i == 11 {
			good.items = append(good.items, item{gap: true})
		}
		good.items = append(good.items, item{id: ID(fmt.Sprint(i))})
	}
	if err := p.check(good); err != nil {
		t.Fatal(err)
	}
	if err := p.check(history{start: "20"}); err != nil {
		t.Fatal(err)
	}
	for i := range good.items {
		mutate := func(name string, f func(items []item) []item) {
			t.Helper()
			if p.check(history{start: good.start, items: f(slices.Clone(good.items))}) == nil {
				t.Errorf("%s at %d is not found", name, i)
			}
		}
		if beside := func(j int) bool { return j >= 0 && j < len(good.items) && good.items[j].gap }; !beside(i-1) && !beside(i+1) {
			mutate("drop", func(items []item) []item { return slices.Delete(items, i, i+1) })
		}
		if i > 0 && !good.items[i].gap && !good.items[i-1].gap {
			mutate("swap", func(items []item) []item {
				items[i], items[i-1] = items[i-1], items[i]
				return items
			})
			mutate("false gap", func(items []item) []item { return slices.Insert(items, i, item{gap: true}) })
			mutate("false gap with a place", func(items []item) []item { return slices.Insert(items, i, item{gap: true, id: items[i-1].id}) })
		}
		if !good.items[i].gap {
			mutate("double", func(items []item) []item { return slices.Insert(items, i, items[i]) })
			mutate("forge", func(items []item) []item {
				items[i].id = "forged"
				return items
			})
		}
	}
	if p.check(history{start: "1", items: good.items}) == nil {
		t.Error("a wrong start is not found")
	}
	if p.check(history{start: "unheard-of", items: good.items}) == nil {
		t.Error("an unknown start without a gap is not found")
	}
}

// histories is for a long run without the race detector: go test ./hub -run TestHistories
// -histories 2500 takes a minute or two.
var histories = flag.Int("histories", 0, "how many histories of each kind TestHistories runs; 0: as its form has it")

// TestHistories lets publishers and readers live through random faults of backend and live path,
// and checks what each reader got.
func TestHistories(t *testing.T) {
	seeds := testenv.Sized(20, 300)
	if *histories > 0 {
		seeds = *histories
	}
	both := liveOnly
	both.Chained, both.Name = true, "live only, chained"
	loose := living
	loose.Chained, loose.Name = false, "living, unchained"
	for _, traits := range []Traits{chained, unchained, liveOnly, both, living, loose} {
		t.Run(traits.Name, func(t *testing.T) {
			for seed := range uint64(seeds) {
				synctest.Test(t, func(t *testing.T) {
					newWorld(t, traits, seed).run()
				})
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

const topic = "t"

// world is one random run.
type world struct {
	t       *testing.T
	traits  Traits
	random  *rand.Rand
	b       *fake
	hubs    []*Hub
	readers []*worldReader
	path    []ID // on its way to the followers
	arrived []ID
	places  map[ID]int
	count   int
	exact   bool
	lost    map[int]bool
	erased  map[int]bool
	window  int

	mu      sync.Mutex // guards faults, which Reads use too
	faults  *rand.Rand
	healthy bool
}

type worldReader struct {
	s     *Subscription
	marks bool
	limit int
	h     history
	at    ID // where it stands; "" for a place without a name
}

func newWorld(t *testing.T, traits Traits, seed uint64) *world {
	w := &world{
		t: t, traits: traits, b: newFake(traits), places: map[ID]int{"0": 0}, exact: traits.Replay, erased: make(map[int]bool),
		random: rand.New(rand.NewPCG(seed, 1)), faults: rand.New(rand.NewPCG(seed, 2)),
	}
	w.window = []int{3, 16, 1024}[w.random.IntN(3)]
	w.b.mute(topic, true)
	w.b.onRead = w.read
	if w.random.IntN(2) == 0 {
		w.b.pageMax = 1 + w.random.IntN(20)
	}
	for range 2 {
		w.hubs = append(w.hubs, open(t, w.b, Options{Window: w.window}))
	}
	for range 5 {
		r := &worldReader{marks: w.random.IntN(2) == 0, limit: 1 + w.random.IntN(40)}
		w.subscribe(r, Latest())
		r.h.start = r.s.Start()
		r.at = r.s.Start()
		w.readers = append(w.readers, r)
	}
	return w
}

func (w *world) read(ctx context.Context, _ fakeRead, page func() Page) (Page, error) {
	if w.isHealthy() {
		return page(), ctx.Err()
	}
	w.mu.Lock()
	fails, early, pause := w.faults.IntN(10) == 0, w.faults.IntN(2) == 0, time.Duration(w.faults.IntN(100))*time.Millisecond
	w.mu.Unlock()
	p := page()
	time.Sleep(pause)
	if fails {
		return Page{}, errors.New("down")
	}
	if early {
		return p, nil
	}
	return page(), nil
}

func (w *world) isHealthy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.healthy
}

func (w *world) subscribe(r *worldReader, at Position) {
	opts := []SubscribeOption{at}
	if r.marks {
		opts = append(opts, MarkGaps())
	}
	for {
		s, err := w.hubs[w.random.IntN(len(w.hubs))].Subscribe(context.Background(), topic, opts...)
		if err == nil {
			r.s = s
			return
		}
		if w.isHealthy() {
			w.t.Fatal(err)
		}
	}
}

func (w *world) run() {
	for range 400 {
		switch n := w.random.IntN(100); {
		case n < 30:
			w.publish(1 + w.random.IntN(4))
		case n < 50:
			w.arrive(1 + w.random.IntN(6))
		case n < 60:
			w.disturb()
		case n < 62 && w.traits.Replay:
			w.b.trim(topic, w.random.IntN(30))
		case n < 63 && w.traits.Replay && w.random.IntN(8) == 0:
			w.b.forget(topic)
			w.b.mu.Lock()
			w.places[w.b.topic(topic).base] = w.count
			w.b.mu.Unlock()
			w.exact = false // the backend says a gap even to those who missed nothing
		case n < 64 && w.traits.Replay && w.random.IntN(4) == 0:
			w.lose([]int{1, 1 + w.random.IntN(5), 1 + w.random.IntN(2*w.window)}[w.random.IntN(3)])
		case n < 66 && w.traits.Deletes:
			w.erase()
		case n < 67 && w.traits.Deletes && w.random.IntN(4) == 0:
			w.delete()
		case n < 85:
			w.step(w.readers[w.random.IntN(len(w.readers))])
		case n < 90:
			w.reconnect(w.readers[w.random.IntN(len(w.readers))])
		case n < 95:
			time.Sleep(time.Duration(w.random.IntN(2000)) * time.Millisecond)
		case n < 96:
			time.Sleep(time.Duration(w.random.IntN(70)) * time.Second)
		default:
			synctest.Wait()
		}
	}
	w.mu.Lock()
	w.healthy = true
	w.mu.Unlock()
	if !w.traits.Replay {
		// Only a later message can tell that some are missing.
		w.cut()
		w.publish(1)
		w.arrive(1)
	}
	time.Sleep(2*30*time.Second + 2*backoffMax)
	synctest.Wait()
	for _, r := range w.readers {
		for w.step(r) {
		}
		r.s.Close()
		w.check(r)
	}
}

// check looks at what a reader has received until now. In the end that has to be everything.
func (w *world) check(r *worldReader) {
	p := &published{count: w.count, places: w.places, exact: w.exact, repeats: !w.traits.Replay || w.lost != nil, lost: w.lost, erased: w.erased}
	if err := p.check(r.h); err != nil {
		near := r.h.items
		var i int
		if _, scan := fmt.Sscanf(err.Error(), "item %d", &i); scan == nil {
			near = near[:i+1]
		}
		w.t.Errorf("%v\nfrom %s: … %v", err, r.h.start, near[max(0, len(near)-20):])
	}
}

// erase erases one message, of those that are retained and not the newest.
func (w *world) erase() {
	w.b.mu.Lock()
	ms := slices.Clone(w.b.topic(topic).retained)
	w.b.mu.Unlock()
	if len(ms) < 2 {
		return
	}
	m := ms[w.random.IntN(len(ms)-1)]
	if m.Erases != "" || m.Deleted {
		return
	}
	w.exact = false // what was before it may be trimmed: then nobody can tell that nothing is missing
	w.erased[w.places[m.ID]] = true
	w.control(func() error { return w.b.Erase(context.Background(), topic, m.ID) })
}

func (w *world) delete() {
	w.exact = false // who missed nothing is told a gap too
	w.control(func() error { return w.b.Delete(context.Background(), topic) })
}

// control has the backend append an entry that is no message: it has the place of the message
// before.
func (w *world) control(do func() error) {
	if err := do(); err != nil {
		w.t.Fatal(err)
	}
	w.b.mu.Lock()
	id := w.b.topic(topic).last()
	w.b.mu.Unlock()
	w.places[id] = w.count
	w.path = append(w.path, id)
}

// lose has the store lose its newest messages.
func (w *world) lose(n int) {
	w.b.mu.Lock()
	t := w.b.topic(topic)
	before := t.retained
	w.b.mu.Unlock()
	if w.random.IntN(2) == 0 {
		w.b.loseBehind(topic, n, w.random.IntN(2*n))
	} else {
		w.b.lose(topic, n)
	}
	if w.lost == nil {
		w.lost = make(map[int]bool)
	}
	for _, m := range before[max(0, len(before)-n):] {
		if m.Erases == "" && !m.Deleted {
			w.lost[w.places[m.ID]] = true
		}
	}
	w.b.mu.Lock()
	if last := t.last(); w.places[last] == 0 {
		w.places[last] = w.count
	}
	w.b.mu.Unlock()
	w.exact = false
}

func (w *world) publish(n int) {
	for range n {
		w.count++
		id, err := w.hubs[w.random.IntN(len(w.hubs))].Publish(context.Background(), topic, Message{Data: fmt.Append(nil, w.count)})
		if err != nil {
			w.t.Fatal(err)
		}
		w.places[id] = w.count
		w.path = append(w.path, id)
	}
}

// arrive brings the oldest messages of the path to the followers.
func (w *world) arrive(n int) {
	n = min(n, len(w.path))
	w.b.deliver(topic, w.path[:n]...)
	w.arrived = append(w.arrived, w.path[:n]...)
	w.path = slices.Delete(w.path, 0, n)
}

// disturb does to the live path what its traits say the hub can bear.
func (w *world) disturb() {
	switch w.random.IntN(4) {
	case 0: // repeats: any where predecessors tell, else those that the window still knows
		if len(w.arrived) == 0 {
			return
		}
		id := w.arrived[max(0, len(w.arrived)-1-w.random.IntN(w.window))]
		if w.traits.Chained && w.traits.Replay || w.inWindows(id) {
			w.b.deliver(topic, id)
		}
	case 1:
		w.cut()
	case 2:
		if w.traits.Chained && len(w.path) > 0 {
			i := w.random.IntN(len(w.path))
			w.path = slices.Delete(w.path, i, i+1)
		}
	case 3:
		if w.traits.Chained && w.traits.Replay && len(w.path) > 1 {
			i := w.random.IntN(len(w.path) - 1)
			w.path[i], w.path[i+1] = w.path[i+1], w.path[i]
		}
	}
}

// inWindows reports whether each hub that follows the topic has a message in its window.
func (w *world) inWindows(id ID) bool {
	synctest.Wait()
	for _, h := range w.hubs {
		h.mu.Lock()
		f := h.topics[topic]
		h.mu.Unlock()
		if f == nil {
			continue
		}
		f.mu.RLock()
		known := f.state == live && f.log.Has(string(id))
		f.mu.RUnlock()
		if !known {
			return false
		}
	}
	return true
}

// cut breaks the live path, loses what is on it, and mends it.
func (w *world) cut() {
	w.b.broken(topic, errors.New("cut"))
	w.path = nil
	tail := ID("")
	if w.random.IntN(2) == 0 {
		w.b.mu.Lock()
		tail = w.b.topic(topic).last()
		w.b.mu.Unlock()
	}
	w.b.restored(topic, tail)
}

// step lets a reader take what is there. It reports whether there was something.
func (w *world) step(r *worldReader) bool {
	b := r.s.Poll(nil, r.limit, 1<<20)
	switch b.Status {
	case Waiting:
		return false
	case Behind:
		if err := r.s.Fetch(context.Background()); err != nil {
			w.t.Fatal(err)
		}
	case Ended:
		if !errors.Is(b.Err, ErrGap) {
			w.t.Fatalf("ended: %v", b.Err)
		}
		r.s.Close()
		r.h.items = append(r.h.items, item{gap: true})
		w.check(r)
		w.subscribe(r, Latest())
		r.at = r.s.Start()
		r.h = history{start: r.at}
	case Ready:
		if b.Gap {
			it := item{gap: true}
			if len(b.Entries) == 0 {
				it.id = b.At
			}
			r.h.items = append(r.h.items, it)
		}
		for _, e := range b.Entries {
			if want := fmt.Sprint(w.places[e.ID]); string(e.Data) != want || e.Type != "" {
				w.t.Errorf("message %s is %q, want %q", e.ID, e.Data, want)
			}
			r.h.items = append(r.h.items, item{id: e.ID})
		}
		// Entries that are no messages have the place of the message before; erased ones are
		// passed.
		if n := len(b.Entries); n > 0 && !w.traits.Deletes && b.At != b.Entries[n-1].ID {
			w.t.Errorf("the place is %q after %q", b.At, b.Entries[len(b.Entries)-1].ID)
		}
		r.at = b.At
	}
	return true
}

// reconnect drops a reader's connection, with whatever was on it, and resumes, on any hub, at the
// place the reader knows.
func (w *world) reconnect(r *worldReader) {
	if r.at == "" {
		return // has no place to resume at yet
	}
	r.s.Close()
	w.subscribe(r, After(r.at))
	r.h.items = append(r.h.items, item{resumed: true})
}
