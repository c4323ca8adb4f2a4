package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// everywhere runs a test over each place that tickets may live in. Instances over one URL of Redis
// share them.
func everywhere(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("memory", func(t *testing.T) { f(t, "memory://") })
	overRedis(t, f)
}

// overRedis runs a test over an empty miniredis and an empty redis-server.
func overRedis(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("miniredis", func(t *testing.T) { f(t, "redis://"+miniredis.RunT(t).Addr()) })
	t.Run("redis-server", func(t *testing.T) { f(t, "redis://"+startRedis(t)) })
}

// startRedis starts a redis-server that ends with the test, and returns its address.
func startRedis(t *testing.T) string {
	t.Helper()
	return testenv.Redis(t).Addr
}

// until asks again and again, for what only asking tells.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	testenv.Eventually(t, what, func() error {
		if !f() {
			return errors.New("it is not so")
		}
		return nil
	})
}

// instance is what one process has.
type instance struct {
	store
	t       *testing.T
	backend hub.Backend
	hub     *hub.Hub
}

// dead returns an instance without a store.
func dead(t *testing.T, url string, o hub.Options) *instance {
	t.Helper()
	backend, err := backends.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(backend, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		_ = backend.Close()
	})
	return &instance{t: t, backend: backend, hub: h}
}

// open returns an instance whose store publishes.
func open(t *testing.T, url string) *instance {
	t.Helper()
	i := dead(t, url, hub.Options{})
	i.store = newStore(i.backend, i.hub)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := i.close(ctx); err != nil {
			t.Error(err)
		}
	})
	return i
}

// published returns the first n changes of a topic, as soon as they are there.
func (i *instance) published(topic string, n int) []change {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), time.Minute)
	defer cancel()
	sub, err := hub.NewTopic[change](i.hub, topic).Subscribe(ctx, hub.Earliest())
	if err != nil {
		i.t.Fatal(err)
	}
	defer sub.Close()
	var all []change
	for e, err := range sub.All() {
		if err := errors.Join(err, e.Err); err != nil {
			i.t.Fatal(err)
		}
		e.Value.Kind = e.Type
		if all = append(all, e.Value); len(all) == n {
			break
		}
	}
	return all
}

func create(t *testing.T, s store, subject string) (thread, error) {
	t.Helper()
	made, err := newThread(subject)
	if err != nil {
		t.Fatal(err)
	}
	return made, s.create(t.Context(), made)
}

