package backends

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/headrace/headrace/hub"
)

// ParseRetention returns what the values of a parameter "retain" say about topics under a prefix.
// Each has the form
//
//	<prefix>:<messages>:<bytes>:<age>
//
// such as "orders/:1000::10m". The prefix may be empty and may have colons. A part that is empty
// leaves the backend's default; the others are as Query.Int, Query.Bytes and Query.Duration read
// them, and positive. No prefix may be there twice.
//
// The error is ErrParameter. It tells all that is wrong, and shows no value.
func ParseRetention(values []string) ([]hub.Retention, error) {
	var list []hub.Retention
	var errs []error
	known := make(map[string]bool)
	for _, value := range values {
		r, err := parseRetention(value)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("retain: %w", err))
			continue
		case known[r.Prefix]:
			errs = append(errs, fmt.Errorf("%w: retain has a prefix twice", ErrParameter))
			continue
		}
		known[r.Prefix] = true
		list = append(list, r)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return list, nil
}

func parseRetention(value string) (hub.Retention, error) {
	parts := url.Values{}
	for _, name := range []string{"age", "bytes", "messages"} { // from the end: a prefix may have colons
		i := strings.LastIndexByte(value, ':')
		if i < 0 {
			return hub.Retention{}, fmt.Errorf("%w: the form is <prefix>:<messages>:<bytes>:<age>", ErrParameter)
		}
		if part := value[i+1:]; part != "" {
			parts.Set(name, part)
		}
		value = value[:i]
	}
	q := NewQuery(parts)
	r := hub.Retention{
		Prefix:   value,
		Messages: q.Int("messages", 0, 1),
		Bytes:    q.Bytes("bytes", 0, 1),
		Age:      q.Duration("age", 0, 1),
	}
	return r, q.Err()
}
