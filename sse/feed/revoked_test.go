package feed

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// TestRevokedBefore: a lease that is revoked before the stream begins lets nothing through, of a
// feed or of a generator, also behind a writer that hides deadlines from the server.
func TestRevokedBefore(t *testing.T) {
	plain := func(w http.ResponseWriter) http.ResponseWriter { return w }
	hidden := func(w http.ResponseWriter) http.ResponseWriter { return &mute{w} }
	h := newHub(t, nil, hub.Options{})
	publish(t, h, "t", "secret")
	for name, tc := range map[string]struct {
		wrap  func(http.ResponseWriter) http.ResponseWriter
		serve func(http.ResponseWriter, *http.Request) error
	}{
		"feed": {plain, func(w http.ResponseWriter, r *http.Request) error {
			return Serve(w, r, Of(h, "t"), Options{Start: hub.Earliest(), Logger: quiet()})
		}},
		"feed behind a hidden deadline": {hidden, func(w http.ResponseWriter, r *http.Request) error {
			return Serve(w, r, Of(h, "t"), Options{Start: hub.Earliest(), Logger: quiet()})
		}},
		"generator":                          {plain, secrets},
		"generator behind a hidden deadline": {hidden, secrets},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, err := h.Lease(r.Context(), "user")
				if err == nil {
					err = h.Revoke(context.Background(), "user")
				}
				if err != nil {
					t.Error(err)
				}
				<-ctx.Done()
				_ = tc.serve(tc.wrap(w), r.WithContext(ctx))
			}))
			s.Config.WriteTimeout = time.Hour
			s.Start()
			defer s.Close()
			for range 50 {
				resp, err := s.Client().Get(s.URL)
				if err != nil {
					t.Fatal(err)
				}
				b, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if strings.Contains(string(b), "secret") {
					t.Fatalf("what was sent behind the revocation: %q", b)
				}
			}
		})
	}
}

func secrets(w http.ResponseWriter, r *http.Request) error {
	return Generate(w, r, func(context.Context) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) { yield(sse.Event{Data: "secret"}, nil) }
	}, Options{Logger: quiet()})
}
