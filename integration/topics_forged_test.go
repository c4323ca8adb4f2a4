package integration

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
)

// forge makes cursors that no server gave for this route: of other topics, altered, or cut off.
func forge(rng *rand.Rand, own, foreign, mixed []string) string {
	pick := func(of []string) string { return of[rng.IntN(len(of))] }
	encoding := base64.RawURLEncoding
	switch rng.IntN(6) {
	case 0:
		return pick(foreign)
	case 1:
		return pick(mixed)
	case 2: // one character is another one
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		cursor := []byte(pick(own))
		cursor[3+rng.IntN(len(cursor)-3)] = alphabet[rng.IntN(len(alphabet))]
		return string(cursor)
	case 3: // cut off
		cursor := pick(own)
		return cursor[:1+rng.IntN(len(cursor)-1)]
	case 4: // the end of one behind the beginning of another
		a, b := pick(own), pick(foreign)
		cut := 3 + rng.IntN(min(len(a), len(b))-3)
		return a[:cut] + b[cut:]
	default: // some bytes are others
		raw, err := encoding.DecodeString(strings.TrimPrefix(pick(own), "v1."))
		if err != nil {
			return pick(own)
		}
		for range 1 + rng.IntN(4) {
			raw[rng.IntN(len(raw))] = byte(rng.Uint32())
		}
		return "v1." + encoding.EncodeToString(raw)
	}
}

// TestForgedCursors: whatever a cursor says, only the topics that the route names are delivered,
// and the stream goes on.
func TestForgedCursors(t *testing.T) {
	own := nine()
	var secret []string
	for i := range 9 {
		secret = append(secret, fmt.Sprintf("secret/%d", i))
	}
	s := startSingle(t)
	routes := feeds{
		"/nine": own, "/one": own[:1],
		// Only to get cursors from:
		"/secret": secret, "/mixed": append(slices.Clone(own[:4]), secret[:5]...), "/hidden": secret[:1],
	}
	instances := [2]*instance{startInstance(t, s, routes), startInstance(t, s, routes)}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	collect := func(path string, events int) (cursors []string) {
		t.Helper()
		w := &wanderer{got: make(logs)}
		seen := make(chan struct{})
		var reader sync.WaitGroup
		reader.Go(func() {
			err := w.read(instances[0], path, events+1, func() bool { return false }, func() {
				if cursors = append(cursors, w.cursor); len(cursors) == 1 {
					close(seen)
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
		<-seen
		for n := range events {
			topics := routes[path]
			topic := topics[n%len(topics)]
			send(t, instances[n%2].hub, topic, topic, n)
		}
		reader.Wait()
		return cursors
	}
	mine := collect("/nine", 30)
	foreign := append(collect("/secret", 30), collect("/hidden", 5)...)
	mixed := collect("/mixed", 30)

	rounds, atOnce := testenv.Sized(2, 10), 40
	gaps, tried := 0, 0
	for round := range rounds {
		type forged struct {
			path, cursor string
			*stream
		}
		var streams []forged
		for i := range atOnce {
			f := forged{path: "/nine", cursor: forge(rng, mine, foreign, mixed)}
			if i%5 == 0 {
				f.path = "/one"
			}
			var err error
			if f.stream, err = open(instances[rng.IntN(2)].server, f.path, f.cursor, 0); err != nil {
				t.Fatalf("cursor %q: %v", f.cursor, err)
			}
			defer f.drop()
			streams = append(streams, f)
		}
		// All are followed by now. Their streams end, for this test, with the mark that each topic
		// gets.
		mark := fmt.Sprint("mark ", round)
		for i, topic := range slices.Concat(secret, own) {
			if _, err := instances[i%2].hub.Publish(t.Context(), topic, hub.Message{Data: []byte(topic + " " + mark)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range streams {
			tried++
			gap, err := readMarks(f.Decoder, routes[f.path], mark)
			if err != nil {
				t.Errorf("%s with the cursor %q: %v", f.path, f.cursor, err)
			}
			if gap {
				gaps++
			}
		}
	}
	t.Logf("%d forged cursors, %d of them a gap", tried, gaps)
}

// readMarks reads until each topic's mark has come, and reports whether there was a gap.
func readMarks(d *sse.Decoder, topics []string, mark string) (gap bool, err error) {
	marks := make(map[string]bool)
	for len(marks) < len(topics) {
		e, err := d.Decode()
		switch {
		case errors.Is(err, io.EOF):
			return gap, errors.New("the stream ended")
		case err != nil:
			return gap, err
		case e.Type == "gap":
			gap = true
			continue
		case e.Type != "":
			continue
		}
		topic, rest, _ := strings.Cut(e.Text(), " ")
		if !slices.Contains(topics, topic) {
			return gap, fmt.Errorf("a message of %s, which the route does not name", topic)
		}
		if rest == mark {
			if marks[topic] {
				return gap, fmt.Errorf("the message %q twice", e.Text())
			}
			marks[topic] = true
		}
	}
	return gap, nil
}
