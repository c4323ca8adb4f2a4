package feed

import (
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/hub"
)

// ofProcess has the streams of the test counted on their own, as those of a process that has
// room for so many by default.
func ofProcess(t *testing.T, most int64) {
	t.Helper()
	before := process
	process = &descriptors{most: func() int64 { return most }}
	t.Cleanup(func() { process = before })
}

func TestRoomForStreams(t *testing.T) {
	for limit, want := range map[int64]int64{
		0: 0, 1: 1, 4: 3, 256: 192, 1024: 768, 4096: 3072, 5000: 3976, 20_000: 18_976, 1 << 20: 1<<20 - 1024,
		math.MaxInt64: math.MaxInt64 - 1024,
	} {
		equal(t, "room", roomFor(limit), want)
	}
}

// TestProcess: streams of all Limits count, and of none, and each is held against its own bound.
func TestProcess(t *testing.T) {
	ofProcess(t, 3)
	var none *Limits
	defer take(t, none, of(""))()
	defer take(t, &Limits{}, of(""))()
	l := &Limits{Max: 100, PerKey: 1, Key: byKey}
	last := take(t, l, of("a"))
	isRefused(t, none, of(""), http.StatusServiceUnavailable)
	isRefused(t, &Limits{Process: -1}, of(""), http.StatusServiceUnavailable)
	isRefused(t, &Limits{Process: 2}, of(""), http.StatusServiceUnavailable)
	isRefused(t, l, of("a"), http.StatusTooManyRequests)
	isRefused(t, l, of("b"), http.StatusServiceUnavailable)
	equal(t, "keys", len(l.keys), 1)
	take(t, &Limits{Process: 4}, of(""))()
	take(t, &Limits{Process: math.MaxInt}, of(""))()
	last()
	last()
	equal(t, "open", process.open.Load(), 2)
	take(t, none, of(""))()
	isEmpty(t, l)
}

func TestProcessWithoutBound(t *testing.T) {
	ofProcess(t, 0)
	for range 1000 {
		defer take(t, nil, of(""))()
	}
	isRefused(t, &Limits{Process: 1000}, of(""), http.StatusServiceUnavailable)
}

// TestProcessConcurrently: never more than the bound, and nothing is left behind.
func TestProcessConcurrently(t *testing.T) {
	ofProcess(t, 5)
	var open, taken atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 300 {
				release, err := (*Limits)(nil).acquire(of(""))
				if err != nil {
					continue
				}
				taken.Add(1)
				if n := open.Add(1); n > 5 {
					t.Errorf("%d streams", n)
				}
				open.Add(-1)
				release()
			}
		})
	}
	wg.Wait()
	if taken.Load() == 0 {
		t.Error("nobody got in")
	}
	equal(t, "open", process.open.Load(), 0)
}

// TestRefusedForDescriptors: who is refused is told to come back and leaves no connection behind,
// and it is logged, but not for each.
func TestRefusedForDescriptors(t *testing.T) {
	for _, test := range []struct {
		accept, proto string
		code          int
		connection    string
	}{
		{"text/event-stream", "HTTP/1.1", http.StatusOK, "close"},
		{"*/*", "HTTP/1.1", http.StatusServiceUnavailable, "close"},
		{"text/event-stream", "HTTP/2.0", http.StatusOK, ""},
		{"*/*", "HTTP/2.0", http.StatusServiceUnavailable, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			ofProcess(t, 1)
			defer take(t, nil, of(""))()
			h := newHub(t, nil, hub.Options{})
			logger, log := logged()
			ask := func() *httptest.ResponseRecorder {
				r := of("")
				r.Header.Set("Accept", test.accept)
				r.Proto = test.proto
				r.ProtoMajor, r.ProtoMinor, _ = http.ParseHTTPVersion(test.proto)
				w := httptest.NewRecorder()
				isCause(t, Serve(w, r, Of(h, "t"), Options{Logger: logger}), ErrTooMany)
				return w
			}
			warnings := func() int { return strings.Count(log(), "level=WARN") }
			w := ask()
			equal(t, "status", w.Code, test.code)
			equal(t, "Connection", w.Header().Get("Connection"), test.connection)
			if body := w.Body.String(); strings.Contains(body, "descriptor") || test.code == http.StatusOK && !strings.Contains(body, "retry: ") {
				t.Errorf("the client is told %q", body)
			}
			equal(t, "warnings", warnings(), 1)
			time.Sleep(time.Minute - 1)
			ask()
			equal(t, "warnings within a minute", warnings(), 1)
			time.Sleep(1)
			ask()
			ask()
			equal(t, "warnings after a minute", warnings(), 2)
		})
	}
}
