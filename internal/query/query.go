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
		if plain, err := url.QueryUnescape(text); err == nil {
			text = plain
		}
		return text, true
	}
	return "", there
}
