package filelog

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/headrace/headrace/hub"
)

func publish(t *testing.T, b *Backend, texts ...string) (ids []hub.ID) {
	t.Helper()
	for _, text := range texts {
		id, err := b.Publish(t.Context(), "t", hub.Message{Data: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func read(t *testing.T, b *Backend, after hub.ID) (texts []string, gap bool) {
	t.Helper()
	p, err := b.Read(t.Context(), "t", after, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range p.Messages {
		texts = append(texts, string(m.Data))
	}
	return texts, p.Gap
}

// crash closes the backend, changes the file of its topic, and opens the directory again.
func crash(t *testing.T, b *Backend, change func(text []byte) []byte) *Backend {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(b.dir, "*.log"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err == nil {
		err = os.WriteFile(files[0], change(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return reopen(t, b.dir)
}

// TestTornLine cuts the last message off wherever that can be: what is left of it is not there, and
// what is published next is.
func TestTornLine(t *testing.T) {
	for cut := 1; ; cut++ {
		b := reopen(t, t.TempDir())
		ids := publish(t, b, "a", "b")
		whole := false
		b = crash(t, b, func(text []byte) []byte {
			line := len(text) - 1 - bytes.LastIndexByte(text[:len(text)-1], '\n')
			whole = cut >= line // lines differ in length: a time ends in as few digits as it needs
			return text[:len(text)-min(cut, line)]
		})
		publish(t, b, "c")
		if got, gap := read(t, b, ids[0]); gap || !slices.Equal(got, []string{"c"}) {
			t.Fatalf("%d bytes cut: %q, gap: %v", cut, got, gap)
		}
		if got, gap := read(t, b, ids[1]); !gap || !slices.Equal(got, []string{"a", "c"}) {
			t.Fatalf("%d bytes cut: after the lost message: %q, gap: %v", cut, got, gap)
		}
		b = crash(t, b, slices.Clone[[]byte])
		if got, _ := read(t, b, ""); !slices.Equal(got, []string{"a", "c"}) {
			t.Fatalf("%d bytes cut, opened once more: %q", cut, got)
		}
		if whole {
			break
		}
	}
}

func TestTornBatch(t *testing.T) {
	b := reopen(t, t.TempDir())
	publish(t, b, "a")
	_, err := b.PublishAll(t.Context(), "t", []hub.Message{{Data: []byte("1")}, {Data: []byte("2")}, {Data: []byte("3")}})
	if err != nil {
		t.Fatal(err)
	}
	b = crash(t, b, func(text []byte) []byte { return text[:bytes.LastIndexByte(text[:len(text)-1], '\n')+1] })
	if got, _ := read(t, b, ""); !slices.Equal(got, []string{"a"}) {
		t.Errorf("%q, want nothing of a batch without its last message", got)
	}
}

// TestNoIDTwice loses messages as a loss of power does: those that come instead have other IDs.
func TestNoIDTwice(t *testing.T) {
	b := reopen(t, t.TempDir())
	given := publish(t, b, "a", "b", "c")
	b = crash(t, b, func(text []byte) []byte { return text[:bytes.LastIndex(text, []byte(`{"data":"Yg==`))] })
	given = append(given, publish(t, b, "x", "y")...)
	slices.Sort(given)
	if len(slices.Compact(given)) != 5 {
		t.Errorf("an ID was given twice: %q", given)
	}
}

func TestDamage(t *testing.T) {
	b := reopen(t, t.TempDir())
	publish(t, b, "a", "b")
	b = crash(t, b, func(text []byte) []byte { return bytes.Replace(text, []byte(`"data":"YQ`), []byte(`"data":YQ"`), 1) })
	_, err := b.Publish(t.Context(), "t", hub.Message{})
	if err == nil || !errors.Is(err, hub.ErrRejected) {
		t.Errorf("Publish to a file that is damaged: %v", err)
	}
	if _, err := b.Read(t.Context(), "t", "", 1); err == nil {
		t.Error("a file that is damaged is read")
	}
}

func TestFailedWrite(t *testing.T) {
	b := reopen(t, t.TempDir())
	publish(t, b, "a")
	b.topics["t"].file.Close() // so that nothing can be written, nor cut off
	if _, err := b.Publish(t.Context(), "t", hub.Message{}); !errors.Is(err, hub.ErrUnknown) || errors.Is(err, hub.ErrRejected) {
		t.Errorf("Publish: %v, want an unknown outcome", err)
	}
	if _, err := b.Publish(t.Context(), "t", hub.Message{}); !errors.Is(err, hub.ErrRejected) {
		t.Errorf("the next Publish: %v, want ErrRejected", err)
	}
}
