package feed

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed/internal/cursor"
)

func server(t testing.TB, handler http.Handler) *httptest.Server {
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

// TestResume: a client that came without a cursor and dropped before its first message gets
// exactly what it missed, without a gap (G2, G5).
func TestResume(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	publish(t, h, "t", "before")
	s := server(t, Handler(Of(h, "t"), Options{Logger: quiet()}))

	first := connect(t, s.Client(), s.URL, "")
	equal(t, "status", first.StatusCode, 200)
	equal(t, "type", first.Header.Get("Content-Type"), streamHeader)
	equal(t, "length", first.ContentLength, -1)
	start := first.primed(t)
	first.leave()

	ids := publish(t, h, "t", "a", "b", "c")
	second := connect(t, s.Client(), s.URL, start)
	equal(t, "first", second.block(t), prelude+event(ids[0], "a"))
	equal(t, "second", second.block(t), event(ids[1], "b"))
	equal(t, "third", second.block(t), event(ids[2], "c"))
	live := publish(t, h, "t", "d")
	equal(t, "live", second.block(t), event(live[0], "d"))

	third := connect(t, s.Client(), s.URL+"?lastEventId="+ids[1], "")
	equal(t, "cursor in the query", third.block(t), prelude+event(ids[2], "c"))
}

func TestStartEarliest(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	ids := publish(t, h, "t", "a", "b")
	s := server(t, Handler(Of(h, "t"), Options{Start: hub.Earliest(), Logger: quiet()}))
	c := connect(t, s.Client(), s.URL, "")
	// The place before the oldest message has no name, so there is no checkpoint.
	equal(t, "first", c.block(t), prelude+event(ids[0], "a"))
	equal(t, "second", c.block(t), event(ids[1], "b"))
}

// TestGap: what is gone is said before any later message (G2).
func TestGap(t *testing.T) {
	b := memory.New(memory.Options{MaxMessages: 3})
	h := newHub(t, b, hub.Options{Window: 2})
	ids := publish(t, h, "t", "1", "2", "3", "4", "5", "6")
	s := server(t, Handler(Of(h, "t"), Options{Logger: quiet()}))
	c := connect(t, s.Client(), s.URL, ids[0])
	equal(t, "gap", c.block(t), prelude+"event: gap\ndata: {}\n\n")
	equal(t, "oldest", c.block(t), event(ids[3], "4"))
	equal(t, "next", c.block(t), event(ids[4], "5"))
	equal(t, "last", c.block(t), event(ids[5], "6"))

	c = connect(t, s.Client(), s.URL, ids[3])
	equal(t, "without a gap", c.block(t), prelude+event(ids[4], "5"))
}

// TestAnyCursor: whatever a cursor holds, the answer is a stream that says gap (G10).
func TestAnyCursor(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	ids := publish(t, h, "t", "a")
	other := newHub(t, nil, hub.Options{})
	foreign := publish(t, other, "t", "x")[0]
	finish(t, h, "finished")
	handler := HandlerFunc(func(r *http.Request) (Feed, error) { return Of(h, strings.TrimPrefix(r.URL.Path, "/")), nil }, Options{Logger: quiet()})
	for name, cursor := range map[string]string{
		"foreign":   foreign,
		"malformed": "not an id",
		"JSON":      `{"a":1}`,
		"10 KB":     strings.Repeat("9", 10<<10),
		"binary":    "\x01\xff\xfe\x80\t",
		"NUL":       "\x00",
		"unicode":   "ü",
		"line ends": "1\r\ndata: forged\r\n",
		"vector":    "v1.AAAA",
	} {
		t.Run(name, func(t *testing.T) {
			want := prelude + "event: gap\ndata: {}\nid: ID\n\n" // and then what comes
			equal(t, "empty", serveOnce(t, handler, "/empty", cursor, len(want)), want)
			if name == "foreign" {
				want = prelude + "event: gap\ndata: {}\n\n" + event(ids[0], "a")
			}
			equal(t, "t", serveOnce(t, handler, "/t", cursor, len(want)), want)
			w := record(handler, get("/finished", "Last-Event-ID", cursor))
			equal(t, "status", w.Code, 200)
			if !strings.Contains(w.Body.String(), "event: gap\n") {
				t.Errorf("finished topic: %q", w.Body.String())
			}
		})
	}
}

// serveOnce serves a request with a cursor until as much as wanted is written, with "ID" for the
// id of an event gap.
func serveOnce(t testing.TB, handler http.Handler, path, cursor string, want int) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := &limitWriter{ResponseRecorder: httptest.NewRecorder(), cancel: cancel, want: want}
	r := get(path).WithContext(ctx)
	r.Header["Last-Event-Id"] = []string{cursor}
	handler.ServeHTTP(w, r)
	if w.Code != 200 {
		t.Errorf("status %d", w.Code)
	}
	// A stream begins with a comment where a writer is not known.
	body := retryLine.ReplaceAllString(strings.TrimPrefix(w.Body.String(), sse.Heartbeat), "retry: N\n")
	if before, id, ok := strings.Cut(body, "data: {}\nid: "); ok {
		_, after, _ := strings.Cut(id, "\n")
		body = before + "data: {}\nid: ID\n" + after
	}
	return body
}

