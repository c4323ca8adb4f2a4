package hub

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

func TestPublishRules(t *testing.T) {
	text := func(n int) string { return strings.Repeat("x", n) }
	type test struct {
		name  string
		topic string
		m     Message
		want  error // nil: accepted
	}
	tests := []test{
		{"topic empty", "", Message{}, ErrTopic},
		{"topic longest", text(MaxTopic), Message{}, nil},
		{"topic too long", text(MaxTopic + 1), Message{}, ErrTopic},
		{"topic of 10 KB", text(10_000), Message{}, ErrTopic},
		{"topic not UTF-8", "a\xff", Message{}, ErrTopic},
		{"topic with NUL", "a\x00b", Message{}, ErrTopic},
		{"topic with DEL", "a\x7f", Message{}, ErrTopic},
		{"topic with a C1 control", "a\u0085b", Message{}, ErrTopic},
		{"topic with a line break", "a\nb", Message{}, ErrTopic},
		{"topic beyond ASCII", "zürich/été/日本 {*}%?#", Message{}, nil},
		{"topic reserved", "_headrace/x", Message{}, ErrTopic},
		{"topic nearly reserved", "_headrace", Message{}, nil},
		{"topic with the reserved name inside", "a/_headrace/x", Message{}, nil},

		{"type longest", "t", Message{Type: text(maxType)}, nil},
		{"type too long", "t", Message{Type: text(maxType + 1)}, ErrType},
		{"type with LF", "t", Message{Type: "a\nb"}, ErrType},
		{"type with CR", "t", Message{Type: "a\rb"}, ErrType},
		{"type with NUL", "t", Message{Type: "a\x00b"}, ErrType},
		{"type with tab", "t", Message{Type: "a\tb"}, ErrType},
		{"type not UTF-8", "t", Message{Type: "\xff"}, ErrType},
		{"type beyond ASCII", "t", Message{Type: "größer"}, nil},
		{"type that would look like base64", "t", Message{Type: "x;base64"}, ErrType},
		{"type that is nearly reserved", "t", Message{Type: "x-gap"}, nil},
		{"final", "t", Message{Final: true}, ErrType},

		{"data UTF-8", "t", Message{Data: []byte("a\r\nb\x00\u2028")}, nil},
		{"data not UTF-8", "t", Message{Data: []byte("a\xff")}, ErrData},
		{"data cut within a character", "t", Message{Data: []byte("é")[:1]}, ErrData},
		{"data not UTF-8, declared", "t", Message{Data: []byte("a\xff"), Binary: true}, nil},

		{"header", "t", Message{Headers: map[string]string{"traceparent": "00-\n", "empty": ""}}, nil},
		{"header without a key", "t", Message{Headers: map[string]string{"": "x"}}, ErrHeader},
		{"header key not UTF-8", "t", Message{Headers: map[string]string{"\xff": "x"}}, ErrHeader},
		{"header value not UTF-8", "t", Message{Headers: map[string]string{"x": "\xff"}}, ErrHeader},

		{"key longest", "t", Message{Key: text(255)}, nil},
		{"key too long", "t", Message{Key: text(256)}, ErrKey},
		{"key with a control character", "t", Message{Key: "a\x01"}, ErrKey},
		{"key not UTF-8", "t", Message{Key: "\xff"}, ErrKey},

		{"size at the limit", "t", Message{Type: "type", Data: make([]byte, 1000-4-2), Headers: map[string]string{"k": "v"}}, nil},
		{"size one above", "t", Message{Type: "type", Data: make([]byte, 1000-4-1), Headers: map[string]string{"k": "v"}}, ErrTooLarge},
		{"size one above by type", "t", Message{Type: text(101), Data: make([]byte, 900)}, ErrTooLarge},
		{"size one above by a header", "t", Message{Data: make([]byte, 900), Headers: map[string]string{"k": text(100)}}, ErrTooLarge},
		{"what the backend gives is ignored", "t", Message{ID: "\n", Prev: "\n", Gap: true, Time: time.Unix(1, 1)}, nil},
	}
	for reserved := range reservedTypes {
		tests = append(tests, test{"type reserved: " + reserved, "t", Message{Type: reserved}, ErrType})
	}
	if len(reservedTypes) != 9 {
		t.Errorf("%d types are reserved", len(reservedTypes))
	}
	walk(t, chained, Options{MaxMessage: 1000}, func(t *testing.T, b *fake, h *Hub) {
		var sent *Message
		b.onPublish = func(_ context.Context, m Message, do func() ID) (ID, error) {
			sent = &m
			return do(), nil
		}
		for _, test := range tests {
			sent = nil
			id, err := h.Publish(t.Context(), test.topic, test.m)
			if test.want == nil {
				if err != nil || id == "" {
					t.Errorf("%s: %q, error %v", test.name, id, err)
					continue
				}
				if sent.ID != "" || sent.Prev != "" || sent.Gap || !sent.Time.IsZero() {
					t.Errorf("%s: the backend got %+v", test.name, sent)
				}
				if sent.Type != test.m.Type || string(sent.Data) != string(test.m.Data) || sent.Key != test.m.Key ||
					sent.Binary != test.m.Binary || !maps.Equal(sent.Headers, test.m.Headers) {
					t.Errorf("%s: the backend got %+v", test.name, sent)
				}
				continue
			}
			var e *Error
			if !errors.Is(err, test.want) || !errors.Is(err, ErrRejected) || errors.Is(err, ErrUnknown) || id != "" ||
				!errors.As(err, &e) || e.Op != "publish" || e.Topic != test.topic {
				t.Errorf("%s: %q, error %v", test.name, id, err)
			}
			for _, other := range []error{ErrTopic, ErrType, ErrData, ErrHeader, ErrKey, ErrNoKeys, ErrTooLarge} {
				if other != test.want && errors.Is(err, other) {
					t.Errorf("%s: error %v is also %v", test.name, err, other)
				}
			}
			if sent != nil {
				t.Errorf("%s: the backend was called", test.name)
			}
		}
		if s := h.Stats(); s.Rejected == 0 || s.Published == 0 || s.Rejected+s.Published != uint64(len(tests)) {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestDefaultSizeLimit(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, _ *fake, h *Hub) {
		if _, err := h.Publish(t.Context(), "t", Message{Data: make([]byte, 1<<20)}); err != nil {
			t.Error(err)
		}
		if _, err := h.Publish(t.Context(), "t", Message{Data: make([]byte, 1<<20+1)}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("error %v", err)
		}
	})
}

func TestPublishWithAnEndedContext(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := h.Publish(ctx, "t", Message{Key: "k"})
		if !errors.Is(err, ErrRejected) || !errors.Is(err, context.Canceled) || b.published != 0 {
			t.Errorf("error %v, %d calls", err, b.published)
		}
	})
}

