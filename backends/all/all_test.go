package all_test

import (
	"slices"
	"testing"

	"github.com/headrace/headrace/backends"
	_ "github.com/headrace/headrace/backends/all"
)

func TestSchemes(t *testing.T) {
	if got := backends.Schemes(); !slices.Contains(got, "memory") {
		t.Errorf("registered: %q", got)
	}
	b, err := backends.Open(t.Context(), "memory://?messages=10")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
