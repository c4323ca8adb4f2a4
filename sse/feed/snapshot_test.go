package feed

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

func snapshotEvent(id, data string) string {
	return "event: snapshot\ndata: " + data + "\nid: " + id + "\n\n"
}

const gapEvent = "event: gap\ndata: {}\n\n"

// TestSnapshot: state first, at a place that was fixed before it was loaded, then changes; who
// resumes gets none.
func TestSnapshot(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	before := publish(t, h, "t", "a")[0]
	var during string
	f := Of(h, "t")
	f.Snapshot = func(context.Context) (any, error) {
		during = publish(t, h, "t", "b")[0] // a change between the place and the state
		return map[string]int{"n": 2}, nil
	}
	s := httptest.NewServer(Handler(f, Options{Logger: quiet(), Start: hub.Earliest()}))
	defer s.Close()
	c := connect(t, s.Client(), s.URL, "")
	equal(t, "snapshot", c.block(t), prelude+snapshotEvent(before, `{"n":2}`))
	equal(t, "change", c.block(t), event(during, "b"))
	c.leave()

	again := connect(t, s.Client(), s.URL, before)
	equal(t, "resumed", again.block(t), prelude+event(during, "b"))
	again.leave()
}

// TestSnapshotAfterGap: the page heals by itself, from the newest place, and nothing from before
// the snapshot comes after it.
func TestSnapshotAfterGap(t *testing.T) {
	h := newHub(t, memory.New(memory.Options{MaxMessages: 4}), hub.Options{Window: 2})
	f := Of(h, "t")
	f.Snapshot = func(context.Context) (any, error) { return "state", nil }
	s := httptest.NewServer(Handler(f, Options{Logger: quiet()}))
	defer s.Close()
	old := publish(t, h, "t", "a")[0]
	ids := publish(t, h, "t", strings.Split("b c d e f g h", " ")...)
	c := connect(t, s.Client(), s.URL, old)
	equal(t, "gap", c.block(t), prelude+gapEvent)
	equal(t, "snapshot", c.block(t), snapshotEvent(ids[len(ids)-1], "state"))
	next := publish(t, h, "t", "i")[0]
	equal(t, "change", c.block(t), event(next, "i"))
	c.leave()

	foreign := connect(t, s.Client(), s.URL, "of-another-life")
	equal(t, "gap", foreign.block(t), prelude+gapEvent)
	equal(t, "snapshot", foreign.block(t), snapshotEvent(next, "state"))
	foreign.leave()
}

// TestSnapshotAfterGapTakesLong: heartbeats go on, and the stream ends when it should.
func TestSnapshotAfterGapTakesLong(t *testing.T) {
	for _, kind := range []string{"loaded", "drained", "left", "failed", "panicked", "timeout"} {
		limit := time.Minute
		if kind == "timeout" {
			limit = 35 * time.Second
		}
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, memory.New(memory.Options{MaxMessages: 2}), hub.Options{Window: 1})
				onEnd, end := ends()
				drain := &Drain{Window: -1}
				ended := make(chan struct{}, 2)
				f := Of(h, "t")
				loads := 0
				f.Snapshot = func(ctx context.Context) (any, error) {
					if loads++; loads == 1 {
						return "first", nil
					}
					defer func() { ended <- struct{}{} }()
					select {
					case <-ctx.Done():
						return nil, ctx.Err()
					case <-time.After(40 * time.Second):
					}
					switch kind {
					case "failed":
						return nil, errors.New("no state")
					case "panicked":
						panic("of the user")
					}
					return "state", nil
				}
				returned := make(chan struct{})
				client, stop := memServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer close(returned)
					_ = Serve(w, r, f, Options{Logger: quiet(), OnEnd: onEnd, Drain: drain, NoRotation: true, Retry: time.Millisecond, SnapshotTimeout: limit})
				}), false, nil)
				defer stop()
				c := connect(t, client, "http://memory/", "")
				c.block(t)
				// The stream waits for the client to take the first one, and falls behind.
				publish(t, h, "t", strings.Repeat("x", 200<<10))
				synctest.Wait()
				publish(t, h, "t", "b", "c", "d", "e")
				c.block(t)
				equal(t, "gap", c.block(t), gapEvent)
				for range 2 { // at 15 s and 30 s
					line, _ := c.r.ReadString('\n')
					equal(t, "heartbeat", line, ":\n")
				}
				switch kind {
				case "drained":
					drain.Begin()
					equal(t, "rest", c.rest(t), "retry: N\n")
				case "left":
					synctest.Wait()
					c.leave()
				case "loaded":
					start, _ := h.Subscribe(t.Context(), "t", hub.Latest())
					equal(t, "snapshot", c.block(t), snapshotEvent(string(start.Start()), "state"))
					start.Close()
					synctest.Wait()
					c.leave()
				default:
					text := ""
					for b := make([]byte, 1<<10); ; {
						n, err := c.r.Read(b)
						if text += string(b[:n]); err != nil {
							break
						}
					}
					if kind != "panicked" {
						equal(t, "end", text, "event: stream-error\ndata: {}\n\n")
					}
				}
				e := <-end
				want := map[string]error{"loaded": ErrClientGone, "left": ErrClientGone, "drained": ErrShutdown, "failed": ErrFailed, "timeout": errSnapshotTimeout, "panicked": ErrPanicked}[kind]
				isCause(t, e.Cause, want)
				<-returned
				select {
				case <-ended:
				default:
					t.Error("Serve returned before Snapshot did")
				}
			})
		})
	}
}

