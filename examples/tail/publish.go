package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxLine      = 1 << 20 // what the gateway takes
	maxAnswer    = 64 << 10
	publishTries = 10
)

// publish sends each line of the input as a message, and prints what the server answers, which is
// the message's ID.
func publish(ctx context.Context, to string, header http.Header, typ string, std stdio) error {
	target, err := url.Parse(to)
	if err != nil || target.Host == "" {
		return errors.New("the URL is not an absolute URL") // the error of url.Parse repeats it
	}
	if typ != "" {
		query := target.Query()
		query.Set("type", typ)
		target.RawQuery = query.Encode()
	}
	session := rand.Text()
	lines := bufio.NewScanner(std.in)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		// A line that is sent again, because nobody knows what became of it, is appended once.
		key := fmt.Sprintf("%s-%d", session, n)
		answer, err := send(ctx, target.String(), header, key, lines.Text())
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if _, err := fmt.Fprintln(std.out, visible(answer)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// send sends a message until it is known that it is appended.
func send(ctx context.Context, to string, header http.Header, key, text string) (answer string, err error) {
	wait := 100 * time.Millisecond
	for range publishTries {
		var again bool
		if answer, again, err = post(ctx, to, header, key, text); !again {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, 5*time.Second)
	}
	return "", err
}

// post sends a message once, and reports whether it should be sent again.
func post(ctx context.Context, to string, header http.Header, key, text string) (answer string, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(text))
	if err != nil {
		return "", false, errors.New("the URL is not one to send to")
	}
	req.Header = header.Clone()
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if urlErr, ok := errors.AsType[*url.Error](err); ok {
			err = urlErr.Err // the rest repeats the URL, which may hold a token
		}
		return "", ctx.Err() == nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", ctx.Err() == nil, err
	}
	answer = strings.TrimSpace(string(body))
	switch {
	case resp.StatusCode < 300:
		return answer, false, nil
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusBadGateway,
		resp.StatusCode == http.StatusServiceUnavailable, resp.StatusCode == http.StatusGatewayTimeout:
		again = true
	}
	return "", again, fmt.Errorf("status %d: %s", resp.StatusCode, visible(answer))
}
