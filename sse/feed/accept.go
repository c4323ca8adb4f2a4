package feed

import (
	"net/http"
	"strconv"
	"strings"
)

const streamType = "text/event-stream"

// accepts reports whether a client takes an event stream, and whether it asks for one by name.
func accepts(h http.Header) (stream, byName bool) {
	stated := false
	for _, line := range h.Values("Accept") {
		for part := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(part, ";")
			name = strings.ToLower(strings.TrimSpace(name))
			if name == "" {
				continue
			}
			stated = true
			if refused(params) {
				if name == streamType {
					return false, false // whatever the wildcards say
				}
				continue
			}
			switch name {
			case streamType:
				return true, true
			case "*/*", "text/*":
				stream = true
			}
		}
	}
	return stream || !stated, false
}

// refused reports whether the parameters of a media type hold a weight of zero.
func refused(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		return err == nil && q == 0
	}
	return false
}
