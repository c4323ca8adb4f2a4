package ginsse_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/ginsse"
)

// bindRef returns the reference of one request to /7, whose handler has returned.
func bindRef(t testing.TB, load func(context.Context, int64) (*ticket, error)) (ref ginsse.Ref[*ticket]) {
	t.Helper()
	r := engine(t, ginsse.SSE[refParams]("/:ticket").Options(quiet).Models(ginsse.ModelOf(load)).Handle(func(c *refContext) seq {
		ref = c.Params.Ticket
		return events()
	}))
	if w := get(r, "/7"); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return ref
}

// TestRefShared holds that concurrent Gets of one request, by copies of the reference, share one
// load, and its failure too.
func TestRefShared(t *testing.T) {
	broken := errors.New("broken")
	for name, failure := range map[string]error{"success": nil, "failure": broken} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var loads atomic.Int64
				ref := bindRef(t, func(_ context.Context, id int64) (*ticket, error) {
					loads.Add(1)
					time.Sleep(time.Second)
					if failure != nil {
						return nil, failure
					}
					return &ticket{id}, nil
				})
				results := make([]*ticket, 20)
				var all sync.WaitGroup
				for i := range results {
					one := ref
					all.Go(func() {
						var err error
						if results[i], err = one.Get(t.Context()); err != failure {
							t.Errorf("error %v, want %v", err, failure)
						}
					})
				}
				all.Wait()
				for _, got := range results {
					if got != results[0] || (got == nil) != (failure != nil) {
						t.Errorf("got %v, another %v", got, results[0])
					}
				}
				if n := loads.Load(); n != 1 {
					t.Errorf("%d loads", n)
				}
			})
		})
	}
}

// TestRefFailureIsNotKept holds that the Get after a failure loads again, and that a success is
// kept, also for one whose context has ended.
func TestRefFailureIsNotKept(t *testing.T) {
	broken, loads := errors.New("broken"), 0
	ref := bindRef(t, func(_ context.Context, id int64) (*ticket, error) {
		if loads++; loads < 3 {
			return &ticket{id}, broken // which is nobody's
		}
		return &ticket{id}, nil
	})
	for n, want := range []error{broken, broken, nil, nil} {
		got, err := ref.Get(t.Context())
		if err != want || (err == nil) != (got != nil) {
			t.Errorf("Get %d: %v, %v; want %v", n, got, err, want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := ref.Get(ended); got == nil || err != nil {
		t.Errorf("with an ended context: %v, %v", got, err)
	}
	if loads != 3 {
		t.Errorf("%d loads", loads)
	}
}

// TestRefOwnContext holds that a Get ends with its own context and no other: who waits leaves
// alone, and when the one that loads leaves, or its load panics, another loads in its place.
func TestRefOwnContext(t *testing.T) {
	gone := errors.New("gone")
	for name, test := range map[string]struct {
		leaves string // who: the one that loads, or one that waits
		loads  int64
	}{
		"the first leaves": {"first", 2},
		"a waiting leaves": {"second", 1},
		"the first panics": {"panic", 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var loads atomic.Int64
				ref := bindRef(t, func(ctx context.Context, id int64) (*ticket, error) {
					n := loads.Add(1)
					select {
					case <-time.After(3 * time.Second):
						return &ticket{id}, nil
					case <-ctx.Done():
						return nil, context.Cause(ctx)
					case <-func() <-chan time.Time {
						if test.leaves == "panic" && n == 1 {
							return time.After(time.Second)
						}
						return nil
					}():
						panic("boom")
					}
				})
				begin := time.Now()
				leaving, leave := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() { leave(gone) })
				var all sync.WaitGroup
				ask := func(who string) {
					ctx := t.Context()
					if who == test.leaves {
						ctx = leaving
					}
					all.Go(func() {
						defer func() {
							if p := recover(); (p != nil) != (who == "first" && test.leaves == "panic") {
								t.Errorf("%s: panic %v", who, p)
							}
						}()
						got, err := ref.Get(ctx)
						switch took := time.Since(begin); {
						case who == test.leaves:
							if !errors.Is(err, gone) || got != nil || took != time.Second {
								t.Errorf("%s: %v, %v after %v", who, got, err, took)
							}
						case err != nil || got == nil || got.ID != 7:
							t.Errorf("%s: %v, %v after %v", who, got, err, took)
						}
					})
					synctest.Wait()
				}
				ask("first")
				ask("second")
				ask("third")
				all.Wait()
				if n := loads.Load(); n != test.loads {
					t.Errorf("%d loads, want %d", n, test.loads)
				}
			})
		})
	}
}

// TestRefEndedContext holds that a Get whose context has ended does not begin a load.
func TestRefEndedContext(t *testing.T) {
	ref := bindRef(t, func(context.Context, int64) (*ticket, error) {
		t.Error("it was loaded")
		return nil, nil
	})
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if got, err := ref.Get(ctx); got != nil || err != gone {
		t.Errorf("%v, %v", got, err)
	}
}

// TestRefUnbound holds that a Ref that no route has bound says so.
func TestRefUnbound(t *testing.T) {
	var ref ginsse.Ref[*ticket]
	if got, err := ref.Get(t.Context()); got != nil || err == nil || !strings.HasPrefix(err.Error(), "ginsse: ") || ref.Key() != "" {
		t.Errorf("%v, %v, key %q", got, err, ref.Key())
	}
}
