package feed

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// offered is a feed that offers pages of 100.
func offered() Options { return Options{History: &History{}, Logger: quiet()} }

// pageOf serves a page in another goroutine.
func pageOf(t testing.TB, f Feed, o Options, query string) (answer func() (page, int, error)) {
	t.Helper()
	w := newRecorder()
	returned := make(chan error, 1)
	r := get("/?"+query, "Accept", documentType)
	go func() { returned <- Serve(w, r, f, o) }()
	return func() (p page, code int, err error) {
		err = <-returned
		if w.Code == http.StatusOK {
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Errorf("%s: %v", w.Body, err)
			}
		}
		return p, w.Code, err
	}
}

// TestPage: a page as it is, from the first bytes of the head to the last of the body.
func TestPage(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	start := newest(t, h, "t")
	ids := publish(t, h, "t", "a<b\r\nc")
	binary, err := h.Publish(t.Context(), "t", hub.Message{Type: "bin", Data: []byte{0xff}, Binary: true})
	if err != nil {
		t.Fatal(err)
	}
	f := Of(h, "t")
	w := record(Handler(f, offered()), get("/?limit=2&after="+start, "Accept", documentType))
	equal(t, "status", w.Code, 200)
	want := `{"messages":[{"id":"` + ids[0] + `","data":"a\u003cb\nc"},` +
		`{"id":"` + string(binary) + `","event":"bin;base64","data":"` + base64.StdEncoding.EncodeToString([]byte{0xff}) + `"}],"next":"` + string(binary) + `"}`
	equal(t, "body", w.Body.String(), want)
	for name, want := range map[string]string{
		"Content-Type": documentType, "Cache-Control": "no-store", "Vary": "Accept", "X-Content-Type-Options": "nosniff",
		"Content-Length": fmt.Sprint(len(want)),
	} {
		equal(t, name, w.Header().Get(name), want)
	}
	head := httptest.NewRequest(http.MethodHead, "/?wait=30", nil)
	head.Header.Set("Accept", documentType)
	w = record(Handler(f, offered()), head)
	equal(t, "HEAD", fmt.Sprint(w.Code, w.Body.Len(), w.Header().Get("Content-Type")), "200 0"+documentType)

	finish(t, h, "t")
	p := getPage(t, Handler(f, offered()), "after="+start)
	equal(t, "the end", fmt.Sprint(len(p.Messages), p.End), "2 true")
	p = getPage(t, Handler(f, offered()), "wait=30&after="+p.Next)
	equal(t, "back at the end", fmt.Sprint(len(p.Messages), p.End), "0 true")
}

// TestPageForms: which requests get a page, and which parameters are the application's own.
func TestPageForms(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	id := publish(t, h, "t", "1")[0]
	f := Of(h, "t")
	state := f
	state.Snapshot = func(context.Context) (any, error) { return "state", nil }
	closed := Options{Logger: quiet()}
	for _, tc := range []struct {
		name, query, accept string
		f                   Feed
		o                   Options
		code                int
		body                string
	}{
		{"without parameters", "", documentType, f, offered(), 406, ""},
		{"the snapshot", "", documentType, state, offered(), 200, `"state"`},
		{"not offered", "limit=x&wait=x&after=x", documentType, f, closed, 406, ""},
		{"not offered, with a snapshot", "limit=x&wait=x&after=x", documentType, state, closed, 200, `"state"`},
		{"other parameters", "x=1&afterwards=1", documentType, state, offered(), 200, `"state"`},
		{"a page of a feed with a snapshot", "after=" + id, documentType, state, offered(), 200, `{"messages":[],"next":"` + id + `"}`},
		{"an empty cursor", "after=", documentType, f, offered(), 200, `{"messages":[],"next":"` + id + `"}`},
		{"limit 0", "limit=0", documentType, f, offered(), 400, `{"error":"limit can be 1 to 100"}`},
		{"limit of letters", "limit=x", documentType, f, offered(), 400, `{"error":"limit can be 1 to 100"}`},
		{"another limit", "limit=x", documentType, f, Options{History: &History{Limit: 5000}, Logger: quiet()}, 400, `{"error":"limit can be 1 to 1000"}`},
		{"wait of letters", "wait=x", documentType, f, offered(), 400, `{"error":"wait can be a duration up to 30s, or a number of seconds"}`},
		{"wait below 0", "wait=-1s", documentType, f, offered(), 400, `{"error":"wait can be a duration up to 30s, or a number of seconds"}`},
		{"a bad start", "start=x&limit=1", documentType, f, Options{History: &History{}, Starts: Starts{Earliest: true}, Logger: quiet()}, 400, `{"error":"start can be latest, earliest"}`},
		{"a start", "start=earliest&limit=1", documentType, f, Options{History: &History{}, Starts: Starts{Earliest: true}, Logger: quiet()}, 200, `{"messages":[{"id":"` + id + `","data":"1"}],"next":"` + id + `"}`},
	} {
		w := record(Handler(tc.f, tc.o), get("/?"+tc.query, "Accept", tc.accept))
		equal(t, tc.name, w.Code, tc.code)
		if tc.body != "" {
			equal(t, tc.name, w.Body.String(), tc.body)
		}
	}
	r := get("/?limit=1", "Accept", streamType+", "+documentType)
	equal(t, "a stream by name", serveFirst(t, f, r), streamHeader)
	isCause(t, Serve(newRecorder(), get("/?limit=x", "Accept", documentType), f, offered()), ErrParameter)
	r = get("/?limit=1", "Accept", documentType)
	r.Header.Set("Last-Event-ID", "malformed")
	w := record(Handler(f, offered()), r)
	equal(t, "the cursor of the header", w.Body.String(), `{"messages":[],"next":"`+id+`","gap":true}`)
}

