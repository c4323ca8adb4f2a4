package watermill

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/hub"
)

func FuzzEnvelope(f *testing.F) {
	f.Add("id", "note", []byte("data"), true, false, "k", "v", "origin", uint64(1), "")
	f.Add("id", "", []byte(nil), false, true, "", "", "", uint64(0), "a.1")
	f.Add("id", "Größe %41\u00a0", []byte("\xff"), true, true, "a=b&c", "\n;", "o", uint64(1<<47), "")
	f.Fuzz(func(t *testing.T, id, typ string, data []byte, binary, final bool, key, value, origin string, seq uint64, probe string) {
		e := envelope{Message: hub.Message{ID: hub.ID(id), Type: typ, Data: data, Binary: binary, Final: final, Time: time.UnixMilli(rand.Int64N(1 << 41))},
			origin: origin, seq: seq, probe: probe}
		if key != "" {
			e.Headers = map[string]string{key: value}
		}
		m := e.wrap()
		for k, v := range m.Metadata {
			if k == keyID || k == keyOrigin || k == keyProbe {
				continue // made here, of safe characters
			}
			if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
				t.Errorf("%s: %q is not printable ASCII", k, v)
			}
		}
		got, err := unwrap(m)
		valid := e.ID.Valid() && (origin == "" || len(origin) <= maxOrigin && seq > 0 && seq < 1<<48)
		if (err == nil) != valid {
			t.Fatalf("unwrap: %v, of %+v", err, e)
		}
		if err != nil {
			return
		}
		if utf8.ValidString(key) && utf8.ValidString(value) && !maps.Equal(got.Headers, e.Headers) {
			t.Errorf("headers %q, want %q", got.Headers, e.Headers)
		}
		if got.ID != e.ID || got.Type != typ || !bytes.Equal(got.Data, data) || got.Binary != binary || got.Final != final || !got.Time.Equal(e.Time) ||
			got.origin != origin || got.origin != "" && got.seq != seq || got.probe != probe {
			t.Errorf("%+v, want %+v", got, e)
		}
	})
}

func FuzzUnwrap(f *testing.F) {
	f.Add("id", "1", "t", "b", "a=b", "o", "1", "p.1")
	f.Add("", "x", "%zz", "", "%zz", "", "-1", "")
	f.Fuzz(func(t *testing.T, id, ms, typ, flags, headers, origin, seq, probe string) {
		m := message.NewMessage("uuid", nil)
		for k, v := range map[string]string{keyID: id, keyTime: ms, keyType: typ, keyFlags: flags, keyHeaders: headers, keyOrigin: origin, keySeq: seq, keyProbe: probe} {
			m.Metadata.Set(k, v)
		}
		if e, err := unwrap(m); err == nil && !e.ID.Valid() {
			t.Errorf("ID %q", e.ID)
		}
	})
}

// TestForeignAndMalformed: neither stops a topic. What cannot be shown is counted.
func TestForeignAndMalformed(t *testing.T) {
	decode := DecodeForeign("kind")
	run(t, Options{Ordered: true, Decode: func(m *message.Message) (hub.Message, error) {
		if string(m.Payload) == "panic" {
			panic("a bug elsewhere")
		}
		return decode(m)
	}}, func(t *testing.T, f *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "t")
		foreign := func(uuid, data string) {
			m := message.NewMessage(uuid, []byte(data))
			m.Metadata.Set("kind", "created")
			f.put("t", m)
		}
		foreign("0198f1f2-0000-7000-8000-000000000001", "foreign")
		foreign("", "no ID")
		foreign("not an ID\n", "bad ID")
		foreign("id", "panic")
		nothing := message.NewMessage("bare", nil)
		nothing.Metadata = nil
		f.put("t", nothing)
		good := envelope{Message: hub.Message{ID: "x", Data: []byte("bad"), Time: time.Now()}, origin: "o", seq: 1}
		for _, spoil := range []func(*message.Message){
			func(m *message.Message) { m.Metadata[keyID] = "" },
			func(m *message.Message) { m.Metadata[keyTime] = "yesterday" },
			func(m *message.Message) { m.Metadata[keyType] = "%zz" },
			func(m *message.Message) { m.Metadata[keyHeaders] = "%zz" },
			func(m *message.Message) { m.Metadata[keySeq] = "-1" },
			func(m *message.Message) { m.Metadata[keyOrigin] = strings.Repeat("o", 1<<20) },
		} {
			m := good.wrap()
			good.seq++
			spoil(m)
			f.put("t", m)
		}
		f.put("t", good.wrap())
		mustPublish(t, b, "t", "1")
		s.want(t, "foreign", "", "gap", "bad", "1")
		if n := b.Stats().Skipped; n != 9 {
			t.Errorf("%d skipped, want 9", n)
		}
	})
}
