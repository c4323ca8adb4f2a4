package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
)

// shaky is a backend that is away for a number of attempts to publish, or appends and loses the
// answer.
type shaky struct {
	hub.Backend
	attempts   atomic.Int64
	away, lost atomic.Int64 // the number of the last attempt that meets it
}

func (s *shaky) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	n := s.attempts.Add(1)
	if n <= s.away.Load() {
		return "", fmt.Errorf("%w: connection refused", hub.ErrRejected)
	}
	id, err := s.Backend.Publish(ctx, topic, m)
	if err == nil && n <= s.lost.Load() {
		return "", errors.New("connection reset")
	}
	return id, err
}

// happened is what the feed has, in a few words each.
func (s *shaky) happened(t *testing.T) []string {
	t.Helper()
	page, err := s.Read(context.Background(), eventsTopic, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range page.Messages {
		all = append(all, sentenceOf(t, m.Type, m.Data))
	}
	return all
}

// desked starts the application over a backend, without a network.
func desked(t *testing.T, backend *shaky) *server {
	t.Helper()
	backend.Backend = memory.New(memory.Options{})
	t.Cleanup(func() { _ = backend.Close() })
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(t.Context(), h, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) post(path, body, key string) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	s.Handler.ServeHTTP(answer, request)
	return answer
}

func (s *server) accept(t *testing.T, path, body, key string) {
	t.Helper()
	if answer := s.post(path, body, key); answer.Code != http.StatusAccepted {
		t.Fatalf("POST %s %s: status %d, %s", path, body, answer.Code, answer.Body)
	}
}

// settle lets an hour of fake time pass, for whatever is tried again.
func settle() {
	time.Sleep(time.Hour)
	synctest.Wait()
}

// TestLostAnswers: an event is published, and whoever published it does not learn that. The handler
// runs again, the event has the same UUID, and the feed has it once.
func TestLostAnswers(t *testing.T) {
	for _, test := range []struct {
		name string
		lose func(*server, *shaky)
		want int // attempts at the backend
	}{
		{"by the publisher", func(s *server, _ *shaky) { s.post("/debug/lose", "", "") }, 3},
		// The hub tries three times by itself; the handler's first three runs make nine attempts.
		{"by the backend", func(_ *server, b *shaky) { b.lost.Store(1 + 7) }, 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				backend := &shaky{}
				s := desked(t, backend)
				opened := backend.attempts.Load()
				test.lose(s, backend)
				s.accept(t, "/commands/BookRoom", `{"room":101,"guest":"Ada"}`, "book-1")
				settle()
				if got, want := backend.happened(t), []string{"DeskOpened", "RoomBooked 101 v1 Ada"}; !slices.Equal(got, want) {
					t.Errorf("events %q, want %q", got, want)
				}
				if got := int(backend.attempts.Load() - opened); got != test.want {
					t.Errorf("%d attempts, want %d", got, test.want)
				}
				if test.want == 3 {
					if tally := s.buses.attempts.tally(); tally.Attempts[s.buses.desk.id+".book-1"] != 3 || tally.ToLose != 0 {
						t.Errorf("the page would show %+v", tally)
					}
				}
				if err := s.stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestBackendAway: what was accepted while nothing could be published comes in its order once it
// can, however long that took.
func TestBackendAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &shaky{}
		backend.away.Store(100)
		s := desked(t, backend)
		for i, c := range []struct{ name, body string }{
			{"BookRoom", `{"room":101,"guest":"Ada"}`}, {"CheckIn", `{"room":101}`}, {"BookRoom", `{"room":102,"guest":"Grace"}`}, {"CheckOut", `{"room":101}`},
		} {
			s.accept(t, "/commands/"+c.name, c.body, fmt.Sprint(i))
			synctest.Wait()
		}
		if got := backend.happened(t); len(got) > 0 {
			t.Fatalf("events %q while the backend is away", got)
		}
		settle()
		got := backend.happened(t)
		want := []string{"DeskOpened", "RoomBooked 101 v1 Ada", "GuestCheckedIn 101 v2 Ada", "RoomBooked 102 v1 Grace", "GuestCheckedOut 101 v3"}
		if !slices.Equal(got, want) {
			t.Errorf("events\n%q, want\n%q", got, want)
		}
		if err := s.stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestSameCommandTwice: a client that got no answer sends its request again.
func TestSameCommandTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &shaky{}
		s := desked(t, backend)
		for range 3 {
			s.accept(t, "/commands/BookRoom", `{"room":101,"guest":"Ada"}`, "same")
		}
		settle()
		if got, want := backend.happened(t), []string{"DeskOpened", "RoomBooked 101 v1 Ada"}; !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
		if err := s.stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestTooManyCommands: while nothing gets done, only so many are taken.
func TestTooManyCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &shaky{}
		backend.away.Store(1 << 40)
		s := desked(t, backend)
		for i := range maxCommands {
			s.accept(t, "/commands/BookRoom", `{"room":101,"guest":"Ada"}`, fmt.Sprint(i))
		}
		if answer := s.post("/commands/BookRoom", `{"room":101,"guest":"Ada"}`, ""); answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
			t.Errorf("one more: status %d, %s", answer.Code, answer.Body)
		}
		backend.away.Store(0)
		settle()
		s.accept(t, "/commands/CheckIn", `{"room":101}`, "")
		if err := s.stop(t.Context()); err != nil {
			t.Error(err)
		}
		if got := len(backend.happened(t)); got != 1+maxCommands+1 {
			t.Errorf("%d events, want one of each command and the first", got)
		}
	})
}

// TestStop: a command that was accepted is decided and published, even if the backend comes back
// only after the server was told to stop. If it does not come back, stop says so in time.
func TestStop(t *testing.T) {
	for _, comesBack := range []bool{true, false} {
		t.Run(fmt.Sprint("the backend comes back ", comesBack), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				backend := &shaky{}
				backend.away.Store(1 << 40)
				s := desked(t, backend)
				s.accept(t, "/commands/BookRoom", `{"room":101,"guest":"Ada"}`, "")
				if comesBack {
					time.AfterFunc(time.Second, func() { backend.away.Store(0) })
				}
				began := time.Now()
				err := s.stop(t.Context())
				if took := time.Since(began); took > stopTimeout {
					t.Errorf("stopping took %v", took)
				}
				switch {
				case comesBack:
					if got := backend.happened(t); err != nil || len(got) != 2 {
						t.Errorf("events %q, error %v", got, err)
					}
				case err == nil || !strings.Contains(err.Error(), "1 commands were not done"):
					t.Errorf("error %v, want one that says what was left", err)
				}
				if answer := s.post("/commands/CheckIn", `{"room":101}`, ""); answer.Code != http.StatusServiceUnavailable {
					t.Errorf("a command after the end: status %d", answer.Code)
				}
			})
		})
	}
}