// TestSnapshotRefused: before the first byte there is still a status, and what may pass is to be
// tried again.
func TestSnapshotRefused(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	f := Of(h, "t")
	var err error
	f.Snapshot = func(context.Context) (any, error) { return nil, err }
	handler := Handler(f, Options{Logger: quiet()})
	for _, accept := range []string{streamType, documentType} {
		err = Status(http.StatusNotFound, nil)
		equal(t, "code of "+accept, record(handler, get("/", "Accept", accept)).Code, 404)
		err = errors.New("password of the database")
		w := record(handler, get("/", "Accept", accept))
		checkLater(t, w, accept == streamType)
		if strings.Contains(w.Body.String(), "password") {
			t.Errorf("body %q", w.Body)
		}
	}
	f.Snapshot = func(context.Context) (any, error) { return func() {}, nil }
	for _, accept := range []string{streamType, documentType} {
		checkLater(t, record(Handler(f, Options{Logger: quiet()}), get("/", "Accept", accept)), accept == streamType)
	}
	// A status of the server's own is as temporary as any other failure of it.
	f.Snapshot = func(context.Context) (any, error) { return nil, Status(http.StatusBadGateway, nil) }
	checkLater(t, record(Handler(f, Options{Logger: quiet()}), get("/", "Accept", streamType)), true)
}

// TestSnapshotTimeout: what never loads holds nobody for longer than it may, and the log says why.
func TestSnapshotTimeout(t *testing.T) {
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for what, f := range map[string]Feed{
		"snapshot": {Snapshot: func(ctx context.Context) (any, error) { return nil, hang(ctx) }},
		"hello":    {Hello: func(ctx context.Context) (sse.Event, error) { return sse.Event{}, hang(ctx) }},
	} {
		for _, accept := range []string{streamType, documentType} {
			if f.Snapshot == nil && accept == documentType {
				continue
			}
			t.Run(what+" as "+accept, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f.Hub, f.Topics = newHub(t, nil, hub.Options{}), []string{"t"}
					begun := time.Now()
					logger, log := logged()
					checkLater(t, record(Handler(f, Options{Logger: logger}), get("/", "Accept", accept)), accept == streamType)
					equal(t, "time", time.Since(begun), 30*time.Second)
					if !strings.Contains(log(), what+": it took longer than Options.SnapshotTimeout") {
						t.Errorf("log %q", log())
					}
				})
			})
		}
	}
}

// lazy is a state that is loaded when it is encoded.
type lazy struct{ ctx context.Context }

func (l lazy) MarshalJSON() ([]byte, error) { return []byte("1"), l.ctx.Err() }

// TestSnapshotContext: the context that Snapshot and Hello get is good until the stream ends.
func TestSnapshotContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, nil, hub.Options{})
		f := Of(h, "t")
		f.Snapshot = func(ctx context.Context) (any, error) { return lazy{ctx}, nil }
		left := false
		f.Hello = func(ctx context.Context) (sse.Event, error) {
			context.AfterFunc(ctx, func() { left = true })
			return sse.Event{Type: "hi", Data: ""}, nil
		}
		handler := Handler(f, Options{Logger: quiet(), SnapshotTimeout: time.Second})
		equal(t, "document", record(handler, get("/", "Accept", documentType)).Body.String(), "1")
		client, stop := memServer(handler, false, nil)
		defer stop()
		c := connect(t, client, "http://memory/", "")
		equal(t, "hello", c.block(t), prelude+"event: hi\ndata: \n\n")
		_, data, _ := strings.Cut(c.block(t), "data: ")
		data, _, _ = strings.Cut(data, "\n")
		equal(t, "state", data, "1")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		equal(t, "left", left, false)
		c.leave()
		synctest.Wait()
		equal(t, "left", left, true)
	})
}

