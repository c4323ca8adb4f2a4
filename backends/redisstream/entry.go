package redisstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/headrace/headrace/hub"
)

// The fields of an entry that Publish writes. The first one, with this name and a value that
// begins with the version, tells such an entry from those of other programs.
const (
	fieldMark    = "hr"
	fieldType    = "type"
	fieldData    = "data"
	fieldErases  = "erases"
	headerPrefix = "h:"

	version    = '1'
	flagBinary = 'b'
	flagFinal  = 'f'
	// Set by the script in topics with a bound of bytes, with a number behind it: the bytes of all
	// messages before this one.
	flagOffset = 'o'
	flagStart  = 's' // set by the script: the stream began with this entry
	// Set by the script, last: the stream was empty, and the ID that follows is the one it had
	// given last.
	flagPrev = 'p'
	// Entries that are no messages: the one with which a deleted topic begins anew, and one that
	// took the message with the ID in fieldErases away.
	flagDeleted = 'd'
	flagErases  = 'e'
)

// Entry is a stream entry that another program added.
type Entry struct {
	// ID is the entry's ID.
	ID hub.ID
	// Fields are the names and values, in turn, in the order of the entry.
	Fields []string
}

// JSON returns a message without type whose data is the entry as a JSON object,
// {"field":"value",…}, in the order of the entry. Of a field that is repeated all values are
// there; what is not UTF-8 is replaced by U+FFFD.
func (e Entry) JSON() hub.Message {
	data := []byte{'{'}
	for i := 0; i+1 < len(e.Fields); i += 2 {
		if i > 0 {
			data = append(data, ',')
		}
		data = appendJSON(data, e.Fields[i])
		data = append(data, ':')
		data = appendJSON(data, e.Fields[i+1])
	}
	return hub.Message{Data: append(data, '}')}
}

func appendJSON(dst []byte, s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string and a buffer cannot fail
	return append(dst, bytes.TrimRight(b.Bytes(), "\n")...)
}

// appendFields appends the fields and values of m, all but the value of the last field, which is
// the data. The lengths are those of all of them, as the script wants them.
func appendFields(args []any, m *hub.Message) (fields []any, lengths []byte) {
	lengths = make([]byte, 0, 32)
	add := func(name, value string) {
		args = append(args, name, value)
		lengths = append(strconv.AppendInt(lengths, int64(len(name)), 10), ',')
		lengths = append(strconv.AppendInt(lengths, int64(len(value)), 10), ',')
	}
	mark := string(version)
	if m.Binary {
		mark += string(flagBinary)
	}
	if m.Final {
		mark += string(flagFinal)
	}
	add(fieldMark, mark)
	if m.Type != "" {
		add(fieldType, m.Type)
	}
	for _, k := range slices.Sorted(maps.Keys(m.Headers)) {
		add(headerPrefix+k, m.Headers[k])
	}
	lengths = append(strconv.AppendInt(lengths, int64(len(fieldData)), 10), ',')
	return append(args, fieldData), strconv.AppendInt(lengths, int64(len(m.Data)), 10)
}

// decoder makes messages of entries.
type decoder struct {
	foreign func(Entry) hub.Message
}

// message makes a message of an entry, whoever wrote it. It reports false only when the ID is none.
func (d *decoder) message(id string, fields []string) (m hub.Message, ok bool) {
	at, ok := parseID(id)
	if !ok {
		return m, false
	}
	if _, ok := mark(fields); ok {
		m = decodeFields(fields)
	} else {
		m = d.other(Entry{ID: hub.ID(id), Fields: fields})
	}
	m.ID, m.Prev, m.Time = hub.ID(id), "", at.time()
	return m, true
}

// mark returns the flags of an entry of ours. It reports false for those of other programs.
func mark(fields []string) (flags string, ok bool) {
	if len(fields) < 2 || fields[0] != fieldMark || fields[1] == "" || fields[1][0] != version {
		return "", false
	}
	return fields[1][1:], true
}

// follows reports whether an entry says that it came right after an ID, or, for a position, that
// the stream began with it. A stream that began because the topic was deleted follows nothing.
func (e *entry) follows(id entryID) bool {
	flags, ok := mark(e.fields)
	if !ok {
		return false
	}
	if id.place() {
		return strings.IndexByte(flags, flagStart) >= 0 && !e.deleted()
	}
	_, digits, ok := strings.Cut(flags, string(flagPrev))
	prev, ok2 := parseID(digits)
	return ok && ok2 && prev == id
}

// before reports whether an entry is older than a position, by the clock: then the topic was not
// empty there, and nobody was given the position. Of an ID that somebody has chosen nothing is
// known.
func (e *entry) before(place entryID) bool {
	id, ok := parseID(e.id)
	return ok && id.ms >= earliestPlace && id.ms < place.seq
}

// deleted reports whether an entry is the one with which a deleted topic begins anew.
func (e *entry) deleted() bool {
	flags, ok := mark(e.fields)
	return ok && strings.IndexByte(flags, flagDeleted) >= 0
}

func decodeFields(fields []string) (m hub.Message) {
	erases := false
	for i := 0; i+1 < len(fields); i += 2 {
		switch name, value := fields[i], fields[i+1]; {
		case i == 0:
			m.Binary = strings.IndexByte(value, flagBinary) > 0
			m.Final = strings.IndexByte(value, flagFinal) > 0
			m.Deleted = strings.IndexByte(value, flagDeleted) > 0
			erases = strings.IndexByte(value, flagErases) > 0
		case name == fieldType:
			m.Type = value
		case name == fieldData:
			m.Data = []byte(value)
		case name == fieldErases && erases:
			if _, ok := parseID(value); ok {
				m.Erases = hub.ID(value)
			}
		case strings.HasPrefix(name, headerPrefix):
			if m.Headers == nil {
				m.Headers = make(map[string]string)
			}
			m.Headers[name[len(headerPrefix):]] = value
		}
	}
	return m
}

// other maps an entry of another program. One that the user's mapping chokes on must not stop the
// topic.
func (d *decoder) other(e Entry) (m hub.Message) {
	defer func() {
		if recover() != nil {
			m = e.JSON()
		}
	}()
	return d.foreign(e)
}

var errPayload = errors.New("redisstream: malformed announcement")

// maxFields bounds what a forged announcement can make us allocate.
const maxFields = 1 << 16

// announcement decodes what the script published: "<prev> <id> <lengths>\n", the lengths with
// commas between them, and then the fields and values that have them.
func (d *decoder) announcement(payload string) (m hub.Message, err error) {
	head, rest, ok := strings.Cut(payload, "\n")
	prev, head, ok2 := strings.Cut(head, " ")
	id, lengths, ok3 := strings.Cut(head, " ")
	if !ok || !ok2 || !ok3 {
		return m, errPayload
	}
	if _, ok := parseID(prev); prev != "" && !ok {
		return m, errPayload
	}
	fields := make([]string, 0, 8)
	for more := true; more; {
		var digits string
		digits, lengths, more = strings.Cut(lengths, ",")
		n, err := strconv.ParseUint(digits, 10, 31)
		if err != nil || n > uint64(len(rest)) || len(fields) == maxFields {
			return m, errPayload
		}
		fields = append(fields, rest[:n])
		rest = rest[n:]
	}
	if _, ok := mark(fields); !ok || len(fields)%2 != 0 || rest != "" {
		return m, errPayload
	}
	if m, ok = d.message(id, fields); !ok {
		return m, errPayload
	}
	m.Prev = hub.ID(prev)
	return m, nil
}
