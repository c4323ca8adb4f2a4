package feed

import (
	"iter"
	"net/http"
	"strconv"
	"strings"
)

const streamType = "text/event-stream"

const documentType = "application/json"

// accepts reports whether a client takes an event stream, and whether it asks for one by name.
func accepts(h http.Header) (stream, byName bool) {
	stated := false
	for name, ok := range mediaRanges(h) {
		stated = true
		switch name {
		case streamType:
			return ok, ok // whatever the wildcards say
		case "*/*", "text/*":
			stream = stream || ok
		}
	}
	return stream || !stated, false
}

// prefersDocument reports whether a client asks for JSON by name, and not for an event stream.
func prefersDocument(h http.Header) bool {
	document := false
	for name, ok := range mediaRanges(h) {
		if ok && name == streamType {
			return false
		}
		document = document || ok && name == documentType
	}
	return document
}

// mediaRanges returns the media ranges of the Accept header in lower case, and whether each is
// accepted, which it is not with a weight of zero.
func mediaRanges(h http.Header) iter.Seq2[string, bool] {
	return func(yield func(string, bool) bool) {
		for _, line := range h.Values("Accept") {
			for part := range strings.SplitSeq(line, ",") {
				name, params, _ := strings.Cut(part, ";")
				name = strings.ToLower(strings.TrimSpace(name))
				if name != "" && !yield(name, !refused(params)) {
					return
				}
			}
		}
	}
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
