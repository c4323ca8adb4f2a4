package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/headrace/headrace/sse"
)

// printer prints the items of a feed.
type printer struct {
	out    io.Writer
	json   bool
	colour bool // of text
}

// line is an item as JSON.
type line struct {
	Event string `json:"event"` // message, snapshot, gap or close
	ID    string `json:"id,omitempty"`
	Type  string `json:"type,omitempty"` // of a message
	// Data is text, and Bytes, in base64, what is none.
	Data  *string `json:"data,omitempty"`
	Bytes []byte  `json:"base64,omitempty"`
}

// lineOf returns an item as it is printed.
func lineOf(item sse.Item) line {
	switch item := item.(type) {
	case sse.Message[[]byte]:
		return line{Event: "message", ID: item.ID, Type: item.Type}.with(item.Data)
	case sse.Snapshot[[]byte]:
		return line{Event: "snapshot", ID: item.ID}.with(item.State)
	case sse.Gap:
		return line{Event: "gap", ID: item.ID}
	case sse.Close:
		return line{Event: "close", ID: item.ID}
	}
	return line{Event: fmt.Sprintf("%T", item)} // a kind that is newer than this program
}

func (l line) with(data []byte) line {
	if utf8.Valid(data) {
		text := string(data)
		l.Data = &text
	} else {
		l.Bytes = data
	}
	return l
}

// print writes an item with one call, so that a pipe gets it whole and at once.
func (p printer) print(item sse.Item, now time.Time) error {
	l := lineOf(item)
	var b []byte
	if p.json {
		var err error
		if b, err = json.Marshal(l); err != nil {
			return err
		}
	} else {
		b = []byte(p.text(l, now))
	}
	_, err := p.out.Write(append(b, '\n'))
	return err
}

// The colours of a terminal.
const (
	dim    = "2"
	bold   = "1"
	yellow = "33"
	green  = "32"
)

func (p printer) paint(colour, text string) string {
	if !p.colour || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// text returns an item for people: the time, the ID, the type and the data.
func (p printer) text(l line, now time.Time) string {
	words := []string{p.paint(dim, now.Format(time.TimeOnly))}
	if l.ID != "" {
		words = append(words, p.paint(dim, visible(l.ID)))
	}
	switch l.Event {
	case "gap":
		return strings.Join(append(words, p.paint(yellow, "messages are gone")), "  ")
	case "close":
		return strings.Join(append(words, p.paint(yellow, "the feed has ended")), "  ")
	case "snapshot":
		words = append(words, p.paint(green, "snapshot"))
	}
	if l.Type != "" {
		words = append(words, p.paint(bold, visible(l.Type)))
	}
	if l.Data != nil {
		words = append(words, strings.ReplaceAll(visible(*l.Data), "\n", "\n    "))
	} else {
		words = append(words, p.paint(dim, fmt.Sprintf("%d bytes", len(l.Bytes))))
	}
	return strings.Join(words, "  ")
}

// visible escapes what a terminal obeys instead of showing it: a message must not move the cursor,
// or hide what stands before it. Line breaks and tabs stay.
func visible(s string) string {
	hidden := func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
