package feed

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/headrace/headrace/internal/writers"
)

// maxBody is how much of a body is read to drop it.
const maxBody = 64 << 10

var errBodyTooLarge = errors.New("it is too large")

// methods returns those that are allowed, for the header Allow.
func (o Options) methods() string {
	if o.Post {
		return "GET, HEAD, POST"
	}
	return "GET, HEAD"
}

// withoutBody reads the rest of a request's body, within a time, and returns the request as one
// that has none. Only a connection whose body was read tells when the client leaves.
func withoutBody(w http.ResponseWriter, r *http.Request, within time.Duration) (*http.Request, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return r, nil
	}
	inner, _ := writers.Innermost(w)
	control := http.NewResponseController(inner)
	_ = control.SetReadDeadline(time.Now().Add(within)) // what has none is no server's, or well hidden
	n, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxBody+1))
	var tooLarge *http.MaxBytesError
	code := 0
	switch {
	case n > maxBody, errors.As(err, &tooLarge):
		code, err = http.StatusRequestEntityTooLarge, errBodyTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		code = http.StatusRequestTimeout
	case err != nil && !errors.Is(err, http.ErrBodyReadAfterClose):
		code = http.StatusBadRequest
	}
	if code != 0 {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // what is left of the body is no request
		}
		return r, Status(code, fmt.Errorf("body: %w", err))
	}
	_ = control.SetReadDeadline(time.Time{})
	r = r.WithContext(r.Context()) // a copy
	r.Body, r.ContentLength, r.TransferEncoding = http.NoBody, 0, nil
	return r, nil
}
