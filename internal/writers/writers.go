// Package writers looks through response writers of middleware, at the server's own below them.
package writers

import (
	"net/http"
	"reflect"
	"time"
)

// deepest is how many writers are looked at below one: some have themselves below them.
const deepest = 100

// Below returns the writer below w, by its Unwrap method or else the one that it embeds, or nil.
func Below(w http.ResponseWriter) (below http.ResponseWriter, unwraps bool) {
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

// Innermost returns the writer below which Below finds none. hidden says that there is one on the
// way to it that has no Unwrap, so that http.ResponseController does not get there.
func Innermost(w http.ResponseWriter) (inner http.ResponseWriter, hidden bool) {
	for range deepest {
		below, unwraps := Below(w)
		if below == nil {
			break
		}
		w, hidden = below, hidden || !unwraps
	}
	return w, hidden
}

// Flushed returns the writer that http.ResponseController would flush for w, the outermost one that
// can, or nil. past says that it goes past others to get there.
func Flushed(w http.ResponseWriter) (flushed http.ResponseWriter, past bool) {
	for range deepest {
		if w == nil {
			break
		}
		switch w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return w, past
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil, past
		}
		w, past = u.Unwrap(), true
	}
	return nil, past
}

// HideDeadline reports whether neither w nor a writer that is found below it has a write deadline.
func HideDeadline(w http.ResponseWriter) bool {
	for range deepest {
		if w == nil {
			break
		}
		if _, ok := w.(interface{ SetWriteDeadline(time.Time) error }); ok {
			return false
		}
		w, _ = Below(w)
	}
	return true
}

// Is reports whether t is a pointer to the named type of a package.
func Is(t reflect.Type, path, name string) bool {
	return t != nil && t.Kind() == reflect.Pointer && t.Elem().PkgPath() == path && t.Elem().Name() == name
}

// IsGin reports whether w is Gin's own writer, which changes nothing of what is written.
func IsGin(w http.ResponseWriter) bool {
	return Is(reflect.TypeOf(w), "github.com/gin-gonic/gin", "responseWriter")
}

// Plain reports whether w is a writer that is known to hand on all that is written to it when it is
// flushed: a server's own, the recorder of tests, or Gin's over one of them.
func Plain(w http.ResponseWriter) bool {
	if IsGin(w) {
		w, _ = Below(w)
	}
	_, known := Look(w)
	return known || Is(reflect.TypeOf(w), "net/http/httptest", "ResponseRecorder")
}

// State is what a server has of a response.
type State struct {
	Committed bool  // the status and the headers are decided
	Sent      bool  // they were handed to the connection, by a flush or with more than a buffer of data
	Body      int64 // how many bytes of the body were written
}

// servers are the fields that State has its values from, by the type of a writer.
var servers = []struct {
	path, name            string
	committed, sent, body []string
}{
	{"net/http", "response", []string{"wroteHeader"}, []string{"cw", "wroteHeader"}, []string{"written"}},
	{"net/http", "http2responseWriter", []string{"rws", "wroteHeader"}, []string{"rws", "sentHeader"}, []string{"rws", "wroteBytes"}},
	{"golang.org/x/net/http2", "responseWriter", []string{"rws", "wroteHeader"}, []string{"rws", "sentHeader"}, []string{"rws", "wroteBytes"}},
}

// Look returns the state of a response, if w is the writer of a server that is known. Nothing that
// servers export tells it, so it is read from their fields; where a later version has others, the
// server is not known. Call it on the handler's goroutine.
func Look(w http.ResponseWriter) (s State, known bool) {
	t := reflect.TypeOf(w)
	for _, server := range servers {
		if !Is(t, server.path, server.name) {
			continue
		}
		v := reflect.ValueOf(w).Elem()
		committed := field(v, server.committed, reflect.Bool)
		sent := field(v, server.sent, reflect.Bool)
		body := field(v, server.body, reflect.Int64)
		if !committed.IsValid() || !sent.IsValid() || !body.IsValid() {
			return State{}, false
		}
		return State{committed.Bool(), sent.Bool(), body.Int()}, true
	}
	return State{}, false
}

// Committed reports whether the server below w, if it is known, has decided the response's status.
func Committed(w http.ResponseWriter) bool {
	inner, _ := Innermost(w)
	s, _ := Look(inner)
	return s.Committed
}

// field returns the field of a struct that names lead to, the zero value if there is none of the
// kind.
func field(v reflect.Value, names []string, kind reflect.Kind) reflect.Value {
	for _, name := range names {
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return reflect.Value{}
		}
		v = v.FieldByName(name)
	}
	if v.Kind() != kind {
		return reflect.Value{}
	}
	return v
}
