package headrace_test

import (
	"encoding/json"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// direct are the modules that the library itself needs. A program that imports headrace has them in
// its module graph; what tests and examples need is required by modules of their own.
var direct = []string{
	"github.com/ThreeDotsLabs/watermill",
	miniredis,
	"github.com/gin-gonic/gin",
	"github.com/redis/go-redis/v9",
}

func TestDirectRequirements(t *testing.T) {
	sources(t) // so that the test cache sees go.mod
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &file); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range file.Require {
		if !r.Indirect {
			got = append(got, r.Path)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, direct) {
		t.Errorf("go.mod requires %q directly, want %q: what only tests or examples need belongs to their modules", got, direct)
	}
}

// moduleFolders returns the folders of this repository's modules, the root as ".".
func moduleFolders(t *testing.T) []string {
	t.Helper()
	var folders []string
	for _, file := range sources(t) {
		if path.Base(file.path) == "go.mod" {
			folders = append(folders, path.Dir(file.path))
		}
	}
	slices.Sort(folders)
	return folders
}

// TestMakeKnowsModules holds that the Makefile's list of modules, which its targets walk, is whole.
func TestMakeKnowsModules(t *testing.T) {
	var listed []string
	for _, file := range sources(t) {
		if file.path != "Makefile" {
			continue
		}
		for line := range strings.Lines(string(file.content)) {
			if list, ok := strings.CutPrefix(line, "MODULES := "); ok {
				listed = strings.Fields(list)
			}
		}
	}
	slices.Sort(listed)
	if found := moduleFolders(t); !slices.Equal(listed, found) {
		t.Errorf("the Makefile lists the modules %q, there are %q", listed, found)
	}
}
