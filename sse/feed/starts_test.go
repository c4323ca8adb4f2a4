package feed

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed/internal/cursor"
)

func TestStartsPosition(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	all := Starts{Earliest: true, Last: 50, Since: time.Hour}
	none, refused := hub.Position{}, false
	for _, tc := range []struct {
		starts Starts
		text   string
		want   hub.Position
		ok     bool
	}{
		{all, "latest", hub.Latest(), true},
		{all, "earliest", hub.Earliest(), true},
		{all, "last:20", hub.Last(20), true},
		{all, "last:50", hub.Last(50), true},
		{all, "last:51", hub.Last(50), true},
		{all, "last:99999999999999999999999", hub.Last(50), true},
		{all, "since:10m", hub.Since(now.Add(-10 * time.Minute)), true},
		{all, "since:1000h", hub.Since(now.Add(-time.Hour)), true},
		{all, "since:2026-01-02T15:00:00Z", hub.Since(now.Add(-4*time.Minute - 5*time.Second)), true},
		{all, "since:2020-01-02T15:00:00Z", hub.Since(now.Add(-time.Hour)), true},
		{all, "Latest", none, refused},
		{all, "last", none, refused},
		{all, "last:", none, refused},
		{all, "last:0", none, refused},
		{all, "last:-1", none, refused},
		{all, "last:+1", none, refused},
		{all, "last:1.5", none, refused},
		{all, "since:", none, refused},
		{all, "since:0s", none, refused},
		{all, "since:-1m", none, refused},
		{all, "since:yesterday", none, refused},
		{all, "since:20", none, refused},
		{all, "earliest:1", none, refused},
		{Starts{Last: 1}, "earliest", none, refused},
		{Starts{Earliest: true, Last: -1}, "last:1", none, refused},
		{Starts{Last: 1, Since: -1}, "since:1m", none, refused},
		{Starts{Since: time.Minute}, "latest", hub.Latest(), true},
	} {
		at, ok := tc.starts.position(tc.text, now)
		equal(t, tc.text+" is allowed", ok, tc.ok)
		if ok && at != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.text, at, tc.want)
		}
	}
	if at, _ := all.position("since:2026-01-02T16:59:05+02:00", now); at == none {
		t.Error("an offset")
	}
	escaped, _ := all.position("since:2026-01-02T16:59:05 02:00", now)
	plain, _ := all.position("since:2026-01-02T16:59:05+02:00", now)
	equal(t, "an offset that was not escaped", escaped, plain)
}

// TestStarts: what a request chooses, what it may not, and what counts more.
func TestStarts(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	ids := publish(t, h, "t", "1", "2", "3")
	offered := Options{Starts: Starts{Last: 2, Since: time.Hour}, Logger: quiet()}
	closed := Options{Start: hub.Last(1), Logger: quiet()}
	for _, tc := range []struct {
		query, cursor string
		o             Options
		want          string
	}{
		{"start=last:1", "", offered, checkpoint(ids[1]) + event(ids[2], "3")},
		{"start=last:1000", "", offered, checkpoint(ids[0]) + event(ids[1], "2")},
		{"start=since%3A10m", "", offered, prelude + event(ids[0], "1")},
		{"start=latest", "", offered, checkpoint(ids[2])},
		{"start=", "", offered, checkpoint(ids[2])},
		{"start=last:2", ids[1], offered, prelude + event(ids[2], "3")},
		{"start=last:2", "malformed", offered, prelude + "event: gap\ndata: {}\nid: ID\n\n" + event(ids[1], "2")},
		{"start=earliest&start=last:2", "", closed, checkpoint(ids[1]) + event(ids[2], "3")}, // the application's own
	} {
		got := serveLong(t, Handler(Of(h, "t"), tc.o), "/?"+tc.query, tc.cursor, strings.Count(tc.want, "\n\n"))
		equal(t, tc.query+" with the cursor "+tc.cursor, got, tc.want)
	}
	for _, query := range []string{"start=earliest", "start=last:x", "start=%zz", "start=1"} {
		for _, cursor := range []string{"", ids[0]} {
			r := get("/?"+query, "Accept", streamType)
			if cursor != "" {
				r.Header.Set("Last-Event-ID", cursor)
			}
			w := record(Handler(Of(h, "t"), offered), r)
			equal(t, query, w.Code, http.StatusBadRequest)
			equal(t, "text", w.Body.String(), `{"error":"start can be latest, last:1 to last:2, since: and a duration up to 1h0m0s or a time as in RFC 3339"}`)
		}
	}
	isCause(t, Serve(newRecorder(), get("/?start=earliest"), Of(h, "t"), offered), ErrParameter)
}

