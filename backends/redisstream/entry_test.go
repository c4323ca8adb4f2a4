package redisstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/headrace/headrace/hub"
)

// asStored returns the fields of m as Redis would return them.
func asStored(m *hub.Message) []string {
	args, _ := appendFields(nil, m)
	var fields []string
	for _, a := range args {
		fields = append(fields, a.(string))
	}
	return append(fields, string(m.Data))
}

// announced returns what the script publishes for fields.
func announced(prev, id string, fields []string) string {
	var lengths []string
	for _, f := range fields {
		lengths = append(lengths, strconv.Itoa(len(f)))
	}
	return fmt.Sprintf("%s %s %s\n%s", prev, id, strings.Join(lengths, ","), strings.Join(fields, ""))
}

func sameMessage(a, b *hub.Message) bool {
	return a.Type == b.Type && bytes.Equal(a.Data, b.Data) && a.Binary == b.Binary && a.Final == b.Final && maps.Equal(a.Headers, b.Headers)
}

func TestEntryOfForeignProgram(t *testing.T) {
	d := decoder{foreign: Entry.JSON}
	for _, test := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"one field", []string{"temp", "21"}, `{"temp":"21"}`},
		{"order and repetition", []string{"b", "1", "a", "2", "b", "3"}, `{"b":"1","a":"2","b":"3"}`},
		{"markup", []string{"<a>", "&"}, `{"<a>":"&"}`},
		{"not UTF-8", []string{"x", "\xff"}, `{"x":"\ufffd"}`},
		{"quotes and lines", []string{"\"", "\r\n"}, `{"\"":"\r\n"}`},
		{"our mark in another version", []string{"hr", "2", "data", "x"}, `{"hr":"2","data":"x"}`},
		{"our mark without a value", []string{"hr", "", "data", "x"}, `{"hr":"","data":"x"}`},
		{"our mark in another place", []string{"a", "b", "hr", "1"}, `{"a":"b","hr":"1"}`},
		{"a name without a value", []string{"odd"}, `{}`},
		{"nothing", nil, `{}`},
	} {
		m, ok := d.message("1700000000000-7", test.fields)
		if !ok || string(m.Data) != test.want || m.Type != "" || m.Binary {
			t.Errorf("%s: %+v, %v, want %s", test.name, m, ok, test.want)
		}
		if m.ID != "1700000000000-7" || !m.Time.Equal(time.UnixMilli(1700000000000)) {
			t.Errorf("%s: ID %q, time %v", test.name, m.ID, m.Time)
		}
	}
}

func TestForeignMappingThatPanics(t *testing.T) {
	d := decoder{foreign: func(Entry) hub.Message { panic("poison") }}
	if m, ok := d.message("1-1", []string{"a", "b"}); !ok || string(m.Data) != `{"a":"b"}` {
		t.Errorf("%+v, %v", m, ok)
	}
}

func TestParseID(t *testing.T) {
	for s, want := range map[string]bool{
		"0-0": true, "1-0": true, "1700000000000-12": true, "18446744073709551615-18446744073709551615": true,
		"": false, "-": false, "1": false, "1-": false, "-1": false, "01-0": false, "1-00": false, "+1-0": false, "1-0-0": false,
		"18446744073709551616-0": false, "1-0 ": false, "a-b": false, "1-\x00": false,
	} {
		if _, ok := parseID(s); ok != want {
			t.Errorf("parseID(%q): %v, want %v", s, ok, want)
		}
	}
	if id, _ := parseID("0-5"); id.place() {
		t.Error("0-5 is an entry that someone added under an ID of his own, not a place")
	}
	if id, _ := parseID(string(placeID(1700000000000))); !id.place() {
		t.Error("a place is not known as one")
	}
}

func TestEntryFollows(t *testing.T) {
	place, _ := parseID("0-1700000000000")
	at, _ := parseID("1700000000000-3")
	for _, test := range []struct {
		mark string
		id   entryID
		want bool
	}{
		{"1s", place, true}, {"1bfs", place, true}, {"1", place, false}, {"1p1700000000000-3", place, false}, {"2s", place, false},
		{"1p1700000000000-3", at, true}, {"1bp1700000000000-3", at, true}, {"1p1700000000000-4", at, false}, {"1", at, false}, {"1s", at, false},
		{"1p", at, false}, {"1p1700000000000-03", at, false},
	} {
		e := entry{id: "1800000000000-0", fields: []string{"hr", test.mark, "data", ""}}
		if got := e.follows(test.id); got != test.want {
			t.Errorf("mark %q follows %v: %v", test.mark, test.id, got)
		}
	}
}

func FuzzAnnouncement(f *testing.F) {
	m := hub.Message{Type: "t", Data: []byte("d"), Binary: true, Headers: map[string]string{"a": "b"}}
	f.Add(announced("1-1", "1-2", asStored(&m)))
	f.Add(announced("", "1-2", asStored(&m)))
	f.Add("1-1 1-2 99999999999999999999\nx")
	f.Add("1-1 1-2 2,1,4,2147483647\nhr1data")
	f.Add("1-1 1-2 2,1,4,-1\nhr1data")
	f.Add("1-1 1-2 2,1,4,\nhr1data")
	f.Add("1-1 1-2 2,1,4,0\nhr1datax")
	f.Add("  \n")
	f.Add("")
	d := decoder{foreign: Entry.JSON}
	f.Fuzz(func(t *testing.T, payload string) {
		m, err := d.announcement(payload)
		if err != nil {
			return
		}
		if !m.ID.Valid() || m.Prev != "" && !m.Prev.Valid() {
			t.Fatalf("ID %q, Prev %q", m.ID, m.Prev)
		}
	})
}

func FuzzEntry(f *testing.F) {
	f.Add("t", []byte("d"), true, false, "k", "v", "1-1")
	f.Add("", []byte(nil), false, true, "", "", "")
	f.Add("type", []byte("\xff\n:"), true, true, "type", "x", "5-0")
	d := decoder{foreign: Entry.JSON}
	f.Fuzz(func(t *testing.T, typ string, data []byte, binary, final bool, key, value, prev string) {
		m := hub.Message{Type: typ, Data: data, Binary: binary, Final: final}
		if key != "" {
			m.Headers = map[string]string{key: value}
		}
		fields := asStored(&m)
		got, ok := d.message("5-5", fields)
		if !ok || !sameMessage(&got, &m) {
			t.Fatalf("entry: %+v, want %+v", got, m)
		}
		args, lengths := appendFields(nil, &m)
		if want := announced(prev, "5-5", fields); !strings.HasPrefix(want, prev+" 5-5 "+string(lengths)+"\n") || len(args) != len(fields)-1 {
			t.Fatalf("lengths %q of %d fields, want those of %q", lengths, len(args), want)
		}
		_, valid := parseID(prev)
		got, err := d.announcement(announced(prev, "5-5", fields))
		switch {
		case err != nil && (valid || prev == ""):
			t.Fatalf("announcement: %v", err)
		case err == nil && (!sameMessage(&got, &m) || string(got.Prev) != prev):
			t.Fatalf("announcement: %+v, want %+v", got, m)
		}
		// As somebody else's entry it is a JSON object, whatever it holds.
		if foreign := (Entry{Fields: []string{key, value, typ, string(data)}}).JSON(); !json.Valid(foreign.Data) || !utf8.Valid(foreign.Data) {
			t.Fatalf("not JSON: %q", foreign.Data)
		}
	})
}