func TestIdempotencyKeys(t *testing.T) {
	for reach, want := range map[KeyReach]error{KeysNone: ErrNoKeys, KeysWindow: nil, KeysStored: nil} {
		traits := chained
		traits.Keys = reach
		walk(t, traits, Options{}, func(t *testing.T, b *fake, h *Hub) {
			_, err := h.Publish(t.Context(), "t", Message{Key: "k"})
			if !errors.Is(err, want) || err != nil && !errors.Is(err, ErrRejected) {
				t.Errorf("%v: error %v", reach, err)
			}
			if want != nil && b.published != 0 {
				t.Errorf("%v: the backend was called", reach)
			}
		})
	}
	walk(t, chained, Options{}, func(t *testing.T, _ *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		for range 2 {
			if id, err := h.Publish(t.Context(), "t", Message{Key: "k"}); id != "1" || err != nil {
				t.Errorf("%q, error %v", id, err)
			}
		}
		if got := r.Poll(nil, 10, 1<<20); len(got.Entries) != 1 || got.Entries[0].Key != "" {
			t.Errorf("delivered %+v", got)
		}
	})
}

// TestUnknownOutcomes loses replies, before or after the message was appended.
func TestUnknownOutcomes(t *testing.T) {
	lost := errors.New("connection reset")
	rejected := fmt.Errorf("%w: read only", ErrRejected)
	tests := []struct {
		name    string
		key     string
		keys    KeyReach
		replies []error // of the attempts
		want    error   // nil: published
		calls   int
	}{
		{"first try", "", KeysStored, []error{nil}, nil, 1},
		{"without a key", "", KeysStored, []error{lost, nil}, ErrUnknown, 1},
		{"with a key that is not stored", "k", KeysWindow, []error{lost, nil}, ErrUnknown, 1},
		{"with a key", "k", KeysStored, []error{lost, nil}, nil, 2},
		{"with a key, twice", "k", KeysStored, []error{lost, lost, nil}, nil, 3},
		{"with a key, for ever", "k", KeysStored, []error{lost, lost, lost, nil}, ErrUnknown, 3},
		{"rejected", "", KeysStored, []error{rejected, nil}, ErrRejected, 1},
		{"rejected, with a key", "k", KeysStored, []error{rejected, nil}, ErrRejected, 1},
		{"rejected later", "k", KeysStored, []error{lost, rejected, rejected}, ErrUnknown, 3},
		{"rejected between", "k", KeysStored, []error{lost, rejected, nil}, nil, 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			traits := chained
			traits.Keys = test.keys
			walk(t, traits, Options{}, func(t *testing.T, b *fake, h *Hub) {
				b.onPublish = func(_ context.Context, m Message, do func() ID) (ID, error) {
					if m.Key != test.key {
						t.Errorf("key %q", m.Key)
					}
					err := test.replies[b.published-1]
					if errors.Is(err, ErrRejected) {
						return "", err
					}
					return do(), err
				}
				id, err := h.Publish(t.Context(), "t", Message{Key: test.key})
				if !errors.Is(err, test.want) || (test.want == nil) != (id == "1") {
					t.Errorf("%q, error %v", id, err)
				}
				if errors.Is(err, ErrRejected) && errors.Is(err, ErrUnknown) {
					t.Errorf("error %v is both", err)
				}
				if test.want == ErrUnknown && test.calls < 3 && !errors.Is(err, lost) {
					t.Errorf("error %v does not say why", err)
				}
				if b.published != test.calls {
					t.Errorf("%d calls, want %d", b.published, test.calls)
				}
				s := h.Stats()
				if got := [3]uint64{s.Published, s.Rejected, s.Unknown}; got != map[error][3]uint64{nil: {1}, ErrRejected: {0, 1}, ErrUnknown: {0, 0, 1}}[test.want] {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
}

func TestRetryEndsWithTheContext(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		ctx, cancel := context.WithCancel(t.Context())
		b.onPublish = func(context.Context, Message, func() ID) (ID, error) {
			cancel()
			return "", errors.New("lost")
		}
		if _, err := h.Publish(ctx, "t", Message{Key: "k"}); !errors.Is(err, ErrUnknown) || b.published != 1 {
			t.Errorf("error %v after %d calls", err, b.published)
		}
	})
}

// TestShutdownDuringARetry: the first attempt may have been appended, so it is not a rejection.
func TestShutdownDuringARetry(t *testing.T) {
	for _, later := range []time.Duration{0, backoffMin / 2, backoffMin} {
		walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
			b.onPublish = func(_ context.Context, _ Message, do func() ID) (ID, error) {
				do()
				time.AfterFunc(later, func() {
					if err := h.Shutdown(context.Background()); err != nil {
						t.Error(err)
					}
				})
				return "", errors.New("lost")
			}
			if _, err := h.Publish(context.Background(), "t", Message{Key: "k"}); !errors.Is(err, ErrUnknown) {
				t.Errorf("error %v", err)
			}
			time.Sleep(time.Second)
		})
	}
}

func TestFinishErrors(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		var e *Error
		if _, err := h.Finish(t.Context(), ""); !errors.Is(err, ErrTopic) || !errors.Is(err, ErrRejected) || !errors.As(err, &e) || e.Op != "finish" {
			t.Errorf("error %v", err)
		}
		b.onPublish = func(context.Context, Message, func() ID) (ID, error) { return "", errors.New("lost") }
		if _, err := h.Finish(t.Context(), "t"); !errors.Is(err, ErrUnknown) || !errors.As(err, &e) || e.Op != "finish" || e.Topic != "t" || b.published != publishAttempts {
			t.Errorf("error %v after %d calls", err, b.published)
		}
	})
}

