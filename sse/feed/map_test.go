package feed

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

func checkpointEvent(id string) string { return "event: checkpoint\ndata: \nid: " + id + "\n\n" }

// TestFilter: what is filtered is passed over; the cursor follows at the next heartbeat, or at a
// clean end.
func TestFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, nil, hub.Options{})
		f := Of(h, "t")
		f.Filter = func(topic string, m *hub.Message) bool { return topic == "t" && string(m.Data) != "no" }
		onEnd, end := ends()
		drain := &Drain{Window: -1}
		client, stop := memServer(Handler(f, Options{Logger: quiet(), OnEnd: onEnd, NoRotation: true, Drain: drain}), false, nil)
		defer stop()
		c := connect(t, client, "http://memory/", "")
		c.primed(t)
		ids := publish(t, h, "t", "no", "yes", "no", "no")
		equal(t, "the one", c.block(t), event(ids[1], "yes"))
		time.Sleep(14 * time.Second)
		ids = append(ids, publish(t, h, "t", "no")...)
		equal(t, "checkpoint", c.block(t), checkpointEvent(ids[4]))
		ids = append(ids, publish(t, h, "t", "no")...)
		synctest.Wait()
		drain.Begin()
		equal(t, "rest", c.rest(t), checkpointEvent(ids[5])+"retry: N\n")
		equal(t, "events", (<-end).Events, 1)
	})
}

// TestFilterGap: a gap is said although the message behind it is filtered, with the place to come
// back to.
func TestFilterGap(t *testing.T) {
	h := newHub(t, memory.New(memory.Options{MaxMessages: 1}), hub.Options{Window: 1})
	f := Of(h, "t")
	f.Filter = func(string, *hub.Message) bool { return false }
	s := httptest.NewServer(Handler(f, Options{Logger: quiet()}))
	defer s.Close()
	ids := publish(t, h, "t", "a", "b", "c")
	c := connect(t, s.Client(), s.URL, ids[0])
	equal(t, "gap", c.block(t), prelude+"event: gap\ndata: {}\nid: "+ids[2]+"\n\n")
	c.leave()
}

// TestFilterHistory: a stream that is filtered whole still gets to its end, with pages and all.
func TestFilterHistory(t *testing.T) {
	h := newHub(t, nil, hub.Options{Window: 8})
	f := Of(h, "t")
	seen := 0
	f.Filter = func(string, *hub.Message) bool { seen++; return false }
	start := publish(t, h, "t", "0")[0]
	for i := range 5000 {
		publish(t, h, "t", fmt.Sprint(i))
	}
	last := finish(t, h, "t")
	s := httptest.NewServer(Handler(f, Options{Logger: quiet()}))
	defer s.Close()
	equal(t, "stream", connect(t, s.Client(), s.URL, start).rest(t), prelude+"retry: N\nevent: close\ndata: \nid: "+last+"\n\n")
	equal(t, "messages that were looked at", seen, 5000)
}

func TestMap(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	f := Of(h, "t")
	f.Map = func(_ string, m *hub.Message) (events []sse.Event) {
		for word := range strings.FieldsSeq(string(m.Data)) {
			events = append(events, sse.Event{Type: "word", Data: word, ID: "mine"})
		}
		return events
	}
	onEnd, end := ends()
	s := httptest.NewServer(Handler(f, Options{Logger: quiet(), OnEnd: onEnd}))
	defer s.Close()
	c := connect(t, s.Client(), s.URL, "")
	c.primed(t)
	ids := publish(t, h, "t", "a b", "", "c")
	last := finish(t, h, "t")
	equal(t, "stream", c.rest(t), "event: word\ndata: a\n\nevent: word\ndata: b\nid: "+ids[0]+"\n\n"+
		"event: word\ndata: c\nid: "+ids[2]+"\n\nretry: N\nevent: close\ndata: \nid: "+last+"\n\n")
	equal(t, "events", (<-end).Events, 3)
}

