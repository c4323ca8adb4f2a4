package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// TestRunStopsWithStreamsOpen starts the program as a user does, opens one stream of each sort, and
// stops it.
func TestRunStopsWithStreamsOpen(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stdout, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-addr", "127.0.0.1:0"}, out)
		out.Close()
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "tickets: ")
	if err != nil || !ok || !strings.HasPrefix(url, "http://127.0.0.1:") || !strings.HasSuffix(url, "/") || strings.Contains(url, ":0/") {
		t.Fatalf("printed %q, %v", line, err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	if resp, err := client.Post(url+"sign-in", "", strings.NewReader(`{"name":"Ada","role":"admin"}`)); err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("signing in: %+v, %v", resp, err)
	}
	var decoders []*sse.Decoder
	for _, path := range []string{"tickets/events", "desk/events", "dashboard/events"} {
		resp, err := client.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		d := sse.NewDecoder(resp.Body)
		if _, err := d.Decode(); err != nil {
			t.Fatal(err)
		}
		decoders = append(decoders, d)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	for i, d := range decoders {
		var err error
		for err == nil {
			_, err = d.Decode()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("stream %d ended with %v, want a clean end", i, err)
		}
		if retry, ok := d.Retry(); !ok || retry <= 0 {
			t.Errorf("stream %d was not told when to come back", i)
		}
	}
}

// TestStopPublishesWhatWasAccepted: a change that was answered with success is published, even if
// the backend comes back only after the server was told to stop.
func TestStopPublishesWhatWasAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &flaky{Backend: memory.New(memory.Options{}), before: 3}
		defer backend.Close()
		h, err := hub.New(backend, hub.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := newServer(h, newMemoryStore(h), newSessions(backend), ordinary())
		if err != nil {
			t.Fatal(err)
		}
		answer := httptest.NewRecorder()
		s.Handler.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/tickets", strings.NewReader(`{"subject":"last words"}`)))
		if answer.Code != http.StatusCreated {
			t.Fatalf("status %d, %s", answer.Code, answer.Body)
		}
		if err := s.stop(t.Context()); err != nil {
			t.Error(err)
		}
		page, err := backend.Read(t.Context(), everything, "", 10)
		if err != nil || len(page.Messages) != 1 || page.Messages[0].Type != kindCreated {
			t.Errorf("the backend has %+v, %v; want the one change", page.Messages, err)
		}
	})
}

func TestRunRefuses(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"unknown flag", []string{"-colour", "red"}, "colour"},
		{"argument", []string{"memory://"}, "unexpected argument"},
		{"unknown backend", []string{"-backend", "carrier-pigeon://"}, "carrier-pigeon"},
		{"unknown parameter", []string{"-backend", "memory://?histroy=7"}, "histroy"},
		{"password in a malformed URL", []string{"-backend", "redis://u:canary@h:x"}, "-backend"},
		{"no session at all", []string{"-session", "0s"}, "-session"},
		{"no stream at all", []string{"-streams", "0"}, "-streams"},
		{"origin with a path", []string{"-origins", "https://app.example.com/"}, "/tickets/events"},
		{"impossible address", []string{"-addr", "127.0.0.1:99999"}, "-addr"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := run(t.Context(), test.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("error %v, want one about %s", err, test.want)
			}
		})
	}
	if err := run(t.Context(), []string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}
