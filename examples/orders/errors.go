package main

import "errors"

// Texts of these are for the client.
type (
	invalid  string // 400
	conflict string // 409
	reused   string // 422
)

func (e invalid) Error() string  { return string(e) }
func (e conflict) Error() string { return string(e) }
func (e reused) Error() string   { return string(e) }

var (
	errNotFound = errors.New("there is no such order")
	errFull     = errors.New("there is no room for more orders: this is an example, with narrow limits")
	// errUntold is that a change was made and its message is not published yet. The error has the
	// cause, which is not for the client.
	errUntold = errors.New("the change is made, but not announced yet: it will be, and to repeat the request with its Idempotency-Key does no harm")
)

const errOtherRequest = reused("this Idempotency-Key was used for another request")
