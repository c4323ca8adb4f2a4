package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/headrace/headrace/hub"
)

// canaryRaw is a raw value that no sensor has by itself, and stands for maintenance data.
const canaryRaw = 47110815

var backendURLs = []string{"memory://", "miniredis://dashboard"}

// TestViewerSeesNoMaintenance: neither of what is retained nor of what comes, in no topic, and not
// with an operator's cursor either.
func TestViewerSeesNoMaintenance(t *testing.T) {
	for _, url := range backendURLs {
		t.Run(url, func(t *testing.T) {
			a := serve(t, newHub(t, url), nil)
			load, alarms := metricsTopic("oslo", "load"), alarmsTopic("oslo")
			start := a.follow("Otto", "oslo", "").greeted()
			round := func(n int64) {
				a.publish(load, reading{Seq: n, Raw: 1000}, reading{Seq: n + 1, Raw: canaryRaw, Calibration: true}, reading{Seq: n + 2, Raw: 1001})
				a.publish(alarms, note{Sensor: "load", Text: "canary of the team"}, alarm{Sensor: "load", Raised: n == 1}, note{Sensor: "load", Text: "canary again"})
			}
			expect := func(s *stream, seqs []int64, notes int) {
				t.Helper()
				var got []int64
				for range len(seqs) + notes + 1 { // and an alarm
					switch c := s.next(); c.kind {
					case "point", "calibration":
						got = append(got, c.Seq)
					case "note":
						notes--
					case "alarm":
					default:
						t.Fatalf("unexpected %+v", c)
					}
				}
				if !slices.Equal(got, seqs) || notes != 0 {
					t.Errorf("got the readings %v, want %v, and %d notes too few", got, seqs, notes)
				}
			}
			round(1)
			expect(start, []int64{1, 2, 3}, 2)
			viewers := []*stream{
				a.follow("Vera", "oslo", "").greeted(),
				// A cursor says where somebody is, not what is allowed there: this one is an
				// operator's, from before the maintenance.
				a.follow("Vera", "oslo", start.firstCursor()).greeted(),
			}
			expect(viewers[0], []int64{1, 3}, 0)
			round(4)
			expect(viewers[0], []int64{4, 6}, 0)
			for _, s := range viewers {
				s.lacks("canary", fmt.Sprint(canaryRaw), fmt.Sprint(sensors[1].value(canaryRaw)), "maintenance", "calibration", "note")
			}
			expect(start, []int64{4, 5, 6}, 2)
			if !strings.Contains(start.all.String(), "canary") {
				t.Error("the operator does not see it")
			}
		})
	}
}

// firstCursor returns the first id on a stream.
func (s *stream) firstCursor() string {
	s.t.Helper()
	_, rest, ok := bytes.Cut(s.all.Bytes(), []byte("id: "))
	id, _, _ := bytes.Cut(rest, []byte("\n"))
	if !ok || len(id) == 0 {
		s.t.Fatalf("no id on %s", s.all.String())
	}
	return string(id)
}

