// Package wrap has the least that a middleware does which counts what is written: a response writer
// of its own, with a method Unwrap. A server cannot know what else such a writer does.
package wrap

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// Gin is a middleware for Gin.
func Gin(c *gin.Context) { c.Writer = &ginWriter{ResponseWriter: c.Writer} }

type ginWriter struct {
	gin.ResponseWriter
	count int64
}

// Write implements io.Writer.
func (w *ginWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.count += int64(n)
	return n, err
}

// WriteString implements io.StringWriter.
func (w *ginWriter) WriteString(s string) (int, error) {
	n, err := w.ResponseWriter.WriteString(s)
	w.count += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *ginWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Handler is a middleware for net/http.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&writer{ResponseWriter: w}, r)
	})
}

type writer struct {
	http.ResponseWriter
	count int64
}

// Write implements io.Writer.
func (w *writer) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.count += int64(n)
	return n, err
}

// Flush implements http.Flusher.
func (w *writer) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
