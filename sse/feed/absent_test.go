package feed

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
)

// TestAbsent: a feed without any of its topics is answered before the stream, in each form.
func TestAbsent(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	publish(t, h, "there", "1")
	finish(t, h, "over")
	publish(t, h, "gone", "1")
	remove(t, h, "gone")
	for _, tc := range []struct {
		name   string
		absent int
		topics []string
		want   int
	}{
		{"by default", 0, []string{"never"}, http.StatusOK},
		{"never was", 404, []string{"never"}, http.StatusNotFound},
		{"never was", 204, []string{"never", "nor this"}, http.StatusNoContent},
		{"deleted", 404, []string{"gone"}, http.StatusNotFound},
		{"finished", 404, []string{"over"}, http.StatusOK},
		{"one of two", 404, []string{"never", "there"}, http.StatusOK},
		{"bad option", 410, []string{"there"}, http.StatusInternalServerError},
	} {
		for form, r := range map[string]*http.Request{
			"stream":   get("/", "Accept", streamType),
			"page":     get("/?limit=1", "Accept", documentType),
			"snapshot": get("/", "Accept", documentType),
			"HEAD":     httptest.NewRequest(http.MethodHead, "/", nil),
			"page's":   httptest.NewRequest(http.MethodHead, "/?limit=1", nil),
		} {
			t.Run(tc.name+" "+form, func(t *testing.T) {
				if form == "page's" {
					r.Header.Set("Accept", documentType)
				}
				ctx, cancel := context.WithCancel(t.Context())
				f := Of(h, tc.topics...)
				f.Snapshot = func(context.Context) (any, error) { return "state", nil }
				w := &limitWriter{ResponseRecorder: newRecorder(), cancel: cancel}
				err := Serve(w, r.WithContext(ctx), f, Options{Absent: tc.absent, History: &History{}, Logger: quiet()})
				equal(t, "status", w.Code, tc.want)
				switch tc.want {
				case http.StatusNotFound:
					isCause(t, err, ErrAbsent)
				case http.StatusInternalServerError:
					isCause(t, err, ErrOptions)
				case http.StatusNoContent:
					equal(t, "error", err, nil)
					equal(t, "body", w.Body.String(), "")
				}
				if tc.want != http.StatusOK {
					equal(t, "caching", w.Header().Get("Cache-Control"), "no-store")
				}
				equal(t, "subscriptions", h.Stats().Subscriptions, 0)
			})
		}
	}
}

func remove(t testing.TB, h *hub.Hub, topic string) {
	t.Helper()
	if err := h.Delete(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
}

// infoBackend answers Info in its own way.
type infoBackend struct {
	hub.Backend
	info func(context.Context) error
}

func (b infoBackend) Info(ctx context.Context, _ string) (hub.Info, error) {
	return hub.Info{}, b.info(ctx)
}

// TestAbsentUnknown: a backend that cannot tell, one that fails, and one that hangs.
func TestAbsentUnknown(t *testing.T) {
	failure := errors.New("down")
	for name, tc := range map[string]struct {
		info func(context.Context) error
		want error
		code int
	}{
		"cannot tell": {func(context.Context) error { return hub.ErrUnsupported }, nil, 200},
		"fails":       {func(context.Context) error { return failure }, failure, 503},
		"hangs": {func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}, ErrUnavailable, 503},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, infoBackend{memory.New(memory.Options{}), tc.info}, hub.Options{})
			w := newRecorder()
			err := Serve(w, get("/?limit=1", "Accept", documentType), Of(h, "t"),
				Options{Absent: 404, ConnectTimeout: 10 * time.Millisecond, History: &History{}, Logger: quiet()})
			equal(t, "status", w.Code, tc.code)
			isCause(t, err, tc.want)
		})
	}
}

// TestDeleted: a deletion is a gap, and with EndDeleted the end, for who is there and for who comes
// back, with one topic and with several, with a snapshot and without.
func TestDeleted(t *testing.T) {
	for _, topics := range [][]string{{"a"}, {"a", "b"}} {
		for _, snapshot := range []bool{false, true} {
			t.Run(strings.Join(topics, " ")+map[bool]string{true: " with a snapshot"}[snapshot], func(t *testing.T) {
				h := newHub(t, nil, hub.Options{})
				f := Of(h, topics...)
				if snapshot {
					f.Snapshot = func(context.Context) (any, error) { return "state", nil }
				}
				s := server(t, Handler(f, Options{EndDeleted: true, Retry: time.Millisecond, Logger: quiet()}))
				for _, topic := range topics {
					publish(t, h, topic, "1")
				}
				c := connect(t, s.Client(), s.URL, "")
				start := idOf(c.block(t))
				for i, topic := range topics {
					remove(t, h, topic)
					if i < len(topics)-1 { // the stream goes on for the others
						equal(t, "gap", strings.HasPrefix(c.block(t), "event: gap\n"), true)
						if snapshot {
							equal(t, "snapshot", strings.HasPrefix(c.block(t), "event: snapshot\n"), true)
						}
					}
				}
				rest := c.rest(t)
				equal(t, "gaps", strings.Count(rest, "event: gap\n"), 1)
				equal(t, "snapshots", strings.Count(rest, "event: snapshot\n"), 0)
				end := idOf(rest[strings.LastIndex(rest, "event: close\n"):])
				equal(t, "the end", strings.HasSuffix(rest, "event: close\ndata: \nid: "+end+"\n\n"), true)

				equal(t, "back at the end", connect(t, s.Client(), s.URL, end).StatusCode, http.StatusNoContent)
				absent := server(t, Handler(f, Options{EndDeleted: true, Absent: 404, Logger: quiet()}))
				equal(t, "back, and absent", connect(t, absent.Client(), absent.URL, end).StatusCode, http.StatusNoContent)
				equal(t, "back from before, and absent", connect(t, absent.Client(), absent.URL, start).StatusCode, http.StatusNotFound)
				late := connect(t, s.Client(), s.URL, start).rest(t)
				if !strings.Contains(late, "event: gap\n") || strings.Contains(late, "snapshot") || !strings.HasSuffix(late, "event: close\ndata: \nid: "+idOf(late[strings.LastIndex(late, "event: close"):])+"\n\n") {
					t.Errorf("back from before the deletion: %q", late)
				}

				id := publish(t, h, topics[0], "anew")[0]
				c = connect(t, s.Client(), s.URL, end)
				block := c.block(t)
				equal(t, "status when the name is used again", c.StatusCode, http.StatusOK)
				if len(topics) == 1 {
					equal(t, "the message", block, prelude+event(id, "anew"))
				}
				c.leave()
			})
		}
	}
}

// TestDeletedGoesOn: without EndDeleted the stream says a gap, and goes on with what is published
// under the name.
func TestDeletedGoesOn(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	s := server(t, Handler(Of(h, "t"), Options{Logger: quiet()}))
	publish(t, h, "t", "1")
	c := connect(t, s.Client(), s.URL, "")
	start := c.primed(t)
	remove(t, h, "t")
	block := c.block(t)
	equal(t, "gap", block, "event: gap\ndata: {}\nid: "+idOf(block)+"\n\n")
	id := publish(t, h, "t", "2")[0]
	equal(t, "message", c.block(t), event(id, "2"))
	equal(t, "back at the gap", connect(t, s.Client(), s.URL, idOf(block)).block(t), prelude+event(id, "2"))
	equal(t, "back from before", connect(t, s.Client(), s.URL, start).block(t), prelude+gapEvent)
}
