package table

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"time"

	donovanhide "github.com/donovanhide/eventsource"
	launchdarkly "github.com/launchdarkly/eventsource"
	r3labs "github.com/r3labs/sse/v2"
	tmaxmax "github.com/tmaxmax/go-sse"

	"github.com/headrace/headrace/sse"
)

// A client in Go is this test program, started anew with these variables.
const (
	goClient = "HEADRACE_TABLE_CLIENT"
	goFeed   = "HEADRACE_TABLE_FEED"
)

// runGoClient follows a feed until the client ends.
func runGoClient(name, url string) {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	event := func(typ, data, id string) {
		if typ == "" {
			typ = "message"
		}
		_ = out.Encode(report{Kind: "event", Type: typ, Data: data, ID: id})
	}
	goClients[name](url, event)
}

var goClients = map[string]func(url string, event func(typ, data, id string)){
	"sse.Client": func(url string, event func(typ, data, id string)) {
		c := sse.Client{URL: url, MinBackoff: 10 * time.Millisecond}
		for e, err := range c.Events(context.Background()) {
			if err != nil {
				return
			}
			event(e.Type, e.Text(), e.ID)
		}
	},
	"tmaxmax": func(url string, event func(typ, data, id string)) {
		r, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			return
		}
		c := tmaxmax.Client{Backoff: tmaxmax.Backoff{InitialInterval: 10 * time.Millisecond}}
		conn := c.NewConnection(r)
		conn.Buffer(nil, 8<<20)
		conn.SubscribeToAll(func(e tmaxmax.Event) { event(e.Type, e.Data, e.LastEventID) })
		_ = conn.Connect()
	},
	"r3labs": func(url string, event func(typ, data, id string)) {
		c := r3labs.NewClient(url, r3labs.ClientMaxBufferSize(8<<20))
		_ = c.SubscribeRaw(func(e *r3labs.Event) { event(string(e.Event), string(e.Data), string(e.ID)) })
	},
	"launchdarkly": func(url string, event func(typ, data, id string)) {
		s, err := launchdarkly.SubscribeWithURL(url,
			launchdarkly.StreamOptionReadTimeout(3*time.Second),
			launchdarkly.StreamOptionErrorHandler(func(error) launchdarkly.StreamErrorHandlerResult {
				return launchdarkly.StreamErrorHandlerResult{}
			}))
		if err != nil {
			return
		}
		for e := range s.Events {
			event(e.Event(), e.Data(), e.Id())
		}
	},
	"donovanhide": func(url string, event func(typ, data, id string)) {
		s, err := donovanhide.Subscribe(url, "")
		if err != nil {
			return
		}
		go func() {
			for range s.Errors {
			}
		}()
		for e := range s.Events {
			event(e.Event(), e.Data(), e.Id())
		}
	},
}