// limitWriter ends the request when enough is written.
type limitWriter struct {
	*httptest.ResponseRecorder
	cancel context.CancelFunc
	want   int
}

func (w *limitWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseRecorder.Write(p)
	if w.Body.Len() >= w.want || strings.HasSuffix(w.Body.String(), "\n\n") {
		w.cancel()
	}
	return n, err
}

// FuzzCursor: no cursor is answered by an error status, a hang, a panic, or data before a gap is
// said (G10): the answer is that of the table in DESIGN.md.
func FuzzCursor(f *testing.F) {
	set := cursor.New([]string{"t"})
	for _, seed := range []string{
		"0-0", "x", "v1.", "\x00", "\n\ndata: x\n\n", strings.Repeat("9", 200), "~", "-", "1-1", "abcdefghijkl-1", "abcdefghijkl-01",
		string(set.Append(nil, []hub.ID{""})),
		string(set.Append(nil, []hub.ID{"5-1"})),
		string(set.Append(nil, []hub.ID{"abcdefghijkl-1"})),
		string(cursor.New([]string{"another"}).Append(nil, []hub.ID{"5-1"})),
		string(set.Append(nil, []hub.ID{"not valid"})), // whose position is doubtful
		cursor.Prefix + "AAE",                          // without a topic, and a base all the same
	} {
		f.Add(seed)
	}
	h := newHub(f, nil, hub.Options{})
	id := publish(f, h, "t", "a")[0]
	handler := Handler(Of(h, "t"), Options{Logger: quiet()})
	const gap = prelude + "event: gap\ndata: {}\n"
	f.Fuzz(func(t *testing.T, text string) {
		r := get("/")
		r.Header["Last-Event-Id"] = []string{text}
		at, ok := sse.LastEventID(r)
		want := gap + "\n" + event(id, "a") // unknown
		malformed := gap + "id: ID\n\n"     // and goes on from the newest
		positions, vector := set.Parse(at)
		switch {
		case !ok, vector && cursor.Empty(at):
			want = checkpoint(id)
		case vector && positions[0].State == cursor.Known:
			at = string(positions[0].ID)
			fallthrough
		case !vector:
			epoch, _, _ := strings.Cut(id, "-")
			if strings.HasPrefix(at, epoch+"-") {
				return // perhaps a position of this very process
			}
			if !h.IsID(hub.ID(at)) {
				want = malformed
			}
		}
		equal(t, "stream", serveOnce(t, handler, "/", text, len(want)), want)
	})
}

// TestResumeAtTheTail: what is published after it was seen that a client is not at the end of a
// finished topic, and before the stream waits for messages, comes at once.
func TestResumeAtTheTail(t *testing.T) {
	bothVersions(t, func(t *testing.T, http2 bool) {
		h := newHub(t, nil, hub.Options{})
		id := publish(t, h, "t", "1")[0]
		f := Of(h, "t")
		f.Hello = func(context.Context) (sse.Event, error) {
			publish(t, h, "t", "2")
			return sse.Event{Type: "hello", Data: "x"}, nil
		}
		client, stop := memServer(Handler(f, Options{Logger: quiet()}), http2, nil)
		defer stop()
		begun := time.Now()
		c := connect(t, client, "http://memory/", id)
		c.block(t)
		c.block(t)
		equal(t, "time until the message", time.Since(begun), 0)
		c.leave()
	})
}

func TestFinished(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	onEnd, end := ends()
	s := server(t, Handler(Of(h, "t"), Options{Logger: quiet(), OnEnd: onEnd}))

	live := connect(t, s.Client(), s.URL, "")
	start := live.primed(t)
	ids := publish(t, h, "t", "a")
	last := finish(t, h, "t")
	closing := "retry: N\nevent: close\ndata: \nid: " + last + "\n\n"
	equal(t, "message", live.block(t), event(ids[0], "a"))
	equal(t, "close", live.rest(t), closing)
	e := <-end
	isCause(t, e.Cause, ErrFinished)
	equal(t, "topics", strings.Join(e.Topics, " "), "t")
	equal(t, "events", e.Events, 1)

	equal(t, "from the start", connect(t, s.Client(), s.URL, start).rest(t), prelude+event(ids[0], "a")+closing)
	equal(t, "from before the end", connect(t, s.Client(), s.URL, ids[0]).rest(t), prelude+closing)
	equal(t, "without a cursor", connect(t, s.Client(), s.URL, "").rest(t), prelude+closing)

	done := connect(t, s.Client(), s.URL, last)
	equal(t, "status at the end", done.StatusCode, http.StatusNoContent)
	equal(t, "body at the end", done.rest(t), "")
	equal(t, "type at the end", done.Header.Get("Content-Type"), "")
}

