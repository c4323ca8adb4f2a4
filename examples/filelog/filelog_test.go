package filelog

import (
	"testing"

	"github.com/headrace/headrace/backends/backendtest"
	"github.com/headrace/headrace/hub"
)

func reopen(t testing.TB, dir string) *Backend { return reopenWith(t, dir, Options{}) }

func reopenWith(t testing.TB, dir string, o Options) *Backend {
	t.Helper()
	b, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// TestBackend is all that the author of a backend has to write to have it tested.
func TestBackend(t *testing.T) {
	for name, o := range map[string]Options{"plain": {}, "sync": {Sync: true}} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, backendtest.Config{
				New: func(t testing.TB) hub.Backend { return reopenWith(t, t.TempDir(), o) },
				Reopen: func(t testing.TB, b hub.Backend) hub.Backend {
					_ = b.Close()
					return reopenWith(t, b.(*Backend).dir, o)
				},
				Lacks: map[string]string{"F9": "the live path is a function call, which does not break"},
			})
		})
	}
}
