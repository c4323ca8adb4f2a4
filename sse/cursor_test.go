package sse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

func TestCursorFile(t *testing.T) {
	dir := t.TempDir()
	f := CursorFile(filepath.Join(dir, "cursor"))
	ctx := t.Context()
	if id, err := f.Load(ctx); id != "" || err != nil {
		t.Errorf("no file: %q, %v", id, err)
	}
	for _, id := range []string{"1", "", "ünïcode \x01", strings.Repeat("x", 100_000), "2"} {
		if err := f.Save(ctx, id); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Load(ctx); got != id || err != nil {
			t.Errorf("got %.20q, %v; want %.20q", got, err, id)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("files %v, %v", files, err)
	}
	for _, broken := range []string{"", "1", "1\n2\n", "1\r\n", "a\x00\n"} {
		if err := os.WriteFile(string(f), []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := f.Load(ctx); err == nil {
			t.Errorf("%q is taken for %q", broken, id)
		}
	}
	if err := CursorFile(filepath.Join(dir, "absent", "cursor")).Save(ctx, "1"); err == nil {
		t.Error("a folder that does not exist is one")
	}
	// A save that fails at its end leaves what was there, and nothing beside it.
	taken := CursorFile(filepath.Join(dir, "folder"))
	if err := os.MkdirAll(filepath.Join(string(taken), "within"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := taken.Save(ctx, "1"); err == nil {
		t.Error("a folder was replaced")
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("files %v, %v", files, err)
	}
}

// memoryStore is a store that notes what is saved, and fails when it is told to.
type memoryStore struct {
	id     string
	saved  []string
	broken error
}

func (m *memoryStore) Load(context.Context) (string, error) { return m.id, m.broken }

func (m *memoryStore) Save(ctx context.Context, id string) error {
	if m.broken != nil {
		return m.broken
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.id = id
	m.saved = append(m.saved, id)
	return nil
}

const three = "id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: c\n\n"

func TestClientCursor(t *testing.T) {
	for _, test := range []struct {
		name    string
		store   memoryStore
		change  func(*Client)
		answers []answer
		leave   string // data of the event at which the loop is left
		ids     string
		saved   string
	}{
		{name: "nothing", answers: []answer{{body: "data: a\n\n"}}, ids: ",", saved: ""},
		{name: "once for what was read at once", answers: []answer{{body: three}}, ids: ",3", saved: "3"},
		{name: "resumes", store: memoryStore{id: "0"}, answers: []answer{{}, {body: three}}, ids: "0,0,3", saved: "3"},
		{name: "an id of its own counts", store: memoryStore{id: "0"}, change: func(c *Client) { c.LastEventID = "7" }, ids: "7", saved: ""},
		{name: "left at the first", store: memoryStore{id: "0"}, answers: []answer{{body: three}}, leave: "a", ids: "0", saved: ""},
		{name: "left at a later one", answers: []answer{{body: three}}, leave: "c", ids: "", saved: "2"},
		{name: "reset", answers: []answer{{body: "id: 1\ndata: a\n\n"}, {body: "id\ndata: b\n\n"}}, ids: ",1,", saved: "1,"},
		{name: "an id that no header can carry", answers: []answer{{body: "id: 1\ndata: a\n\nid: \x01\ndata: b\n\n"}}, ids: ",1", saved: "1"},
		{name: "not in full", answers: []answer{{body: three + "id: 4\ndata: d\n", end: errors.New("cut")}}, ids: ",3", saved: "3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, store := &script{answers: test.answers}, test.store
				c := s.client()
				c.Cursor = &store
				if test.change != nil {
					test.change(c)
				}
				for e, err := range c.Events(t.Context()) {
					if err != nil {
						t.Fatal(err)
					}
					if e.Text() == test.leave {
						break
					}
				}
				if got := strings.Join(s.ids, ","); got != test.ids {
					t.Errorf("ids %q, want %q", got, test.ids)
				}
				if got := strings.Join(store.saved, ","); got != test.saved {
					t.Errorf("saved %q, want %q", got, test.saved)
				}
			})
		})
	}
}

// TestClientCursorAtTheEnd: the end of the context comes before nothing that was handled.
func TestClientCursorAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, store := &script{answers: []answer{{body: three, end: errHang}}}, &memoryStore{}
		c := s.client()
		c.Cursor = store
		n := 0
		for _, err := range c.Events(ctx) {
			if n++; err == nil {
				cancel()
			}
		}
		if n != 4 || store.id != "3" {
			t.Errorf("%d events and errors, saved %q", n, store.id)
		}
	})
}

func TestClientCursorFails(t *testing.T) {
	full := errors.New("disk full")
	synctest.Test(t, func(t *testing.T) {
		s, store := &script{answers: []answer{{body: three, end: errHang}, {body: "id: 4\ndata: d\n\n"}}}, &memoryStore{broken: full}
		c := s.client()
		c.Cursor = store
		stream := c.Stream(t.Context())
		var got []string
		for range 3 {
			for e, err := range stream.All() {
				switch {
				case errors.Is(err, full) && isSSE(err):
					got = append(got, "failed")
				case err != nil:
					t.Fatal(err)
				default:
					got = append(got, e.ID)
				}
				if e.ID == "3" {
					store.broken = full
				}
			}
			store.broken = nil
		}
		if got := strings.Join(got, " "); got != "failed 1 2 3 failed 4" || store.id != "4" {
			t.Errorf("%s, saved %q", got, store.id)
		}
		if ids := strings.Join(s.ids, ","); ids != ",3,4" {
			t.Errorf("ids %q", ids)
		}
	})
}

// TestClientOverRestarts: processes that follow one after the other, each for a few events, get
// each event once when they end in order.
func TestClientOverRestarts(t *testing.T) {
	const total = 50
	file := CursorFile(filepath.Join(t.TempDir(), "cursor"))
	synctest.Test(t, func(t *testing.T) {
		var got []string
		for process := 0; len(got) < total; process++ {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := &script{}
			c := s.client()
			c.Cursor = file
			last, err := file.Load(ctx)
			if err != nil {
				t.Fatal(err)
			}
			from := 0
			if last != "" {
				if _, err := fmt.Sscan(last, &from); err != nil {
					t.Fatal(err)
				}
			}
			body := ""
			for n := from + 1; n <= min(from+process%4, total); n++ {
				body += fmt.Sprintf("id: %d\ndata: %d\n\n", n, n)
			}
			s.answers = []answer{{body: body, end: errHang}}
			go func() {
				synctest.Wait()
				cancel()
			}()
			for e, err := range c.Events(ctx) {
				if err == nil {
					got = append(got, e.Text())
				}
			}
			if s.ids[0] != last {
				t.Errorf("process %d states %q, want %q", process, s.ids[0], last)
			}
		}
		for i, text := range got {
			if text != fmt.Sprint(i+1) {
				t.Fatalf("event %d is %s", i+1, text)
			}
		}
	})
}