// TestForeignMessages: what others wrote to the backend is made fit for readers, live and from
// pages.
func TestForeignMessages(t *testing.T) {
	tests := []struct {
		m    Message
		want Message
	}{
		{Message{Type: "gap"}, Message{Type: "x-gap"}},
		{Message{Type: "close"}, Message{Type: "x-close"}},
		{Message{Type: "error"}, Message{Type: "x-error"}},
		{Message{Type: "a\nb"}, Message{Type: "x-unknown"}},
		{Message{Type: strings.Repeat("x", 256)}, Message{Type: "x-unknown"}},
		{Message{Type: "\xff"}, Message{Type: "x-unknown"}},
		{Message{Type: "fine", Data: []byte("\xff")}, Message{Type: "fine", Data: []byte("\xff"), Binary: true}},
		{Message{Gap: true, Key: "k"}, Message{}},
		{Message{Type: "whatever", Final: true}, Message{Type: "close", Final: true}},
	}
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		for i, test := range tests {
			b.append("t", test.m)
			live := r.Poll(nil, 10, 1<<20).Entries
			page, err := h.reads.read(t.Context(), "t", ID(fmt.Sprint(i)), 1)
			if err != nil {
				t.Fatal(err)
			}
			for way, entries := range map[string][]*Entry{"live": live, "from a page": page.entries} {
				if len(entries) != 1 {
					t.Errorf("%+v %s: %d entries", test.m, way, len(entries))
					continue
				}
				got := entries[0]
				if got.Type != test.want.Type || got.Binary != test.want.Binary || string(got.Data) != string(test.want.Data) ||
					got.Final != test.want.Final || got.Gap || got.Key != "" {
					t.Errorf("%+v %s: got %+v", test.m, way, got.Message)
				}
			}
		}
	})
}

