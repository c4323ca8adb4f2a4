package testenv

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDepsSaysWhy holds that the script behind make deps has a reason for each package that it
// installs.
func TestDepsSaysWhy(t *testing.T) {
	script, err := os.ReadFile(filepath.Join("..", "..", ".ci", "deps"))
	if err != nil {
		t.Fatal(err)
	}
	lists := regexp.MustCompile(`list\+="([^"]+)"`).FindAllStringSubmatch(string(script), -1)
	if len(lists) < len(tools) {
		t.Fatalf("found %d packages, and there are %d tools", len(lists), len(tools))
	}
	for _, list := range lists {
		for name := range strings.FieldsSeq(list[1]) {
			if !regexp.MustCompile(`(?m)^\t` + regexp.QuoteMeta(name) + `\) echo "`).Match(script) {
				t.Errorf(".ci/deps installs %s and does not say why", name)
			}
		}
	}
}