// TestCheckpointAndRoleChange: a checkpoint moves a viewer's cursor past what the viewer does not
// get. Who comes back with it as an operator sees what comes from then on, and not what was passed;
// without a cursor everything; and an operator who comes back as a viewer sees no more of it.
func TestCheckpointAndRoleChange(t *testing.T) {
	for _, url := range backendURLs {
		t.Run(url, func(t *testing.T) {
			h := newHub(t, url)
			first := serve(t, h, nil)
			alarms := alarmsTopic("oslo")
			first.publish(alarms, alarm{Sensor: "load", Raised: true})
			vera := first.follow("Vera", "oslo", "").greeted()
			if c := vera.next(); c.kind != "alarm" {
				t.Fatalf("got %+v", c)
			}
			before := vera.cursor
			first.publish(alarms, note{Sensor: "load", Text: "one"}, note{Sensor: "load", Text: "two"})
			// The operator's stream shows that the hub has them, which is when the viewer's has
			// passed them.
			otto := first.follow("Otto", "oslo", before).greeted()
			otto.next()
			otto.next()
			first.stop()
			for {
				e, ok := vera.decode()
				if !ok {
					break
				}
				if e.Type != "checkpoint" {
					t.Errorf("the viewer got %+v", e)
				}
			}
			if vera.cursor == before {
				t.Fatal("no checkpoint moved the cursor")
			}
			vera.lacks("one", "two")

			second := serve(t, h, nil)
			for _, tc := range []struct {
				name, as, cursor string
				want             []string
			}{
				{"as an operator from the checkpoint on", "Otto", vera.cursor, []string{"three"}},
				{"as an operator from before", "Otto", before, []string{"one", "two", "three"}},
				{"as an operator anew", "Otto", "", []string{"above 90 %", "one", "two", "three"}},
				{"as a viewer with an operator's cursor", "Vera", otto.cursor, nil},
			} {
				s := second.follow(tc.as, "oslo", tc.cursor)
				if c := s.next(); c.kind != "hello" || c.Name != tc.as || string(c.Role) != map[string]string{"Vera": "viewer", "Otto": "operator"}[tc.as] {
					t.Errorf("%s: greeted with %+v", tc.name, c)
				}
				if tc.name == "as an operator from the checkpoint on" {
					second.publish(alarms, note{Sensor: "load", Text: "three"})
				}
				for _, want := range tc.want {
					if c := s.next(); c.Text != want {
						t.Errorf("%s: got %+v, want %q", tc.name, c, want)
					}
				}
				if tc.want == nil {
					second.publish(alarms, alarm{Sensor: "load"})
					if c := s.next(); c.kind != "alarm" {
						t.Errorf("%s: got %+v", tc.name, c)
					}
					s.lacks("three")
				}
			}
		})
	}
}

// TestReconnect: whoever comes back with the cursor gets each message of each topic that is for
// them, once and in order, wherever the stream was cut.
func TestReconnect(t *testing.T) {
	for _, url := range backendURLs {
		for _, p := range people {
			t.Run(p.Name+" "+url, func(t *testing.T) {
				const each = 60
				a := serve(t, newHub(t, url), nil)
				r := rand.New(rand.NewPCG(7, 7))
				all := p.Role == operator
				topics := []string{"alarms"}
				want := map[string][]string{}
				for _, s := range sensors {
					topics = append(topics, s.Name)
				}
				total := 0
				for _, topic := range topics {
					for n := 1; n <= each; n++ {
						if all || n%5 != 0 {
							want[topic] = append(want[topic], fmt.Sprint(n))
							total++
						}
					}
				}
				// publish publishes one message, of any topic, and reports whether it is for this
				// person; when there are no more it has nothing to do.
				published := make(map[string]int64)
				publish := func() bool {
					if len(topics) == 0 {
						return true
					}
					i := r.IntN(len(topics))
					topic := topics[i]
					published[topic]++
					n := published[topic]
					if n == each {
						topics = slices.Delete(topics, i, i+1)
					}
					switch {
					case topic != "alarms":
						a.publish(metricsTopic("turin", topic), reading{Seq: n, Raw: 1, Calibration: n%5 == 0})
					case n%5 == 0:
						a.publish(alarmsTopic("turin"), note{Sensor: "load", At: n})
					default:
						a.publish(alarmsTopic("turin"), alarm{Sensor: "load", At: n})
					}
					a.publish(metricsTopic("oslo", "load"), reading{Seq: 1, Raw: 1}) // another site's, for nobody here
					return all || n%5 != 0
				}
				got := map[string][]string{}
				cursor, connections := "", 0
				for seen := 0; seen < total; connections++ {
					s := a.follow(p.Name, "turin", cursor).greeted()
					for range min(1+r.IntN(12), total-seen) {
						for range 2 {
							for !publish() {
							}
						}
						c := s.next()
						topic, n := c.Sensor, c.Seq
						if c.kind == "note" || c.kind == "alarm" {
							topic, n = "alarms", c.At
						}
						got[topic] = append(got[topic], fmt.Sprint(n))
						seen++
					}
					cursor = s.cursor
					_ = s.body.Close()
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("on %d connections got\n%v\nwant\n%v", connections, got, want)
				}
				if connections < 10 {
					t.Errorf("%d connections are not many", connections)
				}
			})
		}
	}
}

