// Package pages serves the pages of the examples, and what they have in common: the look, a few
// helpers, and a way to break off a page's connection on request.
//
// A page is three files of its example, page.html, page.css and page.js. To copy one, take look.css
// and look.js along.
package pages

import (
	"embed"
	"io/fs"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/js"
)

//go:embed look.css look.js
var common embed.FS

// policy lets a page load scripts and styles from this server, and send requests to it. Nothing
// else runs or loads, whatever people write.
const policy = "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Serve adds the routes of a page: page.html of own at /, and the files that it loads.
func Serve(r gin.IRouter, own fs.FS) {
	file := func(path string, files fs.FS, name string) {
		r.GET(path, func(c *gin.Context) {
			c.Header("Content-Security-Policy", policy)
			c.Header("Cache-Control", "no-cache")
			http.ServeFileFS(c.Writer, c.Request, files, name)
		})
	}
	file("/", own, "page.html")
	file("/page.css", own, "page.css")
	file("/page.js", own, "page.js")
	file("/look.css", common, "look.css")
	file("/look.js", common, "look.js")
	r.GET("/js/headrace.js", gin.WrapH(js.Handler()))
}
