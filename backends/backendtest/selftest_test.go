package backendtest

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
)

func TestRulesAreThoseOfTheInterface(t *testing.T) {
	src, err := os.ReadFile("../../hub/backend.go")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, m := range regexp.MustCompile(`(?m)^//   - ([A-Z]\d+) `).FindAllSubmatch(src, -1) {
		want = append(want, string(m[1]))
	}
	for _, r := range rules {
		got = append(got, r.number())
	}
	if !slices.Equal(got, want) {
		t.Errorf("rules of the suite: %q, of hub.Backend: %q", got, want)
	}
	for _, r := range rules {
		if !slices.ContainsFunc(faults, func(f fault) bool { return f.rule == r.number() }) {
			t.Errorf("no fault is planted for rule %q", r.name)
		}
	}
}

// The lab without a fault passes, and has what every rule needs.
func TestNoFault(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := try(r.name, func(tb testing.TB) { r.run(tb, labConfig(func(*double) {})) })
				if f.Failed() || f.Skipped() {
					t.Errorf("failed: %v, skipped: %v: %s", f.Failed(), f.Skipped(), f.text())
				}
			})
		})
	}
}

func TestPlantedFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.rule+" "+f.name, func(t *testing.T) {
			t.Parallel()
			for _, r := range rules {
				synctest.Test(t, func(t *testing.T) {
					result := try(r.name, func(tb testing.TB) { r.run(tb, labConfig(f.plant)) })
					time.Sleep(time.Minute) // for goroutines that a fault holds up
					switch failed := result.Failed(); {
					case r.number() == f.rule && !failed:
						t.Errorf("rule %q did not find it", r.name)
					case r.number() == f.rule && !strings.Contains(result.text(), r.reason):
						t.Errorf("rule %q failed without its reason: %s", r.name, result.text())
					case r.number() != f.rule && failed && !slices.Contains(f.also, r.number()) && !slices.Contains(composed, r.number()):
						t.Errorf("rule %q, which has nothing to do with it, failed: %s", r.name, result.text())
					case r.number() == f.rule:
						t.Logf("found: %s", result.lines[len(result.lines)-2])
					}
				})
			}
		})
	}
}

// What a Config lacks is named in the skip.
func TestSkips(t *testing.T) {
	plain := Config{New: func(testing.TB) hub.Backend { return memory.New(memory.Options{}) }}
	poor := Config{New: func(testing.TB) hub.Backend { return &traits{Backend: memory.New(memory.Options{})} }}
	unread := Config{New: func(testing.TB) hub.Backend { return &claims{memory.New(memory.Options{}), hub.Traits{Durable: true}} }}
	lacking := plain
	lacking.Lacks = map[string]string{"F8": "it is not a chain"}
	for _, tc := range []struct {
		rule string
		c    Config
		want string
	}{
		{"F9", plain, "Config.Break is not set"},
		{"R3", plain, "Config.Trim is not set"},
		{"R1", poor, "Traits.Replay is false"},
		{"P4", poor, "Traits.Ordered is false"},
		{"F8", poor, "Traits.Chained is false"},
		{"F8", lacking, "it is not a chain"},
		{"P9", poor, "Traits.Atomic is false"},
		{"P10", poor, "Traits.Ends is false"},
		{"L2", poor, "Traits.Replay is false"},
		{"L6", plain, "Config.Retention is not set"},
		{"S1", plain, "Traits.Shared is false"},
		{"D1", plain, "Traits.Durable is false"},
		{"D1", unread, "Traits.Replay is false"},
	} {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.number() == tc.rule })
		f := try(rules[i].name, func(tb testing.TB) { rules[i].run(tb, tc.c) })
		if !f.Skipped() || f.Failed() || !strings.Contains(f.text(), tc.want) {
			t.Errorf("%s: skipped: %v, failed: %v: %s, want %q", tc.rule, f.Skipped(), f.Failed(), f.text(), tc.want)
		}
	}
}

// What a backend claims must be shown, or it fails.
func TestClaimsAreNotBelieved(t *testing.T) {
	replayed := hub.Traits{Replay: true, Ordered: true, Chained: true, Keys: hub.KeysStored}
	shared, durable := replayed, replayed
	shared.Shared, durable.Durable = true, true
	claiming := func(c hub.Traits) Config {
		return Config{New: func(testing.TB) hub.Backend { return &claims{memory.New(memory.Options{}), c} }}
	}
	truncating := claiming(durable)
	truncating.Reopen = func(t testing.TB, b hub.Backend) hub.Backend {
		_ = b.Close()
		return truncating.New(t)
	}
	lacking := claiming(shared)
	lacking.Lacks = map[string]string{"S1": "there is no second instance"}
	for _, tc := range []struct {
		rule string
		c    Config
		want string // "" when it passes
	}{
		{"D1", claiming(durable), "Config.Reopen is not set"},
		{"D1", truncating, "after a restart"},
		{"P1", claiming(durable), ""},
		{"S1", claiming(shared), "Config.Peer is not set"},
		{"P1", claiming(shared), "Config.Peer is not set"},
		{"P1", lacking, ""},
	} {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.number() == tc.rule })
		f := try(rules[i].name, func(tb testing.TB) { rules[i].run(tb, tc.c) })
		if f.Skipped() || f.Failed() != (tc.want != "") || !strings.Contains(f.text(), tc.want) {
			t.Errorf("%s: skipped: %v, failed: %v: %s, want %q", tc.rule, f.Skipped(), f.Failed(), f.text(), tc.want)
		}
	}
}

// claims is a backend in memory that claims more.
type claims struct {
	hub.Backend
	traits hub.Traits
}

func (c *claims) Traits() hub.Traits { return c.traits }

// traits declares nothing, and so nothing is expected of it but what holds for every backend.
type traits struct{ hub.Backend }

func (*traits) Traits() hub.Traits { return hub.Traits{Name: "poor", Keys: hub.KeysWindow} }

func TestUndeclaredIsNotAsked(t *testing.T) {
	Run(t, Config{
		New:     func(testing.TB) hub.Backend { return &unread{traits{memory.New(memory.Options{})}, t} },
		Timeout: time.Minute,
	})
}

type unread struct {
	traits
	t *testing.T
}

func (u *unread) Read(context.Context, string, hub.ID, int) (hub.Page, error) {
	u.t.Error("Read of a backend without Traits.Replay")
	return hub.Page{}, nil
}
