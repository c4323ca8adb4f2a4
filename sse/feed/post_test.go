package feed

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
)

// TestConformancePost: a POST is answered as GET is, whatever of its body the handler has read, and
// that the client leaves is noticed.
func TestConformancePost(t *testing.T) {
	bodies := map[string]func() io.Reader{
		"none":    func() io.Reader { return http.NoBody },
		"small":   func() io.Reader { return strings.NewReader(`{"ask":"x"}`) },
		"most":    func() io.Reader { return bytes.NewReader(make([]byte, maxBody)) },
		"chunked": func() io.Reader { return struct{ io.Reader }{bytes.NewReader(make([]byte, 10_000))} },
	}
	onEachWay(t, testenv.Sized(2, len(shapes)), func(_ *Feed, o *Options) { o.Post = true }, func(t *testing.T, l *lab) {
		for name, body := range bodies {
			for _, read := range []int64{0, 5, 1 << 20} {
				readSome := func(r *http.Request, _ *Options) { _, _ = io.CopyN(io.Discard, r.Body, read) }
				l.each.Store(&readSome)
				l.post = body
				c := l.open("Accept", streamType)
				equal(t, name, c.StatusCode, 200)
				start := c.primed(t)
				id := publish(t, l.hub, "t", "a")[0]
				equal(t, name, c.block(t), event(id, "a"))
				c.leave()
				l.ended(ErrClientGone)
				c = l.open("Last-Event-ID", start)
				equal(t, name+", resumed", c.block(t), prelude+event(id, "a"))
				c.leave()
				l.ended(ErrClientGone)
			}
		}
		large := func() io.Reader { return bytes.NewReader(make([]byte, maxBody+1)) }
		l.post = large
		nothing := func(*http.Request, *Options) {}
		l.each.Store(&nothing)
		equal(t, "too large", l.open().StatusCode, http.StatusRequestEntityTooLarge)
	})
}

// TestPostBodies: what is wrong with a body is answered before the stream, and nothing is counted.
func TestPostBodies(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	const head = "POST / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
	for name, tc := range map[string]struct {
		request string
		code    int
	}{
		"too large":          {head + fmt.Sprintf("Content-Length: %d\r\n\r\n", maxBody+1) + strings.Repeat("x", maxBody+1), 413},
		"chunked, too large": {head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", maxBody+1) + strings.Repeat("x", maxBody+1), 413},
		"no chunks":          {head + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
		"limited":            {head + "X-Limit: 3\r\nContent-Length: 5\r\n\r\n12345", 413},
		"asks first":         {head + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n12345", 200},
		"within the limit":   {head + "X-Limit: 5\r\nContent-Length: 5\r\n\r\n12345", 200},
	} {
		t.Run(name, func(t *testing.T) {
			limits := &Limits{}
			s := server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if limit, err := strconv.ParseInt(r.Header.Get("X-Limit"), 10, 64); err == nil {
					r.Body = http.MaxBytesReader(w, r.Body, limit)
				}
				_ = Serve(w, r, Of(h, "t"), Options{Post: true, Limits: limits, Logger: quiet()})
			}))
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go func() { _, _ = io.WriteString(conn, tc.request) }() // more, perhaps, than is read
			in := bufio.NewReader(conn)
			resp, err := http.ReadResponse(in, nil)
			if err == nil && resp.StatusCode == http.StatusContinue {
				resp, err = http.ReadResponse(in, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "status", resp.StatusCode, tc.code)
			if tc.code == 200 {
				newStream(resp).primed(t)
				return
			}
			equal(t, "connection", resp.Close, true)
			equal(t, "type", resp.Header.Get("Content-Type"), documentType)
			equal(t, "open streams", limits.Open(), 0)
		})
	}
}

// TestPostSlowBody: a body that does not come is waited for as long as ConnectTimeout says, and one
// that comes in time has no deadline behind it.
func TestPostSlowBody(t *testing.T) {
	bothVersions(t, func(t *testing.T, http2 bool) {
		h := newHub(t, nil, hub.Options{})
		client, stop := memServer(Handler(Of(h, "t"), Options{Post: true, Heartbeat: time.Hour, Logger: quiet()}), http2, nil)
		defer stop()
		ask := func(delay time.Duration) *follower {
			body, feed := io.Pipe()
			go func() {
				_, _ = io.WriteString(feed, "a")
				time.Sleep(delay)
				_ = feed.Close()
			}()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://memory/", body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", streamType)
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			return newStream(resp)
		}
		begun := time.Now()
		slow := ask(time.Minute)
		equal(t, "status", slow.StatusCode, http.StatusRequestTimeout)
		equal(t, "after", time.Since(begun), 5*time.Second)
		slow.Body.Close()

		late := ask(4 * time.Second)
		equal(t, "status", late.StatusCode, http.StatusOK)
		late.primed(t)
		time.Sleep(10 * time.Minute)
		id := publish(t, h, "t", "a")[0]
		equal(t, "message", late.block(t), event(id, "a"))
		late.Body.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
	})
}

// TestPostRefused: where the application has not asked for it, and where it has, no other method is
// taken for GET, and no body is read.
func TestPostRefused(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	for _, tc := range []struct {
		post   bool
		method string
		allow  string
	}{
		{false, "POST", "GET, HEAD"}, {true, "PUT", "GET, HEAD, POST"}, {true, "OPTIONS", "GET, HEAD, POST"}, {true, "post", "GET, HEAD, POST"},
	} {
		r := httptest.NewRequest(tc.method, "/", strings.NewReader("x"))
		w := newRecorder()
		isCause(t, Serve(w, r, Of(h, "t"), Options{Post: tc.post, Logger: quiet()}), ErrMethod)
		equal(t, tc.method, w.Code, http.StatusMethodNotAllowed)
		equal(t, tc.method, w.Header().Get("Allow"), tc.allow)
		if rest, _ := io.ReadAll(r.Body); string(rest) != "x" {
			t.Errorf("%s: of the body %q is left", tc.method, rest)
		}
	}
}

// TestPostGenerator: what the generator has read of the body before, and that its client leaves.
func TestPostGenerator(t *testing.T) {
	errs := make(chan error, 1)
	var asked []byte
	gone := make(chan error, 1)
	generate := generator(Options{Post: true}, errs, func(ctx context.Context, yield yieldFunc) {
		yield(sse.Event{Type: "answer", Data: string(asked)}, nil)
		<-ctx.Done()
		gone <- context.Cause(ctx)
	})
	s := server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, _ = io.ReadAll(r.Body)
		generate.ServeHTTP(w, r)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, strings.NewReader("who?"))
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	c := newStream(resp)
	equal(t, "answer", c.block(t), prelude+"event: answer\ndata: who?\n\n")
	select {
	case cause := <-gone:
		t.Errorf("the generator ended by %v while its client was there", cause)
	default:
	}
	cancel()
	isCause(t, <-gone, ErrClientGone)
	if err := <-errs; !errors.Is(err, ErrClientGone) {
		t.Error(err)
	}
}
