package table

import (
	"flag"
	"testing"
)

var (
	cells = flag.Bool("cells", false, "run the cells of the table")
	short = flag.Bool("brief", false, "only those of the short form")
	step  = flag.Int("step", 7, "of the bytes of a message, each so many is cut at; 1 means all")
)

// TestTable runs each cell.
func TestTable(t *testing.T) {
	if !*cells {
		t.Skip("this takes minutes: run make test-clients")
	}
	open(t)
	for _, c := range clients {
		for _, sc := range scenarios {
			if *short && (!c.short || sc.long) || sc.nowhere && !c.page {
				continue
			}
			t.Run(c.name+"/"+sc.name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, sc.setup)
				s.client = c
				want := sc.expected(c)
				err := sc.run(s)
				got, known := verdictOf(err)
				if !known {
					t.Fatal(err)
				}
				if got != want.outcome {
					t.Errorf("%v, want %q", err, want.outcome)
				}
			})
		}
	}
}

// expected returns what a client does in a scenario.
func (sc scenario) expected(c client) limit {
	if l, ok := c.limits[sc.name]; ok {
		return l
	}
	if sc.name == "gap" {
		return limit{outcome: told}
	}
	return limit{outcome: fine}
}