// serveFirst returns the type of an answer that may be a stream.
func serveFirst(t testing.TB, f Feed, r *http.Request) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := &limitWriter{ResponseRecorder: newRecorder(), cancel: cancel}
	_ = Serve(w, r.WithContext(ctx), f, offered())
	return w.Header().Get("Content-Type")
}

func TestWaiting(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"20s": 20 * time.Second, "20": 20 * time.Second, "1.5": 1500 * time.Millisecond, "0": 0, "0s": 0, "1h": 30 * time.Second,
		"1e300": 30 * time.Second, "Inf": 30 * time.Second, "99999999999999999999": 30 * time.Second,
		"-1": -1, "-1s": -1, "NaN": -1, "": -1, "x": -1, "-Inf": -1,
	} {
		got, ok := waiting(text, 30*time.Second)
		if !ok {
			got = -1
		}
		equal(t, text, got, want)
	}
}

// TestPageWaits: a waiting page ends with the first message, with the time, and never too late.
func TestPageWaits(t *testing.T) {
	for _, topics := range [][]string{{"a"}, {"a", "b"}} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, nil, hub.Options{})
			f := Of(h, topics...)
			begun := time.Now()
			p, _, _ := pageOf(t, f, offered(), "wait=20s")()
			equal(t, "nothing comes", fmt.Sprint(time.Since(begun), len(p.Messages), p.Gap), "20s 0 false")
			begun = time.Now()
			answer := pageOf(t, f, offered(), "wait=1h&after="+p.Next)
			p, _, _ = answer()
			equal(t, "longer than is offered", time.Since(begun), 30*time.Second)

			begun = time.Now()
			answer = pageOf(t, f, offered(), "wait=20s&after="+p.Next)
			time.Sleep(5 * time.Second)
			publish(t, h, topics[len(topics)-1], "1")
			p, _, _ = answer()
			equal(t, "a message comes", fmt.Sprint(time.Since(begun), len(p.Messages)), "5s 1")
			publish(t, h, topics[0], "2")
			begun = time.Now()
			p, _, _ = pageOf(t, f, offered(), "wait=20s&after="+p.Next)()
			equal(t, "a message is there", fmt.Sprint(time.Since(begun), len(p.Messages), p.Messages[0].Data), "0s 12")

			filtered := f
			filtered.Filter = func(_ string, m *hub.Message) bool { return string(m.Data) == "kept" }
			answer = pageOf(t, filtered, offered(), "wait=20s&after="+p.Next)
			time.Sleep(time.Second)
			publish(t, h, "a", "x", "y")
			synctest.Wait()
			before := newest(t, h, "a")
			p, _, _ = answer()
			equal(t, "all was filtered out", len(p.Messages), 0)
			p = getPage(t, Handler(f, offered()), "after="+p.Next)
			equal(t, "and the cursor has moved on", fmt.Sprint(len(p.Messages), before == newest(t, h, "a")), "0 true")
			equal(t, "subscriptions", h.Stats().Subscriptions, 0)
		})
	}
}

