// Package jsonbody says in plain words what is wrong with the JSON of a request.
package jsonbody

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Problem returns what is wrong with a body, of which err is what decoding it returned. The text is
// for the client: it has nothing of Go in it.
func Problem(err error) string {
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fmt.Sprintf("it is too large: at most %d bytes", large.Limit)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		article := "a "
		if wrong.Value == "array" || wrong.Value == "object" {
			article = "an "
		}
		return cmp.Or(wrong.Field, "it") + " cannot be " + article + wrong.Value
	}
	if errors.Is(err, io.EOF) {
		return "it is empty"
	}
	_, syntax := errors.AsType[*json.SyntaxError](err)
	if syntax || errors.Is(err, io.ErrUnexpectedEOF) || strings.HasPrefix(err.Error(), "json: unknown field") {
		return err.Error()
	}
	return "it could not be read" // the network's errors name addresses
}
