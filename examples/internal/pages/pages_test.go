package pages_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/examples/internal/pages"
)

// TestServe: each file is there with its type and the policy, which lets nothing run that is not a
// file of the server's.
func TestServe(t *testing.T) {
	gin.SetMode(gin.TestMode)
	r := gin.New()
	own := fstest.MapFS{}
	for _, name := range []string{"page.html", "page.css", "page.js"} {
		own[name] = &fstest.MapFile{Data: []byte("own " + name)}
	}
	pages.Serve(r, own)
	for _, test := range []struct{ path, kind, want string }{
		{"/", "text/html", "own page.html"},
		{"/page.css", "text/css", "own page.css"},
		{"/page.js", "text/javascript", "own page.js"},
		{"/look.css", "text/css", ".toast"},
		{"/look.js", "text/javascript", "export"},
		{"/js/headrace.js", "text/javascript", "export"},
	} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, test.path, nil))
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), test.kind) || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s: status %d, %s, %.60q", test.path, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		if test.path == "/js/headrace.js" {
			continue
		}
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", test.path, policy)
		}
	}
}

// TestPagesAreCareful: nothing that people write can become markup, and a page loads nothing from
// elsewhere and has no scripts, styles or handlers inline, which the policy would stop.
func TestPagesAreCareful(t *testing.T) {
	files, err := filepath.Glob("../../*/page.*")
	if err != nil || len(files) < 3*4 {
		t.Fatalf("found %q, %v", files, err)
	}
	inline := regexp.MustCompile(`<script>|<style>|\sstyle=|\son[a-z]+="|(src|rel="stylesheet" href)="https?:`)
	for _, file := range append(files, "look.js", "look.css") {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(file) == ".go" {
			continue
		}
		for _, sink := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "javascript:"} {
			if strings.Contains(string(content), sink) {
				t.Errorf("%s contains %s", file, sink)
			}
		}
		if filepath.Ext(file) == ".html" {
			if found := inline.Find(content); found != nil {
				t.Errorf("%s contains %s", file, found)
			}
		}
	}
}
