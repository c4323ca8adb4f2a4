package proxies

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// server and silence are what the configurations of the page have for the address of the server and
// for how long a stream may be silent.
const (
	server  = "127.0.0.1:8080"
	silence = "60"
)

// block returns the one block of a language in docs/proxies.md.
func block(t *testing.T, language string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", "proxies.md"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(strings.ReplaceAll(string(content), "\r\n", "\n"), "\n```"+language+"\n")
	if len(parts) != 2 {
		t.Fatalf("docs/proxies.md has %d blocks of %s", len(parts)-1, language)
	}
	text, _, ok := strings.Cut(parts[1], "```\n")
	if !ok {
		t.Fatalf("the block of %s has no end", language)
	}
	return text
}

// replace replaces pairs of old and new, each of which must be there.
func replace(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q is not in:\n%s", pairs[i], text)
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
