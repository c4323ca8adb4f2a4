package redisstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// Causes, found with errors.Is in the errors of a Backend. An error names the operation, the
// topic and the cause; it never holds an address, a user, a password or what a message contains.
var (
	// ErrUnreachable means that Redis could not be reached, or that the connection failed or
	// timed out.
	ErrUnreachable = errors.New("redis is unreachable")
	// ErrFull means that Redis takes no writes because its memory or disk is full (OOM, MISCONF).
	ErrFull = errors.New("redis has no room")
	// ErrReadOnly means that the server is a replica (READONLY).
	ErrReadOnly = errors.New("redis is a read-only replica")
	// ErrDenied means that the credentials are wrong, missing or lack a right (NOAUTH, WRONGPASS,
	// NOPERM). The error names the command, if it is known which one is missing.
	ErrDenied = errors.New("redis denies access")
	// ErrWrongType means that a key of the topic holds something else than it should (WRONGTYPE).
	ErrWrongType = errors.New("a key of another type is in the way")
	// ErrNotReady means that the server cannot serve for the moment (LOADING, BUSY, MASTERDOWN,
	// CLUSTERDOWN, TRYAGAIN, NOREPLICAS).
	ErrNotReady = errors.New("redis is not ready")
	// ErrReplicas means that the message is appended, but that it is not at so many replicas as
	// Options.Replicas asks for. A failover may lose it.
	ErrReplicas = errors.New("too few replicas have the message")
	// ErrReply means that the server refused a command for a reason without a name of its own
	// here; an unsupported server, for example, or one without a command, which the error names
	// then.
	ErrReply = errors.New("redis refuses the command")
)

var errReplicas = &failure{ErrReplicas, ""}

// endedCode and partialCode begin what the publish script has against a message: that it comes
// behind the end of its topic; that others of its batch are appended, and could not be removed.
const (
	endedCode   = "ENDED"
	partialCode = "PARTIAL"
)

var replyKinds = []struct {
	code string
	kind error
}{
	{endedCode, hub.ErrEnded}, // our script's own
	{"OOM", ErrFull}, {"MISCONF", ErrFull},
	{"READONLY", ErrReadOnly},
	{"NOAUTH", ErrDenied}, {"WRONGPASS", ErrDenied}, {"NOPERM", ErrDenied},
	{"WRONGTYPE", ErrWrongType},
	{"LOADING", ErrNotReady}, {"BUSY", ErrNotReady}, {"MASTERDOWN", ErrNotReady}, {"CLUSTERDOWN", ErrNotReady},
	{"TRYAGAIN", ErrNotReady}, {"NOREPLICAS", ErrNotReady},
}

// failure is a cause with the little that may be told of it.
type failure struct {
	kind   error
	detail string
}

func (f *failure) Error() string {
	if f.detail == "" || f.detail == endedCode {
		return f.kind.Error()
	}
	return f.kind.Error() + " (" + f.detail + ")"
}

func (f *failure) Unwrap() error { return f.kind }

// isReply reports whether the server answered with an error.
func isReply(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok && !errors.Is(err, redis.Nil)
}

// notReady reports whether a server answers that it cannot do anything for the moment.
func notReady(err error) bool {
	for _, code := range []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY"} {
		if redis.HasErrorPrefix(err, code) {
			return true
		}
	}
	return false
}

// cause reduces an error of go-redis to what may be shown. Texts of the network and of the server
// hold addresses, user names and arguments.
func cause(err error) error {
	known, ok := errors.AsType[*failure](err)
	switch {
	case err == nil:
		return nil
	case ok:
		return known
	case errors.Is(err, redis.ErrClosed):
		return hub.ErrClosed
	case isReply(err):
		return replyCause(err)
	case errors.Is(err, context.Canceled):
		// Commands run under the backend's context, which ends with Close. A deadline is the
		// network's.
		return hub.ErrClosed
	}
	return &failure{ErrUnreachable, networkDetail(err)}
}

func replyCause(err error) error {
	text := err.Error()
	for _, k := range replyKinds {
		// Older servers put the code of what failed within a script somewhere into the text.
		if i := strings.Index(text, k.code+" "); i == 0 || i > 0 && strings.IndexByte(" -:", text[i-1]) >= 0 {
			if errors.Is(k.kind, ErrDenied) {
				return denialCause(k.code, text)
			}
			return &failure{k.kind, k.code}
		}
	}
	for _, denial := range []string{"unauthenticated", "user executing the script can't", "ACL failure in script"} {
		if strings.Contains(text, denial) {
			return denialCause("", text)
		}
	}
	if lack := lackCause(text); lack != nil {
		return lack
	}
	code, _, _ := strings.Cut(text, " ")
	if len(code) > 16 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		code = ""
	}
	return &failure{ErrReply, code}
}

func networkDetail(err error) string {
	if errors.Is(err, errTooManyClients) {
		return "it has too many clients"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "timeout"
	}
	if errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) {
		return "no free connection"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return "connection closed"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "host name cannot be resolved"
	}
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	if verify || record || authority {
		return "TLS handshake"
	}
	return ""
}

// opError says what was done, to which topic, and why it failed.
func opError(op, topic string, err error) error {
	return fmt.Errorf("redisstream: %s %q: %w", op, topic, err)
}