// TestDocument: the same URL gives the state as JSON, and the stream goes on from its cursor.
func TestDocument(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	id := publish(t, h, "t", "a")[0]
	f := Of(h, "t")
	var loads atomic.Int32
	f.Snapshot = func(context.Context) (any, error) {
		loads.Add(1)
		return map[string]any{"n": 1}, nil
	}
	s := httptest.NewServer(Handler(f, Options{Logger: quiet()}))
	defer s.Close()
	for accept, document := range map[string]bool{
		"application/json": true, "Application/JSON;q=0.5, */*;q=0.1": true, "application/json, text/plain, */*": true,
		"application/json, text/event-stream": false, "*/*": false, "": false, "application/json;q=0, */*": false,
	} {
		equal(t, accept, acceptOf(get("/", "Accept", accept).Header).prefersDocument(), document)
	}
	w := record(Handler(f, Options{Logger: quiet()}), get("/", "Accept", "application/json", "Last-Event-ID", "old"))
	equal(t, "code", w.Code, 200)
	equal(t, "body", w.Body.String(), `{"n":1}`)
	equal(t, "cursor", w.Header().Get("Last-Event-ID"), id)
	equal(t, "Vary", w.Header().Get("Vary"), "Accept")
	equal(t, "Cache-Control", w.Header().Get("Cache-Control"), "no-store")
	equal(t, "Content-Type", w.Header().Get("Content-Type"), "application/json")
	next := publish(t, h, "t", "b")[0]
	loads.Store(0)
	c := connect(t, s.Client(), s.URL+"?lastEventId="+w.Header().Get("Last-Event-ID"), "")
	equal(t, "stream", c.block(t), prelude+event(next, "b"))
	c.leave()
	equal(t, "snapshots", loads.Load(), 0)

	head := record(Handler(f, Options{Logger: quiet()}), httptest.NewRequest(http.MethodHead, "/", nil))
	equal(t, "Vary of a stream", head.Header().Get("Vary"), "Accept")
	equal(t, "no snapshot, no document", record(Handler(Of(h, "t"), Options{Logger: quiet()}), get("/", "Accept", "application/json")).Code, 406)
}

func TestEncodeState(t *testing.T) {
	for _, tc := range []struct {
		state any
		want  string
	}{
		{nil, "null"}, {"a\n", `"a\n"`}, {[]byte(`{"a":1}`), `{"a":1}`}, {[]byte("text"), `"text"`}, {json.RawMessage("[1]"), "[1]"}, {[]int{1}, "[1]"},
	} {
		got, err := encodeState(tc.state)
		equal(t, "JSON", string(got), tc.want)
		equal(t, "error", err, nil)
	}
	frame, err := snapshotFrame("1", nil)
	equal(t, "error", err, nil)
	equal(t, "nil in a stream", string(frame), snapshotEvent("1", "null"))
}

// TestSnapshotOfFinished: the state of what is over, its end, and on coming back nothing.
func TestSnapshotOfFinished(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	last := finish(t, h, "t")
	f := Of(h, "t")
	f.Snapshot = func(context.Context) (any, error) { return "state", nil }
	s := httptest.NewServer(Handler(f, Options{Logger: quiet()}))
	defer s.Close()
	equal(t, "stream", connect(t, s.Client(), s.URL, "").rest(t), prelude+snapshotEvent(last, "state")+"retry: N\nevent: close\ndata: \nid: "+last+"\n\n")
	equal(t, "afterwards", connect(t, s.Client(), s.URL, last).StatusCode, 204)
}

// TestSnapshotLostCursor: who comes with a place that is gone still gets a status, like who comes
// with none.
func TestSnapshotLostCursor(t *testing.T) {
	f := Of(newHub(t, nil, hub.Options{}), "t")
	f.Snapshot = func(context.Context) (any, error) { return nil, Status(http.StatusNotFound, nil) }
	for _, cursor := range []string{"", "unknown"} {
		equal(t, "code with "+cursor, record(Handler(f, Options{Logger: quiet()}), get("/", "Last-Event-ID", cursor)).Code, 404)
	}
}

// TestSnapshotGoexit: a Snapshot that never returns is no state.
func TestSnapshotGoexit(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	f := Of(h, "t")
	f.Snapshot = func(context.Context) (any, error) { runtime.Goexit(); return "state", nil }
	s := fakeSource(t.Context(), t, &fakeSubscription{}, "1")
	s.feed = f
	var w session.Work
	s.reloadState(&w)
	equal(t, "gap", string(w.Frames[0]), "event: gap\ndata: {}\n\n")
	<-s.reload.done
	_, err := s.Poll(&w, 1)
	isCause(t, err, errGoexit)
	s.close()
}

// TestDocumentNotRead: a client that asks for the state and does not take it holds nothing but
// its own handler, and that for the write timeout.
func TestDocumentNotRead(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	f := Of(h, "t")
	f.Snapshot = func(context.Context) (any, error) { return strings.Repeat("x", 32<<20), nil }
	returned := make(chan error, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		returned <- Serve(w, r, f, Options{Logger: quiet(), WriteTimeout: 50 * time.Millisecond})
	}))
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	isCause(t, <-returned, ErrWriteFailed)
	equal(t, "subscriptions", h.Stats().Subscriptions, 0)
}
