package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/headrace/headrace/sse"
)

// capabilities are the parts of the contract that a client may lack, but for event-type-listeners:
// that is for clients which get no event unless they were told its type.
var capabilities = []string{
	"204", "bom", "comments", "headers", "last-event-id", "payload-size-stress-testable", "post",
	"read-timeout", "report", "restart",
}

// params is what the harness asks of a stream.
type params struct {
	StreamURL      string            `json:"streamUrl"`
	CallbackURL    string            `json:"callbackUrl"`
	InitialDelayMS *int              `json:"initialDelayMs"`
	ReadTimeoutMS  int               `json:"readTimeoutMs"`
	LastEventID    string            `json:"lastEventId"`
	Headers        map[string]string `json:"headers"`
	Method         string            `json:"method"`
	Body           string            `json:"body"`
}

// message is what the harness is told.
type message struct {
	Kind    string `json:"kind"`
	Event   *event `json:"event,omitempty"`
	Comment string `json:"comment,omitempty"`
	Error   string `json:"error,omitempty"`
}

type event struct {
	Type string `json:"type"`
	Data string `json:"data"`
	ID   string `json:"id"`
}

// service answers the harness.
type service struct {
	mux http.ServeMux
	end sync.Once

	mu      sync.Mutex
	last    int
	streams map[string]*stream
	running sync.WaitGroup
}

// newService returns a service that calls ended, once, when the harness ends it.
func newService(ended func()) *service {
	s := &service{streams: make(map[string]*stream)}
	s.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"name": "headrace sse.Client", "capabilities": capabilities})
	})
	s.mux.HandleFunc("DELETE /{$}", func(http.ResponseWriter, *http.Request) { s.end.Do(ended) })
	s.mux.HandleFunc("POST /{$}", s.create)
	s.mux.HandleFunc("POST /streams/{id}", s.command)
	s.mux.HandleFunc("DELETE /streams/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		st := s.streams[r.PathValue("id")]
		delete(s.streams, r.PathValue("id"))
		s.mu.Unlock()
		if st == nil {
			http.NotFound(w, r)
			return
		}
		st.cancel()
	})
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// close ends all streams and waits for them.
func (s *service) close() {
	s.mu.Lock()
	for id, st := range s.streams {
		st.cancel()
		delete(s.streams, id)
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *service) create(w http.ResponseWriter, r *http.Request) {
	var p params
	if err := read(w, r, &p); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	st := &stream{params: p, cancel: cancel}
	if _, err := st.request(ctx); err != nil {
		cancel()
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	st.sse = st.client(ctx).Stream(ctx)
	s.mu.Lock()
	s.last++
	id := strconv.Itoa(s.last)
	s.streams[id] = st
	s.mu.Unlock()
	s.running.Go(func() { st.follow(ctx) })
	w.Header().Set("Location", "/streams/"+id)
	w.WriteHeader(http.StatusCreated)
}

func (s *service) command(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	st := s.streams[r.PathValue("id")]
	s.mu.Unlock()
	if st == nil {
		http.NotFound(w, r)
		return
	}
	var c struct {
		Command string `json:"command"`
	}
	if err := read(w, r, &c); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch c.Command {
	case "restart":
		st.sse.Restart()
	case "listen": // events of every type come anyway
	default:
		http.Error(w, "unknown command", http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func read(w http.ResponseWriter, r *http.Request, into any) error {
	return json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(into)
}

// stream is one client. Its messages go out from the goroutine of follow, one after the other.
type stream struct {
	params
	cancel context.CancelFunc
	sse    *sse.Stream
	told   int
}

// client returns the client that the parameters ask for.
func (s *stream) client(ctx context.Context) *sse.Client {
	c := &sse.Client{
		NewRequest:   s.request,
		HTTPClient:   &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		LastEventID:  s.LastEventID,
		NoJitter:     true,
		IdleTimeout:  time.Duration(s.ReadTimeoutMS) * time.Millisecond,
		MaxEventSize: math.MaxInt,
		OnComment:    func(text string) { s.tell(ctx, message{Kind: "comment", Comment: text}) },
		OnReconnect: func(reason error, _ time.Duration) {
			if reason != nil {
				s.tell(ctx, message{Kind: "error", Error: reason.Error()})
			}
		},
	}
	if s.InitialDelayMS != nil {
		// 0 means one second to the client, and at once to the harness.
		c.MinBackoff = max(time.Duration(*s.InitialDelayMS)*time.Millisecond, time.Nanosecond)
	}
	return c
}

// request makes the request of one connection.
func (s *stream) request(ctx context.Context) (*http.Request, error) {
	for _, address := range []string{s.StreamURL, s.CallbackURL} {
		if u, err := url.Parse(address); err != nil || u.Host == "" {
			return nil, errors.New("streamUrl and callbackUrl must be absolute URLs")
		}
	}
	var body io.Reader
	if s.Body != "" {
		body = strings.NewReader(s.Body)
	}
	r, err := http.NewRequestWithContext(ctx, cmp.Or(s.Method, http.MethodGet), s.StreamURL, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "text/plain")
	}
	for name, value := range s.Headers {
		r.Header.Set(name, value)
	}
	return r, nil
}

// follow tells the harness what the stream brings, until ctx or the stream ends.
func (s *stream) follow(ctx context.Context) {
	for e, err := range s.sse.All() {
		if err != nil {
			s.tell(ctx, message{Kind: "error", Error: err.Error()})
			return
		}
		s.tell(ctx, message{Kind: "event", Event: &event{Type: cmp.Or(e.Type, "message"), Data: e.Text(), ID: e.ID}})
	}
}

// tell sends the next message. What the harness does not take is its own loss: it has ended the
// test then.
func (s *stream) tell(ctx context.Context, m message) {
	s.told++
	body, err := json.Marshal(m)
	if err != nil {
		return
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.CallbackURL+"/"+strconv.Itoa(s.told), bytes.NewReader(body))
	if err != nil {
		return
	}
	r.Header.Set("Content-Type", "application/json")
	if resp, err := http.DefaultClient.Do(r); err == nil {
		_ = resp.Body.Close()
	}
}
