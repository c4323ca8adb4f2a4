package js

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // for the files
	"encoding/hex"
	"net/http"
	"path"
	"time"
)

//go:embed headrace.js
var module []byte

//go:embed headrace.d.ts
var types []byte

// file is what is served under a name.
type file struct {
	contentType string
	content     []byte
	tag         string
}

func newFile(contentType string, content []byte) file {
	sum := sha256.Sum256(content)
	return file{contentType, content, `"` + hex.EncodeToString(sum[:8]) + `"`}
}

// Handler returns a handler that serves headrace.js and headrace.d.ts, by the last element of the
// request's path, wherever it is mounted; other names are answered 404. Browsers may keep the
// files, but ask each time whether they have changed, so that a page never runs the module of
// another version than its server's. Methods other than GET and HEAD are answered 405. The handler
// may be used concurrently, and holds no state.
func Handler() http.Handler {
	files := map[string]file{
		"headrace.js":   newFile("text/javascript; charset=utf-8", module),
		"headrace.d.ts": newFile("text/plain; charset=utf-8", types),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := files[path.Base(r.URL.Path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		header := w.Header()
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		header.Set("Content-Type", f.contentType)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-cache")
		header.Set("ETag", f.tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
	})
}