// TestFinishedElsewhere: 204 on every instance, also where the end is no longer in the window.
func TestFinishedElsewhere(t *testing.T) {
	b := memory.New(memory.Options{})
	first := newHub(t, b, hub.Options{})
	last := finish(t, first, "t")
	if _, err := first.Publish(t.Context(), "t", hub.Message{Data: []byte("afterwards"), AfterEnd: true}); err != nil {
		t.Fatal(err)
	}

	second := newHub(t, b, hub.Options{Window: 1})
	w := record(Handler(Of(second, "t"), Options{Logger: quiet()}), get("/", "Last-Event-ID", last))
	equal(t, "status", w.Code, http.StatusNoContent)
	equal(t, "body", w.Body.String(), "")
}

func TestMessages(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	c := server(t, Handler(Of(h, "t"), Options{Logger: quiet()}))
	s := connect(t, c.Client(), c.URL, "")
	s.primed(t)
	binary := []byte("\x00\xff\n")
	encoded := base64.StdEncoding.EncodeToString(binary)
	for _, tc := range []struct {
		m    hub.Message
		want string
	}{
		{hub.Message{Data: []byte("a")}, "data: a\n"},
		{hub.Message{Type: "assigned", Data: []byte(`{"to":"Ada"}`)}, "event: assigned\ndata: {\"to\":\"Ada\"}\n"},
		{hub.Message{Data: []byte("a\nb\r\nc\rd")}, "data: a\ndata: b\ndata: c\ndata: d\n"},
		{hub.Message{}, "data: \n"},
		{hub.Message{Data: []byte(" a")}, "data:  a\n"},
		{hub.Message{Type: "image", Data: binary, Binary: true}, "event: image;base64\ndata: " + encoded + "\n"},
		{hub.Message{Data: binary, Binary: true}, "event: message;base64\ndata: " + encoded + "\n"},
	} {
		id, err := h.Publish(context.Background(), "t", tc.m)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, fmt.Sprintf("%+v", tc.m), s.block(t), tc.want+"id: "+string(id)+"\n\n")
	}
}

// TestReplayIsWhole: a replay longer than the window, a page and a batch arrives whole, in order
// and once (G1, G3).
func TestReplayIsWhole(t *testing.T) {
	h := newHub(t, nil, hub.Options{Window: 50})
	onEnd, end := ends()
	s := server(t, Handler(Of(h, "t"), Options{Start: hub.Earliest(), Logger: quiet(), OnEnd: onEnd}))
	filler := strings.Repeat("x", 1000)
	const n = 700
	for i := range n / 2 {
		publish(t, h, "t", fmt.Sprint(i, " ", filler))
	}
	c := connect(t, s.Client(), s.URL, "")
	for i := n / 2; i < n; i++ {
		publish(t, h, "t", fmt.Sprint(i, " ", filler))
	}
	finish(t, h, "t")
	equal(t, "prelude", c.block(t)[:len(prelude)+len("data: 0 ")], prelude+"data: 0 ")
	for i := 1; i < n; i++ {
		want := fmt.Sprint("data: ", i, " ")
		if got := c.block(t); !strings.HasPrefix(got, want) {
			t.Fatalf("message %d: got %.20q", i, got)
		}
	}
	if got := c.rest(t); !strings.HasPrefix(got, "retry: N\nevent: close\n") {
		t.Errorf("end: %q", got)
	}
	equal(t, "events", (<-end).Events, n)
}

// TestHTTP2 runs over TLS; deadlines are in TestWriteTimeout.
func TestHTTP2(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	s := httptest.NewUnstartedServer(Handler(Of(h, "t"), Options{Logger: quiet()}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	c := connect(t, s.Client(), s.URL, "")
	equal(t, "protocol", c.ProtoMajor, 2)
	equal(t, "connection", c.Header.Get("Connection"), "")
	c.primed(t)
	ids := publish(t, h, "t", "a", "b")
	equal(t, "first", c.block(t), event(ids[0], "a"))
	equal(t, "second", c.block(t), event(ids[1], "b"))
	last := finish(t, h, "t")
	equal(t, "end", c.rest(t), "retry: N\nevent: close\ndata: \nid: "+last+"\n\n")
}

func TestRecorder(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	ids := publish(t, h, "t", "a")
	last := finish(t, h, "t")
	w := record(Handler(Of(h, "t"), Options{Start: hub.Earliest(), Logger: quiet()}), get("/"))
	equal(t, "status", w.Code, 200)
	equal(t, "flushed", w.Flushed, true)
	equal(t, "body", retryLine.ReplaceAllString(w.Body.String(), "retry: N\n"),
		prelude+event(ids[0], "a")+"retry: N\nevent: close\ndata: \nid: "+last+"\n\n")
}

// TestSharedBytes: all connections of all feeds write the same bytes.
func TestSharedBytes(t *testing.T) {
	e := &hub.Entry{Message: hub.Message{ID: "1", Data: []byte("a")}}
	if first, second := e.Encoded(wire{}), e.Encoded(wire{}); &first[0] != &second[0] {
		t.Error("a message was encoded twice")
	}
}
