package feed

import (
	"encoding/base64"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// wire is the form in which all feeds share messages. Its values are equal, so that they share
// the bytes too.
type wire struct{}

// frameOverhead is about what field names and line ends add to a message on one line.
const frameOverhead = 32

// Encode implements hub.Encoder.
func (wire) Encode(m *hub.Message) []byte {
	typ, data := m.Type, m.Data
	if m.Binary {
		data = make([]byte, base64.StdEncoding.EncodedLen(len(m.Data)))
		base64.StdEncoding.Encode(data, m.Data)
		if typ == "" {
			typ = "message" // what a browser calls an event without a type
		}
		typ += ";base64"
	}
	// The bytes are kept as long as the message is: they should not hold much more than they need.
	frame := make([]byte, 0, len(m.ID)+len(typ)+len(data)+frameOverhead)
	frame, err := sse.AppendFrame(frame, string(m.ID), typ, data)
	if err != nil {
		// The hub lets no such type or ID through. If one came, dropping it keeps the stream whole.
		frame, _ = sse.AppendFrame(nil, "", "x-unknown", data)
	}
	return frame
}
