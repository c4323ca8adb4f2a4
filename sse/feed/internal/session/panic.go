package session

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
)

// Panic is a panic that goes on on another goroutine than the one it began on, with the stack of
// the first.
type Panic struct {
	Value any
	Stack []byte
}

// Error tells the value, and the stack below it: who recovers a Panic mostly prints it.
func (p *Panic) Error() string { return fmt.Sprintf("%v\n\n%s", p.Value, p.Stack) }

// Unwrap returns the value if it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// Recovered makes a Panic of what recover has returned, which is not nil, to be called by the
// function that called recover. http.ErrAbortHandler stays what it is, because servers compare
// it.
func Recovered(value any) any {
	err, _ := value.(error)
	if p := (*Panic)(nil); errors.As(err, &p) || errors.Is(err, http.ErrAbortHandler) {
		return value
	}
	return &Panic{Value: value, Stack: debug.Stack()}
}