// TestMapFails: what cannot be sent breaks the stream off, behind what came before it, and says
// nothing of itself.
func TestMapFails(t *testing.T) {
	for name, bad := range map[string]sse.Event{
		"line break in the type": {Type: "a\nb", Data: "x"},
		"reserved type":          {Type: "gap", Data: "x"},
		"no JSON":                {Data: func() {}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, nil, hub.Options{})
			f := Of(h, "t")
			f.Map = func(_ string, m *hub.Message) []sse.Event {
				if string(m.Data) == "bad" {
					return []sse.Event{{Data: "half"}, bad}
				}
				return []sse.Event{{Data: string(m.Data)}}
			}
			onEnd, end := ends()
			s := httptest.NewServer(Handler(f, Options{Logger: quiet(), OnEnd: onEnd}))
			defer s.Close()
			c := connect(t, s.Client(), s.URL, "")
			c.primed(t)
			ids := publish(t, h, "t", "good", "bad", "good")
			equal(t, "before", c.block(t), event(ids[0], "good"))
			isCause(t, (<-end).Cause, ErrFailed)
		})
	}
}

// TestMapPanics: a panic of the user's code breaks the stream off and reaches who can recover it.
func TestMapPanics(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	f := Of(h, "t")
	f.Filter = func(string, *hub.Message) bool { panic("of the user") }
	start := publish(t, h, "t", "0")[0]
	publish(t, h, "t", "a")
	onEnd, end := ends()
	defer func() {
		equal(t, "panic", recover(), any("of the user"))
		isCause(t, (<-end).Cause, ErrPanicked)
	}()
	_ = Serve(httptest.NewRecorder(), get("/", "Last-Event-ID", start), f, Options{Logger: quiet(), OnEnd: onEnd})
}

func TestHello(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	f := Of(h, "t")
	var err error
	f.Hello = func(context.Context) (sse.Event, error) {
		return sse.Event{Type: "hello", Data: map[string]string{"name": "ada"}, ID: "mine"}, err
	}
	const hello = "event: hello\ndata: {\"name\":\"ada\"}\n\n"
	s := httptest.NewServer(Handler(f, Options{Logger: quiet()}))
	defer s.Close()
	c := connect(t, s.Client(), s.URL, "")
	equal(t, "hello", c.block(t), prelude+hello)
	start := idOf(c.block(t))
	c.leave()
	id := publish(t, h, "t", "a")[0]
	c = connect(t, s.Client(), s.URL, start)
	equal(t, "resumed", c.block(t), prelude+hello)
	equal(t, "message", c.block(t), event(id, "a"))
	c.leave()
	err = Status(404, nil)
	equal(t, "refused", record(Handler(f, Options{Logger: quiet()}), get("/")).Code, 404)
	err = errors.New("later")
	checkLater(t, record(Handler(f, Options{Logger: quiet()}), get("/", "Accept", streamType)), true)
	f.Hello = func(context.Context) (sse.Event, error) { return sse.Event{Type: "checkpoint", Data: ""}, nil }
	equal(t, "reserved", record(Handler(f, Options{Logger: quiet()}), get("/")).Code, 500)
}

// TestMapFailsBehindGap: the message that could not be sent is not passed.
func TestMapFailsBehindGap(t *testing.T) {
	h := newHub(t, memory.New(memory.Options{MaxMessages: 1}), hub.Options{Window: 1})
	f := Of(h, "t")
	f.Map = func(string, *hub.Message) []sse.Event { return []sse.Event{{Type: "close", Data: "x"}} }
	s := httptest.NewServer(Handler(f, Options{Logger: quiet()}))
	defer s.Close()
	c := connect(t, s.Client(), s.URL, publish(t, h, "t", "a", "b", "c")[0])
	equal(t, "gap", c.block(t), prelude+gapEvent)
}
