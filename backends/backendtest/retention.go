package backendtest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
)

// loaders is how many publishers a test of retention has.
const loaders = 4

func retentionByPrefix(s *suite) {
	s.needReplay()
	r := s.c.Retention
	if r == (hub.Retention{}) {
		s.Skip("Config.Retention is not set")
	}
	if r.Prefix == "" {
		s.Fatal("Config.Retention has no Prefix")
	}
	if r.Messages > 0 {
		countRetained(s, r)
	}
	if r.Bytes > 0 {
		bytesRetained(s, r)
	}
	if r.Age > 0 {
		ageRetained(s, r)
	}
}

// within ends the test unless what is retained is within a tenth of the bound. Of what was
// published since began, a slow machine may have been so long about it that some is too old by now.
func within(s *suite, r hub.Retention, began time.Time, what string, got, bound int) {
	s.Helper()
	old := r.Age > 0 && time.Since(began) > r.Age/2
	if got < bound-bound/10 && !old || got > bound+bound/10 {
		s.Fatalf("%d %s are retained under load, the bound is %d", got, what, bound)
	}
}

// load publishes count messages of a size from several publishers at once.
func load(s *suite, topic string, count, size int) {
	s.Helper()
	var wg sync.WaitGroup
	var errs [loaders]error
	for g := range loaders {
		wg.Go(func() {
			for n := g; n < count && errs[g] == nil; n += loaders {
				_, errs[g] = s.instance(n).Publish(s.ctx, topic, hub.Message{Data: bytes.Repeat([]byte("x"), size)})
			}
		})
	}
	s.bounded("a run of publishers", wg.Wait)
	for _, err := range errs {
		if err != nil {
			s.Fatalf("Publish: %v", err)
		}
	}
}

func countRetained(s *suite, r hub.Retention) {
	s.Helper()
	topic, began := r.Prefix+rand.Text(), time.Now()
	load(s, topic, r.Messages*3/2, 16)
	for range 3 {
		load(s, topic, r.Messages/3+1, 16)
		ms, _ := s.readAll(s.b, topic, "")
		within(s, r, began, "messages", len(ms), r.Messages)
	}
}

func bytesRetained(s *suite, r hub.Retention) {
	s.Helper()
	topic, began := r.Prefix+rand.Text(), time.Now()
	size := int(r.Bytes) / 50
	if r.Messages > 0 {
		size = max(size, 2*int(r.Bytes)/r.Messages) // so that the count is no bound
	}
	count := int(r.Bytes) / size
	load(s, topic, count*3/2, size)
	for range 3 {
		load(s, topic, count/3+1, size)
		ms, _ := s.readAll(s.b, topic, "")
		bytes := 0
		for _, m := range ms {
			bytes += len(m.Data)
		}
		within(s, r, began, "bytes", bytes, int(r.Bytes))
	}
}

// aged is a message with the time before and after its Publish.
type aged struct {
	id         hub.ID
	began, had time.Time
}

// ageRetained publishes for more than an age, evenly, and looks at what is retained twice. It
// compares with times that it took itself: a machine that stalls fails nothing.
func ageRetained(s *suite, r hub.Retention) {
	s.Helper()
	topic := r.Prefix + rand.Text()
	each := 100 // messages of a publisher in an age
	if r.Messages > 0 {
		each = min(each, r.Messages/loaders/2)
	}
	var all [loaders][]aged
	for range 2 {
		var wg sync.WaitGroup
		var errs [loaders]error
		var last [loaders]time.Time
		until := time.Now().Add(r.Age * 13 / 10)
		for g := range loaders {
			wg.Go(func() {
				tick := time.NewTicker(r.Age / time.Duration(each))
				defer tick.Stop()
				for n := g; time.Now().Before(until) && errs[g] == nil; n++ {
					a := aged{began: time.Now()}
					a.id, errs[g] = s.instance(n).Publish(s.ctx, topic, hub.Message{Data: fmt.Append(nil, n)})
					a.had, last[g] = time.Now(), a.began
					all[g] = append(all[g], a)
					<-tick.C
				}
			})
		}
		wg.Wait()
		newest := last[0]
		for g, err := range errs {
			if err != nil {
				s.Fatalf("Publish: %v", err)
			}
			if last[g].After(newest) {
				newest = last[g]
			}
		}
		ms, _ := s.readAll(s.b, topic, "")
		now := time.Now()
		retained := make(map[hub.ID]bool, len(ms))
		for _, m := range ms {
			retained[m.ID] = true
		}
		for _, one := range all {
			for _, a := range one {
				switch {
				case !retained[a.id] && now.Sub(a.began) < r.Age*9/10:
					s.Fatalf("a message is removed after %v, the bound is %v", now.Sub(a.began), r.Age)
				case retained[a.id] && newest.Sub(a.had) > r.Age*11/10:
					s.Fatalf("a message is retained after %v under load, the bound is %v", newest.Sub(a.had), r.Age)
				}
			}
		}
	}
}
