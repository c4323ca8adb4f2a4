package clients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRecipesAreTested: what docs/clients.md tells people to copy is what the tests here run.
func TestRecipesAreTested(t *testing.T) {
	read := func(file string) string {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(content), "\r\n", "\n")
	}
	page := read(filepath.Join("..", "..", "docs", "clients.md"))
	for _, recipe := range []string{"follow.js", "keep.js"} {
		if !strings.Contains(page, strings.TrimSpace(read(filepath.Join("pages", recipe)))) {
			t.Errorf("docs/clients.md does not have %s as it is", recipe)
		}
	}
}
