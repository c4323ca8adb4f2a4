package sse

import (
	"net/http"
	"reflect"
)

// reachable is the writer of middleware with a way to the server's own below
// it, which has the deadlines and can break a connection off.
type reachable struct {
	http.ResponseWriter
	http.Flusher
	below http.ResponseWriter
}

// Unwrap is for http.ResponseController.
func (w reachable) Unwrap() http.ResponseWriter { return w.below }

// reach returns a writer that writes through w and that can be unwrapped down to
// the server's. Writers of middleware often embed the one below and have no
// Unwrap method, gin-contrib/gzip's among them: http.Server.WriteTimeout would
// cut such a stream off, and nothing else could.
func reach(w http.ResponseWriter) http.ResponseWriter {
	flusher, ok := w.(http.Flusher)
	if !ok {
		return w
	}
	below, hidden := w, false
	for {
		next, unwraps := unwrap(below)
		if next == nil {
			break
		}
		below, hidden = next, hidden || !unwraps
	}
	if !hidden {
		return w
	}
	return reachable{w, flusher, below}
}

// unwrap returns the writer below w, by its Unwrap method or else the one that
// it embeds, or nil.
func unwrap(w http.ResponseWriter) (below http.ResponseWriter, unwraps bool) {
	if u, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
		return u.Unwrap(), true
	}
	v := reflect.Indirect(reflect.ValueOf(w))
	if v.Kind() != reflect.Struct {
		return nil, false
	}
	embedded, ok := v.Type().FieldByName("ResponseWriter") // http's or Gin's
	if !ok {
		return nil, false
	}
	f, err := v.FieldByIndexErr(embedded.Index)
	if err != nil || !f.CanInterface() {
		return nil, false
	}
	below, _ = reflect.TypeAssert[http.ResponseWriter](f)
	return below, false
}
