package faults

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/internal/testenv"
)

var (
	topologyFlag = flag.String("topology", "", "single, sentinels or cluster; all of them without it")
	seedsFlag    = flag.Int("seeds", 0, "how many seeds; 0: one short run with a single server")
	fromFlag     = flag.Uint64("from", 1, "the first seed")
	timeFlag     = flag.Duration("time", time.Minute, "how long a run lasts, besides its beginning and end")
	slackFlag    = flag.Int("slack", 1, "bounds of time are so many times as long")
)

func TestMain(m *testing.M) {
	redis.SetLogger(silence{})
	testenv.Main(m)
}

// TestSeeds lives through the faults of each seed, and checks what everybody went through.
func TestSeeds(t *testing.T) {
	testenv.Need(t, "redis")
	if !canFreeze {
		t.Skip("needs SIGSTOP, which this system does not have")
	}
	seeds, length, slack := *seedsFlag, *timeFlag, *slackFlag
	names := slices.Sorted(maps.Keys(topologies))
	switch {
	case seeds == 0:
		seeds, length, slack, names = 1, 4*time.Second, 10, []string{"single"}
	case *topologyFlag != "":
		if topologies[*topologyFlag] == nil {
			t.Fatalf("there is no topology %q, only %v", *topologyFlag, names)
		}
		names = []string{*topologyFlag}
	}
	for _, topology := range names {
		for i := range seeds {
			seed := *fromFlag + uint64(i)
			t.Run(fmt.Sprintf("%s/%d", topology, seed), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, topology, seed, length, slack)
				defer func() {
					if t.Failed() && !isClosed(w.enough) {
						t.Log(w.report(&history{}, nil)) // the run did not come to its end
					}
				}()
				h := w.run()
				t.Log(w.summary(h))
				if found := check(h); len(found) > 0 {
					t.Error(w.report(h, found))
				}
			})
		}
	}
}