// TestMap: raw readings become what the chart needs, and what cannot be read is passed over.
func TestMap(t *testing.T) {
	a := serve(t, newHub(t, "memory://"), nil)
	s := a.follow("Vera", "oslo", "")
	if c := s.next(); c.kind != "hello" || len(c.Sensors) != len(sensors) || c.Sensors[0].Unit != "°C" || c.Sensors[0].Limit != 80 {
		t.Errorf("hello is %+v", c)
	}
	foreign := func(topic string, messages ...hub.Message) {
		for _, m := range messages {
			if _, err := a.hub.Publish(t.Context(), topic, m); err != nil {
				t.Fatal(err)
			}
		}
	}
	temperature := metricsTopic("oslo", "temperature")
	foreign(temperature,
		hub.Message{Data: []byte(`{"seq":1,"raw":1}`)},
		hub.Message{Type: "secret", Data: []byte(`{"seq":1,"raw":1}`)},
		hub.Message{Type: typeReading, Data: []byte("junk")},
		hub.Message{Type: typeReading, Data: []byte("null")},
		hub.Message{Type: typeReading, Data: []byte{0xff}, Binary: true},
	)
	foreign(alarmsTopic("oslo"), hub.Message{Type: typeAlarm, Data: []byte(`{"sensor":"nose"}`)}, hub.Message{Type: typeAlarm, Data: []byte("junk")})
	a.publish(temperature, reading{Seq: 2, At: 5, Raw: 71449}, reading{Seq: 3, Raw: 80049}, reading{Seq: 4, Raw: 80051})
	for _, want := range []content{
		{kind: "point", Sensor: "temperature", Seq: 2, At: 5, Value: 71.4, Unit: "°C"},
		{kind: "point", Sensor: "temperature", Seq: 3, Value: 80, Unit: "°C"},
		{kind: "point", Sensor: "temperature", Seq: 4, Value: 80.1, Unit: "°C", Hot: true},
	} {
		if got := s.next(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	a.publish(alarmsTopic("oslo"), alarm{Sensor: "temperature", Raised: true})
	if got := s.next(); got.kind != "alarm" || !got.Raised || got.Text != "above 80 °C" {
		t.Errorf("got %+v", got)
	}
	s.lacks("71449", "junk")
}

func TestRefusals(t *testing.T) {
	a := serve(t, newHub(t, "memory://"), nil)
	vera := []string{"Cookie", sessionCookie + "=Vera"}
	tests := []struct {
		name, method, path, body string
		header                   []string
		code                     int
		want                     string
	}{
		{"nobody", "GET", "/sites/oslo/events", "", nil, 401, ""},
		{"a name that nobody has", "GET", "/sites/oslo/events", "", []string{"Cookie", sessionCookie + "=Mallory"}, 401, ""},
		{"no such site", "GET", "/sites/paris/events", "", vera, 404, ""},
		{"a site that looks like a topic", "GET", "/sites/oslo%2Fload/events", "", vera, 404, ""},
		{"session of nobody", "GET", "/session", "", nil, 200, `"name":""`},
		{"session", "GET", "/session", "", vera, 200, `"name":"Vera"`},
		{"sign in", "POST", "/session", `{"name":"Otto"}`, nil, 200, `"role":"operator"`},
		{"sign in as nobody", "POST", "/session", `{"name":"Mallory"}`, nil, 403, "nobody of this name"},
		{"sign in without JSON", "POST", "/session", `Otto`, nil, 400, "must be JSON"},
		{"sign in with much", "POST", "/session", strings.Repeat(" ", 2000) + `{"name":"Otto"}`, nil, 400, "must be JSON"},
		{"from a page of another site", "POST", "/session", `{"name":"Otto"}`, []string{"Origin", "http://elsewhere.example"}, 403, ""},
		{"no such path", "GET", "/nix", "", nil, 404, `{"error":`},
		{"wrong method", "DELETE", "/session", "", nil, 405, `{"error":`},
		{"the page", "GET", "/", "", nil, 200, "<title>Machines"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			code, answer := a.do(test.method, test.path, test.body, test.header...)
			if code != test.code || !strings.Contains(answer, test.want) {
				t.Errorf("status %d, %s; want %d and %s", code, answer, test.code, test.want)
			}
		})
	}
}
