// Package query reads query parameters of clients that may not know how to write them.
package query

import (
	"net/url"
	"strings"
)

// Value returns the first value of a query parameter that is not empty, and whether the parameter
// is there at all. It returns one that is not well encoded as it stands, where [url.ParseQuery]
// would leave it out: who states something must not count as having stated nothing.
func Value(query, name string) (value string, there bool) {
	for pair := range strings.SplitSeq(query, "&") {
		key, text, _ := strings.Cut(pair, "=")
		if key != name {
			continue
		}
		there = true
		if text == "" {
			continue
		}
		return plain(text), true
	}
	return "", there
}

// Last returns the last value that is not empty of the query parameters whose name matches, ""
// where there is none. It reads what is not well encoded as Value does.
func Last(query string, matches func(name string) bool) (value string) {
	for pair := range strings.SplitSeq(query, "&") {
		key, text, _ := strings.Cut(pair, "=")
		if text != "" && matches(plain(key)) {
			value = text
		}
	}
	return plain(value)
}

// plain decodes a text, and returns one that is not well encoded as it stands.
func plain(text string) string {
	if plain, err := url.QueryUnescape(text); err == nil {
		return plain
	}
	return text
}