// TestUnknownIsBounded: garbage and forged cursors bring no more than the bound.
func TestUnknownIsBounded(t *testing.T) {
	h := newHub(t, nil, hub.Options{Window: 8})
	other := newHub(t, nil, hub.Options{})
	topics := []string{"a", "b", "c"}
	line := strings.Repeat("x", 100)
	foreign := make(map[string]string)
	for _, topic := range topics {
		for range 3000 {
			publish(t, h, topic, line)
		}
		foreign[topic] = publish(t, other, topic, "1")[0]
	}
	vector := cursor.New(topics)
	for _, tc := range []struct {
		name            string
		messages, bytes int
		o               Options
	}{
		{"by default", 1000, 1 << 20, Options{}},
		{"messages", 30, 1 << 20, Options{ReplayMessages: 30}},
		{"bytes", 1000, 2000, Options{ReplayBytes: 2000}},
	} {
		for _, of := range [][]string{topics[:1], topics} {
			t.Run(fmt.Sprint(tc.name, of), func(t *testing.T) {
				o := tc.o
				o.Logger, o.History = quiet(), &History{Limit: 1000}
				handler := Handler(Of(h, of...), o)
				for i := range 20 {
					forged := foreign["a"][:13] + strconv.Itoa(1000+i)
					if len(of) > 1 {
						at := []hub.ID{hub.ID(forged), hub.ID(foreign["b"]), hub.ID(foreign["c"])}
						forged = string(vector.Append(nil, at))
					}
					for _, text := range []string{"garbage " + strconv.Itoa(i), forged} {
						p := getPage(t, handler, "after="+text)
						equal(t, "gap", p.Gap, true)
						bytes := 0
						for _, m := range p.Messages {
							bytes += len(m.Data)
						}
						if n := len(p.Messages); n > tc.messages || bytes > tc.bytes+100 || text == forged && n == 0 {
							t.Errorf("%q: %d messages of %d bytes", text, n, bytes)
						}
						again := getPage(t, handler, "after="+p.Next)
						equal(t, "the next page has a gap", again.Gap, false)
						equal(t, "messages of the next page", len(again.Messages), 0)
					}
				}
			})
		}
	}
}

// TestMalformedIsNoLoop: a client with a malformed cursor at a feed from the oldest message, all of
// whose messages are filtered out, is given a cursor with the gap, and comes back without one.
func TestMalformedIsNoLoop(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	last := publish(t, h, "t", "1", "2")[1]
	f := Of(h, "t")
	f.Filter = func(_ string, m *hub.Message) bool { return string(m.Data) == "kept" }
	o := offered()
	o.Start = hub.Earliest()
	s := server(t, Handler(f, o))
	c := connect(t, s.Client(), s.URL, "malformed")
	block := c.block(t)
	equal(t, "gap", block, prelude+"event: gap\ndata: {}\nid: "+idOf(block)+"\n\n")
	c.leave()
	c = connect(t, s.Client(), s.URL, idOf(block))
	id := publish(t, h, "t", "kept")[0]
	equal(t, "back", c.block(t), prelude+event(id, "kept"))
	p := getPage(t, s.Config.Handler, "limit=2&after=malformed")
	equal(t, "page", fmt.Sprint(p.Gap, p.Next != "", p.Next != last), "true true true")
	equal(t, "next page", getPage(t, s.Config.Handler, "after="+p.Next).Gap, false)
}