// TestPageEnds: what ends the waiting early.
func TestPageEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, nil, hub.Options{})
		f := Of(h, "t")
		begin := func(o Options, ctx context.Context) func() (page, error) {
			w := newRecorder()
			returned := make(chan error, 1)
			o.History, o.Logger = &History{}, quiet()
			r := get("/?wait=30", "Accept", documentType).WithContext(ctx)
			go func() { returned <- Serve(w, r, f, o) }()
			synctest.Wait()
			return func() (p page, err error) {
				err = <-returned
				if w.Body.Len() > 0 {
					_ = json.Unmarshal(w.Body.Bytes(), &p)
				}
				return p, err
			}
		}
		whole := func(what string, answer func() (page, error), want time.Duration) {
			t.Helper()
			begun := time.Now()
			p, err := answer()
			equal(t, what+": error", err, nil)
			equal(t, what+": next", p.Next, newest(t, h, "t"))
			if took := time.Since(begun); took > want {
				t.Errorf("%s: after %v, want %v", what, took, want)
			}
		}

		lease, err := h.Lease(t.Context(), "user")
		if err != nil {
			t.Fatal(err)
		}
		answer := begin(Options{}, lease)
		if err := h.Revoke(t.Context(), "user"); err != nil {
			t.Fatal(err)
		}
		whole("revoked", answer, 0)

		whole("expired", begin(Options{ExpireAt: time.Now().Add(time.Second)}, t.Context()), time.Second)

		drain := &Drain{Window: 2 * time.Second}
		var waiting []func() (page, error)
		for range 20 {
			waiting = append(waiting, begin(Options{Drain: drain}, t.Context()))
		}
		drain.Begin()
		begun := time.Now()
		for _, answer := range waiting {
			whole("drained", answer, 2*time.Second)
		}
		if took := time.Since(begun); took > 2*time.Second || took == 0 {
			t.Errorf("the drain of 20 took %v", took)
		}
		equal(t, "nobody is left", drain.Wait(t.Context()), nil)
		w := newRecorder()
		isCause(t, Serve(w, get("/?wait=30", "Accept", documentType), f, Options{Drain: drain, History: &History{}, Logger: quiet()}), ErrShutdown)
		equal(t, "who comes later", w.Code, http.StatusServiceUnavailable)

		ctx, leave := context.WithCancel(t.Context())
		answer = begin(Options{}, ctx)
		leave()
		_, err = answer()
		isCause(t, err, ErrClientGone)

		answer = begin(Options{}, t.Context())
		go func() { _ = h.Shutdown(context.Background()) }()
		begun = time.Now()
		p, err := answer()
		equal(t, "shut down", fmt.Sprint(err, p.Next != "", time.Since(begun)), "<nil> true 0s")
	})
}

// TestPageLimits: a page that waits is a stream to the Limits.
func TestPageLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, nil, hub.Options{})
		o := offered()
		o.Limits = &Limits{Max: 1}
		answer := pageOf(t, Of(h, "t"), o, "wait=10")
		synctest.Wait()
		equal(t, "open", o.Limits.Open(), 1)
		_, code, err := pageOf(t, Of(h, "t"), o, "wait=10")()
		isCause(t, err, ErrTooMany)
		equal(t, "status", code, http.StatusServiceUnavailable)
		if _, _, err := answer(); err != nil {
			t.Error(err)
		}
		equal(t, "open", o.Limits.Open(), 0)
	})
}