func TestMessagesWithoutAValidIDAreSkipped(t *testing.T) {
	walk(t, unchained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.add("t", 1)
		for _, id := range badIDs {
			b.inject("t", Message{ID: id})
		}
		b.inject("t", Message{})
		b.add("t", 1)
		r.want("1 2")
		if n := h.Stats().Skipped; n != uint64(len(badIDs)+1) {
			t.Errorf("%d skipped", n)
		}
		b.script(func() {
			b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
				p := page()
				p.Messages = append([]Message{{ID: "\n"}}, p.Messages...)
				return p, nil
			}
		})
		subscribe(t, h, "t", Earliest()).want("1 2")
		if n := h.Stats().Skipped; n != uint64(len(badIDs)+2) {
			t.Errorf("%d skipped", n)
		}
	})
}

// TestFinishTwice: where keys are stored a topic is ended once, however often it is finished, and
// the key is nobody else's.
func TestFinishTwice(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, _ *fake, h *Hub) {
		first, err := h.Finish(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		if again, err := h.Finish(t.Context(), "t"); err != nil || again != first {
			t.Errorf("again: %q, %v; want %q", again, err, first)
		}
		if _, err := h.Publish(t.Context(), "t", Message{Key: finishKey}); !errors.Is(err, ErrKey) {
			t.Errorf("a message with the key: %v", err)
		}
	})
}