func mustCreate(t *testing.T, s store, subject string) thread {
	t.Helper()
	made, err := create(t, s, subject)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// edited returns a function that makes an edit.
func edited(t *testing.T, s store, id string) func(edit, error) (thread, error) {
	return func(e edit, err error) (thread, error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s.change(t.Context(), id, e)
	}
}

// counted returns what the dashboard shows.
func counted(t *testing.T, s store) (map[status]int, error) {
	t.Helper()
	all, err := s.list(t.Context())
	return count(all), err
}

func TestStore(t *testing.T) {
	everywhere(t, func(t *testing.T, url string) {
		i := open(t, url)
		if all, err := i.list(t.Context()); err != nil || all == nil || len(all) != 0 {
			t.Errorf("the empty list is %v, %v", all, err)
		}
		made := mustCreate(t, i, "first")
		second := mustCreate(t, i, "second")
		change := func(made func(string) (edit, error), words string) func() (thread, error) {
			return func() (thread, error) { return edited(t, i, second.ID)(made(words)) }
		}
		steps := []struct {
			name    string
			do      func() (thread, error)
			err     error
			version int
			kind    string // of the change to be published, "" for none
		}{
			{"comment", change(commenting, "<one>\n\u2028."), nil, 2, kindCommented},
			{"assign", change(assigning, "Ada"), nil, 3, kindAssigned},
			{"assign to the same", change(assigning, "Ada"), nil, 3, ""},
			{"comment again", change(commenting, "two"), nil, 4, kindCommented},
			{"close", change(moving, "closed"), nil, 5, kindMoved},
			{"close again", change(moving, "closed"), nil, 5, ""},
			{"comment on a closed one", change(commenting, "late"), errClosed, 5, ""},
			{"assign a closed one", change(assigning, "Bob"), errClosed, 5, ""},
			{"assign a closed one to the same", change(assigning, "Ada"), nil, 5, ""},
			{"open again", change(moving, "pending"), nil, 6, kindMoved},
			{"assign to nobody", change(assigning, ""), nil, 7, kindAssigned},
			{"no such ticket", func() (thread, error) { return edited(t, i, "nix")(commenting("a")) }, errNotFound, 7, ""},
		}
		kinds := []string{kindCreated, kindCreated}
		for _, step := range steps {
			got, err := step.do()
			if !errors.Is(err, step.err) || (err == nil && got.Version != step.version) {
				t.Errorf("%s: version %d, %v; want %d, %v", step.name, got.Version, err, step.version, step.err)
			}
			stored, _ := i.get(t.Context(), second.ID)
			if stored.Version != step.version || err == nil && !reflect.DeepEqual(stored, got) {
				t.Errorf("%s: returned %+v, stored %+v", step.name, got, stored)
			}
			if step.kind != "" {
				kinds = append(kinds, step.kind)
			}
		}
		final, err := i.get(t.Context(), second.ID)
		if err != nil || final.ticket.Comments != 2 || len(final.Comments) != 2 || final.Comments[0].Text != "<one>\n\u2028." || final.Comments[1].ID != 2 || final.Created.IsZero() {
			t.Errorf("got %+v, %v", final, err)
		}
		if got, err := i.get(t.Context(), made.ID); err != nil || !reflect.DeepEqual(got, made) {
			t.Errorf("the other ticket is %+v, %v; want it as it was made: %+v", got, err, made)
		}
		if _, err := i.get(t.Context(), "nix"); !errors.Is(err, errNotFound) {
			t.Errorf("no such ticket: %v", err)
		}
		if all, err := i.list(t.Context()); err != nil || !slices.Equal(all, []ticket{made.ticket, final.ticket}) {
			t.Errorf("list %+v, %v", all, err)
		}
		counts, err := counted(t, i)
		if want := map[status]int{statusOpen: 1, statusPending: 1, statusClosed: 0}; err != nil || !reflect.DeepEqual(counts, want) {
			t.Errorf("counts %v, %v; want %v", counts, err, want)
		}
		changes := i.published(everything, len(kinds))
		for n, c := range changes {
			if c.Kind != kinds[n] {
				t.Errorf("change %d is %s, want %s", n, c.Kind, kinds[n])
			}
		}
		if last := changes[len(changes)-1]; last.Ticket != final.ticket || last.Comment != nil {
			t.Errorf("the last change is %+v, want %+v", last, final.ticket)
		}
		if c := i.published(second.changeTopics()[0], 2)[1].Comment; c == nil || c.Text != "<one>\n\u2028." {
			t.Errorf("the comment is published as %+v", c)
		}
	})
}

func TestEditsAreChecked(t *testing.T) {
	for name, f := range map[string]func() error{
		"no subject":            func() error { _, err := newThread(" "); return err },
		"long subject":          func() error { _, err := newThread(strings.Repeat("a", maxSubject+1)); return err },
		"no comment":            func() error { _, err := commenting(""); return err },
		"long comment":          func() error { _, err := commenting(strings.Repeat("a", maxText+1)); return err },
		"long assignee":         func() error { _, err := assigning(strings.Repeat("a", maxAssignee+1)); return err },
		"assignee of two lines": func() error { _, err := assigning("a\nb"); return err },
		"unknown status":        func() error { _, err := moving("lost"); return err },
	} {
		if err := f(); !errors.Is(err, errInvalid) {
			t.Errorf("%s: %v, want errInvalid", name, err)
		}
	}
}

// TestStoreIsBounded: what waits is published in between, so that only the limit of tickets and
// comments refuses.
func TestStoreIsBounded(t *testing.T) {
	testenv.Long(t)
	everywhere(t, func(t *testing.T, url string) {
		i := open(t, url)
		made := func(err error) bool {
			if err != nil && !errors.Is(err, errBusy) {
				t.Fatal(err)
			}
			return err == nil
		}
		var id string
		for range maxTickets {
			until(t, "create", func() bool {
				created, err := create(t, i, "a")
				id = created.ID
				return made(err)
			})
		}
		if _, err := create(t, i, "a"); !errors.Is(err, errFull) {
			t.Errorf("ticket %d: %v, want errFull", maxTickets+1, err)
		}
		for range maxComments {
			until(t, "comment", func() bool {
				_, err := edited(t, i, id)(commenting("a"))
				return made(err)
			})
		}
		if _, err := edited(t, i, id)(commenting("a")); !errors.Is(err, errFull) {
			t.Errorf("comment %d: %v, want errFull", maxComments+1, err)
		}
		counts, err := counted(t, i)
		if err != nil || counts[statusOpen] != maxTickets || counts[statusPending] != 0 || counts[statusClosed] != 0 {
			t.Errorf("counts %v, %v", counts, err)
		}
		if all, err := i.list(t.Context()); err != nil || len(all) != maxTickets || all[maxTickets-1].ID != id {
			t.Errorf("%d tickets, %v", len(all), err)
		}
	})
}

// TestReadersShareNothing: what the store was given, or has given away, does not change what it
// has.
func TestReadersShareNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, url string) {
		i := open(t, url)
		made := mustCreate(t, i, "a")
		for n := range 3 { // so that there is room behind the last one
			_, _ = edited(t, i, made.ID)(commenting(fmt.Sprint(n)))
		}
		first, _ := edited(t, i, made.ID)(commenting("one"))
		first.Comments[3].Text = "changed by the reader"
		got, _ := i.get(t.Context(), made.ID)
		if got.Comments[3].Text != "one" {
			t.Errorf("the store has %q", got.Comments[3].Text)
		}
		got.Comments[3].Text = "changed by another reader"
		if got, _ := i.get(t.Context(), made.ID); got.Comments[3].Text != "one" {
			t.Errorf("the store has %q", got.Comments[3].Text)
		}
	})
}
