package backends

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/headrace/headrace/hub"
)

// ParseRetention reads the values of the parameter "retain" of a URL, which says how much of the
// topics under a prefix is retained:
//
//	retain=<prefix>:<messages>:<bytes>:<age>
//
// as in retain=orders/:1000::10m. A part that is empty stands for the backend's default, but one at
// least is not. Bytes are a number, alone or with a unit as Query.Bytes reads it. A prefix may have
// colons; none may come twice.
//
// The error is ErrParameter. It names the parameter and never shows its value.
func ParseRetention(values []string) ([]hub.Retention, error) {
	var list []hub.Retention
	seen := make(map[string]bool)
	for _, value := range values {
		r, what := parseRetention(value)
		if what == "" && seen[r.Prefix] {
			what = "names a prefix twice"
		}
		if what != "" {
			return nil, fmt.Errorf("%w: retain %s", ErrParameter, what)
		}
		seen[r.Prefix] = true
		list = append(list, r)
	}
	return list, nil
}

// parseRetention reads one value. It returns what is wrong with it, "" if nothing is.
func parseRetention(value string) (r hub.Retention, what string) {
	parts := strings.Split(value, ":")
	n := len(parts)
	if n < 4 {
		return r, "must be <prefix>:<messages>:<bytes>:<age>"
	}
	r.Prefix = strings.Join(parts[:n-3], ":")
	messages, bytes, age := parts[n-3], parts[n-2], parts[n-1]
	if messages == "" && bytes == "" && age == "" {
		return r, "must have messages, bytes or an age"
	}
	var err error
	if messages != "" {
		if r.Messages, err = strconv.Atoi(messages); err != nil || r.Messages < 1 {
			return r, "must have a whole number of messages, at least 1"
		}
	}
	if bytes != "" {
		ok := false
		if r.Bytes, ok = parseBytes(bytes); !ok || r.Bytes < 1 {
			return r, "must have a number of bytes such as 4096 or 4MiB, at least 1"
		}
	}
	if age != "" {
		if r.Age, err = time.ParseDuration(age); err != nil || r.Age < 1 {
			return r, "must have an age with unit such as 90s or 24h"
		}
	}
	return r, ""
}
