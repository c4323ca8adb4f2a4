package clients

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/headrace/headrace/internal/testenv"
)

var (
	idLine  = regexp.MustCompile(`(?m)^id: .*\n`)
	without = func(part string) func([]byte) []byte {
		return func(frame []byte) []byte {
			if bytes.Contains(frame, []byte(part)) {
				return idLine.ReplaceAll(frame, nil)
			}
			return frame
		}
	}
	blank = func(prefix string) func([]byte) []byte {
		return func(frame []byte) []byte {
			if bytes.HasPrefix(frame, []byte(prefix)) {
				return append(bytes.Clone(frame), '\n')
			}
			return frame
		}
	}
)

// TestFaultsAreNoticed plants faults into the stream. They show that the tests of this package can
// fail, and what the wire format is for.
func TestFaultsAreNoticed(t *testing.T) {
	testenv.Long(t)
	// Of a message that is lost, or comes twice, the next report tells: it is not of the message
	// that was due.
	const due = "want {"
	within := scenario{"cuts", setup{}, cut(tears[:5])}
	behind := scenario{"cuts", setup{}, cut(tears[5:6])}
	b := newBrowser(t)
	for _, test := range []struct {
		name     string
		client   client
		options  []string
		scenario scenario
		fault    func(frame []byte) []byte
		want     string // part of the error; "" when there must be none
	}{
		{"a blank line after heartbeats", fetching, nil, silence, blank(":\n"), "got {Type:message Data: ID:}"},
		{"a blank line after heartbeats", browsers, nil, silence, blank(":\n"), ""},
		{"a blank line after the prelude", fetching, nil, silence, blank("retry: "), "got {Type:message Data: ID:}"},
		{"a checkpoint without ID", browsers, nil, cuts, without("event: checkpoint"), due},
		{"messages without ID", browsers, nil, rotations, without("data: <li>"), due},
		{"each message twice", npm, nil, silence, func(frame []byte) []byte {
			if bytes.Contains(frame, []byte("data: <li>")) {
				return bytes.Repeat(frame, 2)
			}
			return frame
		}, due},
		{"the ID first", fetching, []string{"bare", ""}, within, func(frame []byte) []byte {
			id := idLine.Find(frame)
			return append(bytes.Clone(id), idLine.ReplaceAll(frame, nil)...)
		}, due},
		// Given no more than it needs, the library loses a message whose blank line is all that is
		// missing.
		{"no fault, cut within the ID at the latest", fetching, []string{"bare", ""}, within, nil, ""},
		{"no fault, cut before the blank line", fetching, []string{"bare", ""}, behind, nil, due},
	} {
		t.Run(test.name+"/"+test.client.name, func(t *testing.T) {
			o := test.scenario.setup
			o.fault = test.fault
			s := newSite(t, o)
			err := test.scenario.run(s, func() { test.client.start(s, b, test.options...) })
			switch {
			case test.want == "" && err != nil:
				t.Fatal(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Fatalf("error %v, want one with %q", err, test.want)
			}
		})
	}
}
