package feed

import (
	"iter"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

const streamType = "text/event-stream"

const documentType = "application/json"

// accept is what an Accept header says of event streams and of JSON, and whether it says anything.
type accept struct {
	stream, document wish
	stated           bool
}

// takesStream reports whether a client takes an event stream, and whether it asks for one by name
// and would rather have that than JSON.
func (a accept) takesStream() (stream, byName bool) {
	if !a.stated {
		return true, false
	}
	stream = a.stream.weight > 0
	return stream, stream && a.stream.by.named() && !a.document.before(a.stream)
}

// prefersDocument reports whether a client would rather have JSON than an event stream.
func (a accept) prefersDocument() bool { return a.document.before(a.stream) }

// wish is what an Accept header says of a media type: the weight of the range that names it most
// precisely.
type wish struct {
	by     precision
	weight float64
}

// precision is how precisely a media range names a type.
type precision uint8

const (
	_          precision = iota
	byAny                // */*
	byHalf               // text/*
	byLikeness           // by name, with parameters that the answer does not have
	byName
	byCharset // by name, and with the charset that the answer has
)

// named reports whether the range has the type's whole name.
func (p precision) named() bool { return p >= byLikeness }

// before reports whether a client wants one thing rather than another. Of what weighs the same it
// wants what it names; many state their type and then */* with the same weight.
func (w wish) before(other wish) bool {
	if w.weight != other.weight {
		return w.weight > other.weight
	}
	return w.weight > 0 && min(w.by, byLikeness) > min(other.by, byLikeness)
}

// take has a media range count where it is at least as precise as those before it.
func (w *wish) take(r mediaRange, typ string) {
	by := r.precision(typ)
	switch {
	case by == byLikeness && r.weight == 0:
		// It excludes another form of the type than ours.
	case by > w.by:
		w.by, w.weight = by, r.weight
	case by == w.by && by > 0:
		w.weight = max(w.weight, r.weight)
	}
}

// acceptOf reads the Accept header.
func acceptOf(h http.Header) (a accept) {
	for r := range mediaRanges(h) {
		a.stated = true
		a.stream.take(r, streamType)
		a.document.take(r, documentType)
	}
	return a
}

// mediaRange is an element of an Accept header. Its name is in lower case, its parameters are
// without the weight.
type mediaRange struct {
	name   string
	params map[string]string
	weight float64
}

// precision returns how precisely a range names a type, 0 where it does not match it.
func (r mediaRange) precision(typ string) precision {
	switch half, _, _ := strings.Cut(typ, "/"); {
	case r.name == "*/*":
		return byAny
	case r.name == half+"/*":
		return byHalf
	case r.name != typ:
		return 0
	case len(r.params) == 0:
		return byName
	case len(r.params) == 1 && strings.EqualFold(r.params["charset"], "utf-8"):
		return byCharset // that of JSON too, which never says so
	}
	return byLikeness
}

// maxRanges is how many elements of an Accept header are read. Browsers send eight.
const maxRanges = 100

// mediaRanges returns the media ranges of the Accept header. What is malformed is left out, and
// what comes behind maxRanges or is longer than maxRange.
func mediaRanges(h http.Header) iter.Seq[mediaRange] {
	return func(yield func(mediaRange) bool) {
		left := maxRanges
		for _, line := range h.Values("Accept") {
			for element := range elements(line) {
				if left--; left < 0 {
					return
				}
				if r, ok := parseRange(element); ok && !yield(r) {
					return
				}
			}
		}
	}
}

// maxRange is the longest media range that is read.
const maxRange = 256

func parseRange(element string) (r mediaRange, ok bool) {
	if len(element) > maxRange {
		return r, false
	}
	name, params, err := mime.ParseMediaType(element)
	if err != nil {
		return r, false
	}
	typ, subtype, _ := strings.Cut(name, "/")
	if typ == "" || subtype == "" || typ == "*" && subtype != "*" {
		return r, false
	}
	r = mediaRange{name: name, params: params, weight: 1}
	if text, there := params["q"]; there {
		if r.weight, ok = parseWeight(text); !ok {
			return r, false
		}
		delete(params, "q")
	}
	return r, true
}

// parseWeight reads a weight from 0 to 1. It takes more digits than there may be, and none before
// the point, as Java writes it.
func parseWeight(text string) (weight float64, ok bool) {
	if strings.Trim(text, "0123456789.") != "" {
		return 0, false
	}
	weight, err := strconv.ParseFloat(text, 64)
	return weight, err == nil && weight <= 1
}

// elements returns the elements of a header that is a list. A comma within quotes ends none.
func elements(line string) iter.Seq[string] {
	return func(yield func(string) bool) {
		begin, quoted := 0, false
		for i := 0; i < len(line); i++ {
			switch c := line[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case c == ',' && !quoted:
				if !yield(line[begin:i]) {
					return
				}
				begin = i + 1
			}
		}
		yield(line[begin:])
	}
}
