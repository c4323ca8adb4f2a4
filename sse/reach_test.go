package sse_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/headrace/headrace/sse"
)

// embedding is a writer as middleware often has it: it flushes, and has no Unwrap.
type embedding struct{ http.ResponseWriter }

func (w embedding) Flush() { w.ResponseWriter.(http.Flusher).Flush() }

// TestRespondBelowEmbeddingWriters: the server's deadlines are reached through writers that hide them, so the server's WriteTimeout does not end the stream and
// Abort does.
func TestRespondBelowEmbeddingWriters(t *testing.T) {
	next := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stream, err := sse.Respond(&embedding{embedding{w}}, r)
		if err != nil {
			t.Error(err)
			return
		}
		<-next
		if err := stream.Send(sse.Event{Data: "late"}); err != nil {
			t.Errorf("after the server's WriteTimeout: %v", err)
		}
		if err := stream.Abort(); err != nil {
			t.Errorf("Abort: %v", err)
		}
	}))
	server.Config.WriteTimeout = 50 * time.Millisecond
	server.Start()
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	timer := time.AfterFunc(2*server.Config.WriteTimeout, func() { close(next) })
	defer timer.Stop()
	decoder := sse.NewDecoder(resp.Body)
	if e, err := decoder.Decode(); err != nil || e.Text() != "late" {
		t.Fatalf("got %+v, %v", e, err)
	}
	if _, err := decoder.Decode(); err == nil || err.Error() == "EOF" {
		t.Errorf("an aborted stream ended with %v", err)
	}
}
