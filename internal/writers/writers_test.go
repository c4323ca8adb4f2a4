package writers

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestLook holds that the servers of this version of Go are known, and what is said of them. If it
// fails, the fields have other names.
func TestLook(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				expect := func(want State) {
					t.Helper()
					if got, known := Look(w); got != want || !known {
						t.Errorf("%+v, %t; want %+v", got, known, want)
					}
				}
				expect(State{})
				w.WriteHeader(http.StatusAccepted)
				expect(State{Committed: true})
				if _, err := w.Write([]byte("abc")); err != nil {
					t.Error(err)
				}
				expect(State{Committed: true, Body: 3})
				w.(http.Flusher).Flush()
				expect(State{Committed: true, Sent: true, Body: 3})
			}))
			s.EnableHTTP2 = http2
			s.StartTLS()
			defer s.Close()
			resp, err := s.Client().Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if _, known := Look(httptest.NewRecorder()); known {
		t.Error("a recorder counts as a server")
	}
}

// cycle is a writer that has itself below it.
type cycle struct{ http.ResponseWriter }

func (c *cycle) Unwrap() http.ResponseWriter { return c }

// TestCycle holds that looking below a writer comes to an end.
func TestCycle(t *testing.T) {
	c := &cycle{}
	if inner, _ := Innermost(c); inner != http.ResponseWriter(c) {
		t.Errorf("the innermost writer is %v", inner)
	}
	if flushed, _ := Flushed(c); flushed != nil {
		t.Errorf("%v can be flushed", flushed)
	}
	if !HideDeadline(c) {
		t.Error("it has a deadline")
	}
}