// TestPageFailures: what cannot be had is a status, and what was had before it is not lost.
func TestPageFailures(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	start := newest(t, h, "t")
	ids := publish(t, h, "t", "1", "2", "bad", "4")
	f := Of(h, "t")
	f.Map = func(_ string, m *hub.Message) []sse.Event {
		if string(m.Data) == "bad" {
			return []sse.Event{{Data: "a part"}, {Type: "gap", Data: "x"}}
		}
		return []sse.Event{{Type: "first", Data: "x"}, {Type: "second", Data: m.Data}}
	}
	p := getPage(t, Handler(f, offered()), "after="+start)
	equal(t, "before the failure", fmt.Sprint(p.Messages), fmt.Sprint([]pageMessage{{"", "first", "x"}, {ids[0], "second", "1"}, {"", "first", "x"}, {ids[1], "second", "2"}}))
	equal(t, "next", p.Next, ids[1])
	_, code, err := pageOf(t, f, offered(), "after="+p.Next)()
	equal(t, "status of the failure", code, http.StatusInternalServerError)
	if err == nil {
		t.Error("no error")
	}

	var o Options
	o.History, o.Logger, o.ConnectTimeout = &History{}, quiet(), 20*time.Millisecond
	b := &noReads{Backend: memory.New(memory.Options{})}
	down := newHub(t, b, hub.Options{})
	old := publish(t, down, "t", "1", "2")[0]
	_, code, err = pageOf(t, Of(down, "t"), o, "wait=30&after="+old)()
	equal(t, "status when the backend is away", code, http.StatusServiceUnavailable)
	isCause(t, err, ErrUnavailable)
	equal(t, "subscriptions", down.Stats().Subscriptions, 0)

	f.Map = func(string, *hub.Message) []sse.Event { panic("user code") }
	func() {
		defer func() { equal(t, "panic", recover(), any("user code")) }()
		_ = Serve(newRecorder(), get("/?after="+start, "Accept", documentType), f, offered())
	}()
	equal(t, "subscriptions", h.Stats().Subscriptions, 0)
}

// noReads is a backend whose reads fail.
type noReads struct{ hub.Backend }

func (noReads) Read(context.Context, string, hub.ID, int) (hub.Page, error) {
	return hub.Page{}, errors.New("down")
}

// TestPageOfMuchFiltered: a request comes to its end, and the cursor moves.
func TestPageOfMuchFiltered(t *testing.T) {
	h := newHub(t, memory.New(memory.Options{MaxMessages: 1 << 20}), hub.Options{})
	start := newest(t, h, "t")
	const n = 30_000
	for range n {
		publish(t, h, "t", "x")
	}
	f := Of(h, "t")
	var asked int
	f.Filter = func(string, *hub.Message) bool { asked++; return false }
	cursor, requests := start, 0
	for end := newest(t, h, "t"); cursor != end; requests++ {
		p := getPage(t, Handler(f, offered()), "after="+cursor)
		if p.Next == cursor || p.Gap || len(p.Messages) > 0 {
			t.Fatalf("a page that does not go on: %+v", p)
		}
		cursor = p.Next
	}
	equal(t, "asked", asked, n)
	if requests < 2 || requests > 10 {
		t.Errorf("%d requests", requests)
	}
}

// TestPageBytes: a page of large messages ends after about a mebibyte.
func TestPageBytes(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	start := newest(t, h, "t")
	for range 40 {
		publish(t, h, "t", strings.Repeat("x", 100<<10))
	}
	got, cursor := 0, start
	for got < 40 {
		p := getPage(t, Handler(Of(h, "t"), offered()), "after="+cursor)
		if n := len(p.Messages); n < 1 || n > 11 || p.Gap {
			t.Fatalf("a page of %d messages", n)
		}
		got += len(p.Messages)
		cursor = p.Next
	}
}

// TestPollersAndStream: pollers get the messages of the stream, whatever is between two polls.
func TestPollersAndStream(t *testing.T) {
	h := newHub(t, nil, hub.Options{Window: 16})
	topics := []string{"a", "b"}
	s := server(t, Handler(Of(h, topics...), Options{History: &History{Limit: 7}, Logger: quiet()}))
	const each = 300
	var pollers, publishers sync.WaitGroup
	for range 4 {
		cursor := getPage(t, s.Config.Handler, "limit=1").Next
		pollers.Go(func() {
			got := map[string]int{}
			for got["a"]+got["b"] < 2*each {
				p := getPage(t, s.Config.Handler, "wait=20&after="+cursor)
				if cursor = p.Next; p.Gap {
					t.Error("a gap")
					return
				}
				for _, m := range p.Messages {
					topic, n, _ := strings.Cut(m.Data, " ")
					if n != fmt.Sprint(got[topic]) {
						t.Errorf("%s: %s behind %d messages", topic, n, got[topic])
						return
					}
					got[topic]++
				}
			}
		})
	}
	for _, topic := range topics {
		publishers.Go(func() {
			for n := range each {
				publish(t, h, topic, fmt.Sprint(topic, " ", n))
			}
		})
	}
	publishers.Wait()
	pollers.Wait()
}
