package decoders

import (
	"maps"
	"strings"
	"testing"

	"github.com/launchdarkly/eventsource"
	gosse "github.com/tmaxmax/go-sse"

	"github.com/headrace/headrace/internal/golden"
)

// testdata is where the golden cases are.
const testdata = "../../sse/testdata"

// Two other decoders are asked about every golden case. Where one departs from
// the standard, its table says how: a departure that is not listed, or one that
// is listed and gone, fails.

func TestOpinionGoSSE(t *testing.T) {
	compareOpinion(t, goSSEDepartures, func(input string) []string {
		var events []string
		for e, err := range gosse.Read(strings.NewReader(input), nil) {
			if err != nil {
				return append(events, "error "+err.Error())
			}
			events = append(events, golden.Event(e.LastEventID, e.Type, e.Data))
		}
		return events
	})
}

func TestOpinionLaunchDarkly(t *testing.T) {
	compareOpinion(t, launchDarklyDepartures, func(input string) []string {
		var events []string
		d := eventsource.NewDecoder(strings.NewReader(input))
		for {
			e, err := d.Decode()
			if err != nil {
				return events
			}
			id := e.(eventsource.EventWithLastID).LastEventID()
			events = append(events, golden.Event(id, e.Event(), e.Data()))
		}
	})
}

func compareOpinion(t *testing.T, departures map[string]string, decode func(string) []string) {
	left := maps.Clone(departures)
	for _, c := range golden.Read(t, testdata) {
		var want []string
		for _, line := range c.Want {
			if strings.HasPrefix(line, "event ") {
				want = append(want, line)
			}
		}
		why, departs := departures[c.Name]
		delete(left, c.Name)
		got := strings.Join(decode(c.Input), "\n")
		switch same := got == strings.Join(want, "\n"); {
		case same && departs:
			t.Errorf("%s: listed as %q, and agrees", c.Name, why)
		case !same && !departs:
			t.Errorf("%s: input %q\ngot\n%s\nwant\n%s", c.Name, c.Input, got, strings.Join(want, "\n"))
		}
	}
	for name := range left {
		t.Errorf("%s: listed, and no such case", name)
	}
}

const (
	noReplacement = "bytes that are not UTF-8 are passed on"
	emptyBlocks   = "a block without data is delivered as an empty event"
	keepsBOM      = "the byte order mark stays, so the first line is lost, and its block delivered empty"
)

var goSSEDepartures = map[string]string{
	"bytes that are not UTF-8 are replaced":                    noReplacement,
	"broken UTF-8 does not swallow a line end":                 noReplacement,
	"broken UTF-8 in an id and a type":                         noReplacement,
	"a block without data makes no event":                      emptyBlocks + ", if it has a type",
	"the type of a block without data is dropped":              emptyBlocks + ", if it has a type",
	"a block with an id only makes no event and moves the id":  emptyBlocks + ", if it has an id",
	"the id of a block without data is that of the next event": emptyBlocks + ", if it has an id",
}

var launchDarklyDepartures = map[string]string{
	"one byte order mark is dropped":                           keepsBOM,
	"a second byte order mark is content":                      keepsBOM,
	"bytes that are not UTF-8 are replaced":                    noReplacement,
	"broken UTF-8 does not swallow a line end":                 noReplacement,
	"broken UTF-8 in an id and a type":                         noReplacement,
	"a byte order mark after the start is content":             emptyBlocks,
	"a part of a byte order mark is content":                   emptyBlocks,
	"a block without data makes no event":                      emptyBlocks,
	"the type of a block without data is dropped":              emptyBlocks,
	"a block with an id only makes no event and moves the id":  emptyBlocks,
	"the id of a block without data is that of the next event": emptyBlocks,
	"unknown fields alone make no event":                       emptyBlocks,
	"retry without data makes no event":                        emptyBlocks,
}
