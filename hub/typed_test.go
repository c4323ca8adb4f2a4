package hub

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
)

type order struct {
	N    int    `json:"n"`
	Name string `json:"name,omitempty"`
}

func (o order) MessageType() string { return "order" }

type untyped struct{ A []int }

type namedString string

// through publishes values and returns the messages' types and data, and the values as they are
// received.
func through[T any](t *testing.T, values ...T) (types, data []string, received []T) {
	t.Helper()
	walk(t, chained, Options{}, func(t *testing.T, _ *fake, h *Hub) {
		topic := NewTopic[T](h, "t")
		if topic.Name() != "t" {
			t.Errorf("the name is %q", topic.Name())
		}
		s, err := topic.Subscribe(context.Background(), Latest())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if s.Start() != "0" {
			t.Errorf("Start is %q", s.Start())
		}
		for _, v := range values {
			if _, err := topic.Publish(context.Background(), v); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.Finish(context.Background(), "t"); err != nil {
			t.Fatal(err)
		}
		for e, err := range s.All() {
			if err != nil || e.Err != nil {
				t.Errorf("errors %v, %v", err, e.Err)
			}
			if e.Final {
				break
			}
			types, data, received = append(types, e.Type), append(data, string(e.Data)), append(received, e.Value)
		}
	})
	return types, data, received
}

func testThrough[T any](t *testing.T, wantType, wantData string, v T) {
	t.Helper()
	types, data, got := through(t, v)
	if len(got) != 1 || types[0] != wantType || data[0] != wantData || !reflect.DeepEqual(got[0], v) {
		t.Errorf("types %q, data %q, values %v", types, data, got)
	}
}

func TestTypedTopic(t *testing.T) {
	testThrough(t, "order", `{"n":7}`, order{N: 7})
	testThrough(t, "order", `{"n":7}`, &order{N: 7})
	testThrough(t, "", `{"A":[1,2]}`, untyped{A: []int{1, 2}})
	testThrough(t, "", "as \"it\" is\n", "as \"it\" is\n")
	testThrough(t, "", "as it is", []byte("as it is"))
	testThrough(t, "", `"quoted"`, namedString("quoted"))
	testThrough(t, "", "42", 42)
}

func TestTypedDecodeErrorDoesNotEndTheLoop(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, _ *fake, h *Hub) {
		topic := NewTopic[order](h, "t")
		s, err := topic.Subscribe(context.Background(), Latest())
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range []string{`{"n":1}`, `{"n":`, `{"n":"x"}`, `{"n":4}`} {
			if _, err := h.Publish(context.Background(), "t", Message{Data: []byte(data)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.Finish(context.Background(), "t"); err != nil {
			t.Fatal(err)
		}
		var good, bad []ID
		for e, err := range s.All() {
			var syntax *json.SyntaxError
			var kind *json.UnmarshalTypeError
			switch {
			case err != nil:
				t.Errorf("error %v", err)
			case e.Err == nil:
				good = append(good, e.ID)
			case !errors.As(e.Err, &syntax) && !errors.As(e.Err, &kind):
				t.Errorf("error %v", e.Err)
			default:
				bad = append(bad, e.ID)
			}
		}
		if !reflect.DeepEqual(good, []ID{"1", "4"}) || !reflect.DeepEqual(bad, []ID{"2", "3"}) {
			t.Errorf("decoded %v, not decoded %v", good, bad)
		}
	})
}

// TestTypedMessage: what Publish has no argument for is set on the message that it would publish.
func TestTypedMessage(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		topic := NewTopic[order](h, "t")
		m, err := topic.Message(order{N: 7})
		if err != nil {
			t.Fatal(err)
		}
		if want := (Message{Type: "order", Data: []byte(`{"n":7}`)}); !reflect.DeepEqual(m, want) {
			t.Errorf("message %+v", m)
		}
		m.Key = "payment 7"
		first, err := h.Publish(t.Context(), topic.Name(), m)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := h.Publish(t.Context(), topic.Name(), m); err != nil || again != first {
			t.Errorf("with the same key: %q, %v; want %q", again, err, first)
		}
		if n := len(b.topic("t").retained); n != 1 {
			t.Errorf("%d messages", n)
		}
		if m, err := NewTopic[func()](h, "t").Message(nil); !errors.Is(err, ErrRejected) || !reflect.DeepEqual(m, Message{}) {
			t.Errorf("%+v, %v", m, err)
		}
	})
}

func TestTypedErrors(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		var e *Error
		var unsupported *json.UnsupportedTypeError
		if _, err := NewTopic[func()](h, "t").Publish(t.Context(), nil); !errors.Is(err, ErrRejected) || !errors.As(err, &e) || !errors.As(err, &unsupported) {
			t.Errorf("error %v", err)
		}
		if _, err := NewTopic[string](h, "").Publish(t.Context(), "x"); !errors.Is(err, ErrTopic) {
			t.Errorf("error %v", err)
		}
		if _, err := NewTopic[string](h, "").Subscribe(t.Context(), Latest()); !errors.Is(err, ErrTopic) {
			t.Errorf("error %v", err)
		}
		if _, err := NewTopic[string](h, "t").Publish(t.Context(), "\xff"); !errors.Is(err, ErrData) {
			t.Errorf("error %v", err)
		}
		b.add("t", 3)
		s, err := NewTopic[string](h, "t").Subscribe(t.Context(), After("unheard-of"))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range s.All() {
			if n++; !errors.Is(err, ErrGap) {
				t.Errorf("error %v", err)
			}
		}
		if n != 1 {
			t.Errorf("%d yields", n)
		}
	})
}

type pointerTyped struct{ N int }

func (*pointerTyped) MessageType() string { return "pointer" }

// TestTypedOnPointer: a MessageType method counts whether it is the value's or its pointer's.
func TestTypedOnPointer(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		if _, err := NewTopic[pointerTyped](h, "t").Publish(t.Context(), pointerTyped{1}); err != nil {
			t.Fatal(err)
		}
		if got := b.topic("t").retained[0].Type; got != "pointer" {
			t.Errorf("type %q", got)
		}
		if _, err := NewTopic[[]byte](h, "t").Publish(t.Context(), []byte{0xff}); err != nil {
			t.Fatal(err)
		}
		if m := b.topic("t").retained[1]; !m.Binary {
			t.Errorf("bytes that are no UTF-8 were published as %+v", m)
		}
	})
}
