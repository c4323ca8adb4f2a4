package table

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var (
	cells  = flag.Bool("cells", false, "run the cells of the table")
	short  = flag.Bool("brief", false, "only those of the short form")
	step   = flag.Int("step", 7, "of the bytes of a message, each so many is cut at; 1 means all")
	update = flag.Bool("update", false, "write the table into docs/clients.md")
)

// TestTable runs each cell.
func TestTable(t *testing.T) {
	if !*cells {
		t.Skip("this takes minutes: run make test-clients")
	}
	open(t)
	for _, c := range clients {
		for _, sc := range scenarios {
			want := sc.expected(c)
			if *short && (!c.short || sc.long) || want.outcome == "" {
				continue
			}
			t.Run(c.name+"/"+sc.name, func(t *testing.T) {
				t.Parallel()
				o := sc.setup
				o.chunks = c.chunks
				s := newSite(t, o)
				s.client = c
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

// TestCellsFail: without the block at the beginning of streams the table would have other cells.
func TestCellsFail(t *testing.T) {
	if !*cells {
		t.Skip("it runs cells")
	}
	for _, c := range clients {
		if c.name != "npm eventsource 2" {
			continue
		}
		s := newSite(t, setup{bare: true})
		s.client = c
		if err := begin(s); err != nil {
			t.Fatal(err)
		}
		if got, _ := verdictOf(s.cutAndReturn(20)); got != corrupts && got != loses {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// TestJudge: what a client says that is not what was sent is noticed.
func TestJudge(t *testing.T) {
	event := func(i int) report { return report{Kind: "event", Type: "message", Data: fmt.Sprint(i)} }
	gap := report{Kind: "event", Type: "gap"}
	for _, test := range []struct {
		name    string
		reports []report
		want    outcome
	}{
		{"all", []report{event(0), event(1), event(2)}, fine},
		{"one is missing", []report{event(0), event(2)}, loses},
		{"one is missing, and that was said", []report{event(0), gap, event(2)}, fine},
		{"one comes twice", []report{event(0), event(0)}, repeats},
		{"one is cut", []report{event(0), {Kind: "event", Type: "message"}}, corrupts},
		{"another type", []report{event(0), {Kind: "event", Type: "moved", Data: "1"}}, corrupts},
		{"torn", []report{{Kind: "event", Type: "torn"}}, corrupts},
		{"an end", []report{event(0), {Kind: "end"}}, stops},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &site{t: t, changed: make(chan struct{}), events: make(map[string]int)}
			for i := range 3 {
				s.sent = append(s.sent, message{Type: "message", Data: fmt.Sprint(i)})
			}
			for _, r := range test.reports {
				s.take(r)
			}
			if got, _ := verdictOf(s.wait("all was got", 0, func() bool { return s.next == 3 })); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// expected returns what a client does in a scenario.
func (sc scenario) expected(c client) limit {
	if l, ok := c.limits[sc.name]; ok {
		return l
	}
	switch {
	case c.start == nil:
		return limit{note: c.missing}
	case sc.across && !c.page:
		return limit{note: elsewhere}
	case sc.name == "gap":
		return limit{outcome: told}
	}
	return limit{outcome: fine}
}

const elsewhere = "-"

// TestLimits holds that limits are of scenarios that there are, and have a recipe.
func TestLimits(t *testing.T) {
	names := make([]string, 0, len(scenarios))
	for _, sc := range scenarios {
		names = append(names, sc.name)
	}
	for _, c := range clients {
		for name, l := range c.limits {
			if !slices.Contains(names, name) {
				t.Errorf("%s: there is no scenario %q", c.name, name)
			}
			if l.note == "" {
				t.Errorf("%s, %s: it has no recipe", c.name, name)
			}
		}
	}
}

// TestDocsHaveTheTable holds that docs/clients.md has the table.
func TestDocsHaveTheTable(t *testing.T) {
	const begin, end = "<!-- table: make test-clients holds it to the clients -->\n", "<!-- end of the table -->\n"
	file := filepath.Join("..", "..", "..", "docs", "clients.md")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(content), "\r\n", "\n")
	before, rest, ok := strings.Cut(text, begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("docs/clients.md has no place for it, from %q to %q", begin, end)
	}
	table := render()
	if old == table {
		return
	}
	if !*update {
		t.Fatal("docs/clients.md has another table: go test ./clients/table -run TestDocs -update writes it")
	}
	if err := os.WriteFile(file, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// render writes the table, its notes and what its columns are.
func render() string {
	var b strings.Builder
	var notes []string
	b.WriteString("\n| |")
	for _, sc := range scenarios {
		fmt.Fprintf(&b, " %s |", sc.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(scenarios)) + "\n")
	for _, c := range clients {
		fmt.Fprintf(&b, "| %s |", c.name)
		for _, sc := range scenarios {
			l := sc.expected(c)
			switch l.note {
			case elsewhere:
				b.WriteString(" – |")
			case "":
				fmt.Fprintf(&b, " %s |", l.outcome)
			default:
				at := slices.Index(notes, l.note)
				if at < 0 {
					at = len(notes)
					notes = append(notes, l.note)
				}
				word := "own limit"
				if l.outcome == "" {
					word = "not run"
				}
				fmt.Fprintf(&b, " %s [%d] |", word, at+1)
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("\nThe scenarios:\n\n")
	for _, sc := range scenarios {
		fmt.Fprintf(&b, "- %s: %s.\n", sc.name, sc.says)
	}
	b.WriteString("\nThe clients' own limits, and what to do about them:\n\n")
	for i, note := range notes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, note)
	}
	b.WriteString("\n")
	return b.String()
}
