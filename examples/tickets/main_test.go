package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/sse"
)

// TestRunStopsWithStreamsOpen starts the program as a user does, opens one stream of each sort, and stops it.
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
	var decoders []*sse.Decoder
	for _, path := range []string{"tickets/events", "dashboard/events?role=admin"} {
		resp, err := http.Get(url + path)
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
	resp, err := http.Post(url+"tickets", "application/json", strings.NewReader(`{"subject":"last words"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	began := time.Now()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if took := time.Since(began); took > stopTimeout {
		t.Errorf("stopping took %v", took)
	}
	// The change that was accepted was delivered, then the streams ended as a whole.
	for i, d := range decoders {
		types := ""
		e, err := d.Decode()
		for ; err == nil; e, err = d.Decode() {
			types += e.Type + " "
		}
		if !errors.Is(err, io.EOF) || i == 0 && !strings.HasPrefix(types, kindCreated+" ") {
			t.Errorf("stream %d: events %sand error %v, want a clean end", i, types, err)
		}
		if retry, ok := d.Retry(); !ok || retry <= 0 {
			t.Errorf("stream %d was not told when to come back", i)
		}
	}
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
