package feed

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// maxBody is how much of a body is read to drop it.
const maxBody = 64 << 10

var errBodyTooLarge = errors.New("the request's body is too large")

// allowed reports whether the request's method is, and says which are where it is not.
func (q *request) allowed() bool {
	switch q.r.Method {
	case http.MethodGet, http.MethodHead:
		return true
	case http.MethodPost:
		if q.o.Post {
			return true
		}
	}
	allow := "GET, HEAD"
	if q.o.Post {
		allow += ", POST"
	}
	q.w.Header().Set("Allow", allow)
	return false
}

// consume reads the rest of the request's body, and from then on the request has none. Only a
// connection whose body was read tells when the client leaves.
func (q *request) consume() error {
	if q.r.Body == nil || q.r.Body == http.NoBody {
		return nil
	}
	control := http.NewResponseController(q.w)
	_ = control.SetReadDeadline(time.Now().Add(q.o.ConnectTimeout)) // writers without are for tests
	n, err := io.Copy(io.Discard, io.LimitReader(q.r.Body, maxBody+1))
	var tooLarge *http.MaxBytesError
	switch {
	case n > maxBody, errors.As(err, &tooLarge):
		return q.unread(http.StatusRequestEntityTooLarge, errBodyTooLarge)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return q.unread(http.StatusRequestTimeout, err)
	case err != nil && !errors.Is(err, http.ErrBodyReadAfterClose):
		return q.unread(http.StatusBadRequest, err)
	}
	_ = control.SetReadDeadline(time.Time{})
	q.r = q.r.WithContext(q.r.Context()) // a copy
	q.r.Body, q.r.ContentLength, q.r.TransferEncoding = http.NoBody, 0, nil
	return nil
}

// unread returns an error that carries a status, for a request whose body is left where it is.
func (q *request) unread(code int, err error) error {
	if q.r.ProtoMajor == 1 {
		q.w.Header().Set("Connection", "close") // what is left of the body is no request
	}
	return Status(code, fmt.Errorf("body: %w", err))
}
