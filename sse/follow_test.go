package sse

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
)

type order struct{ N int }

// items follows a stream and returns what came, up to an error.
func items[M, S any](t *testing.T, s *Stream) (got []Item, err error) {
	t.Helper()
	for item, err := range Follow[M, S](s) {
		if err != nil {
			if item != nil {
				t.Errorf("%+v beside %v", item, err)
			}
			return got, err
		}
		got = append(got, item)
	}
	return got, nil
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{
			{body: "event: checkpoint\ndata\nid: 1\n\n" +
				"event: snapshot\ndata: [{\"N\":1},{\"N\":2}]\nid: 2\n\n" +
				"event: made\ndata: {\"N\":3}\nid: 3\n\ndata: {\"N\":4}\nid: 4\n\n" +
				"event: stream-error\ndata: {}\n\n", end: errors.New("cut")},
			{body: "event: gap\ndata: {}\nid: 5\n\n" +
				"event: photo;base64\ndata: eyJOIjo2fQ==\nid: 6\n\nevent: message;base64\ndata: eyJOIjo3fQ==\nid: 7\n\n" +
				"event: x-gap\ndata: {\"N\":8}\nid: 8\n\nevent: close\ndata\nid: 9\n\n"},
		}}
		got, err := items[order, []order](t, s.client().Stream(t.Context()))
		want := []Item{
			Snapshot[[]order]{ID: "2", State: []order{{1}, {2}}},
			Message[order]{ID: "3", Type: "made", Data: order{3}}, Message[order]{ID: "4", Data: order{4}},
			Gap{ID: "5"},
			Message[order]{ID: "6", Type: "photo", Data: order{6}}, Message[order]{ID: "7", Data: order{7}},
			Message[order]{ID: "8", Type: "x-gap", Data: order{8}},
			Close{ID: "9"},
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
		if ids := strings.Join(s.ids, ","); ids != ",4" {
			t.Errorf("ids %q", ids)
		}
	})
}

func TestFollowTextAndBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := "event: snapshot\ndata: not JSON\n\nevent: message;base64\ndata: /9g=\n\ndata: plain\n\n"
		text, err := items[string, string](t, (&script{answers: []answer{{body: body}}}).client().Stream(t.Context()))
		if want := []Item{Snapshot[string]{State: "not JSON"}, Message[string]{Data: "\xff\xd8"}, Message[string]{Data: "plain"}}; err != nil || !reflect.DeepEqual(text, want) {
			t.Errorf("got %+v, %v", text, err)
		}
		bytes, err := items[[]byte, any](t, (&script{answers: []answer{{body: "data: [1]\n\n"}}}).client().Stream(t.Context()))
		if want := []Item{Message[[]byte]{Data: []byte("[1]")}}; err != nil || !reflect.DeepEqual(bytes, want) {
			t.Errorf("got %+v, %v", bytes, err)
		}
	})
}

// TestFollowPayloadError: what does not fit is told, without the data, and ranging on passes it.
func TestFollowPayloadError(t *testing.T) {
	for name, test := range map[string]struct {
		block string
		as    any
	}{
		"no JSON":       {"data: canary", new(*json.SyntaxError)},
		"another type":  {"data: {\"N\":\"canary\"}", new(*json.UnmarshalTypeError)},
		"no base64":     {"event: photo;base64\ndata: canary!", new(base64.CorruptInputError)},
		"bad snapshot":  {"event: snapshot\ndata: canary", new(*json.SyntaxError)},
		"empty message": {"data", new(*json.SyntaxError)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, store := &script{answers: []answer{{body: "id: 1\ndata: {}\n\nid: 2\n" + test.block + "\n\n", end: errHang}, {body: "id: 3\ndata: {}\n\n"}}}, &memoryStore{}
				c := s.client()
				c.Cursor = store
				stream := c.Stream(t.Context())
				got, err := items[order, order](t, stream)
				var payload *PayloadError
				if len(got) != 1 || !errors.As(err, &payload) || payload.ID != "2" || !errors.As(err, test.as) || !isSSE(err) {
					t.Errorf("%+v, %v", got, err)
				}
				if strings.Contains(fmt.Sprint(err), "canary") {
					t.Errorf("the error tells the data: %v", err)
				}
				if store.id != "1" {
					t.Errorf("saved %q before anybody passed it", store.id)
				}
				got, err = items[order, order](t, stream)
				if len(got) != 1 || err != nil || strings.Join(s.ids, ",") != ",2,3" || store.id != "3" {
					t.Errorf("%+v, %v, ids %q, saved %q", got, err, s.ids, store.id)
				}
			})
		})
	}
}
