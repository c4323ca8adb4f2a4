package sse_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/headrace/headrace/sse"
)

func ExampleAppendEvent() {
	frame, err := sse.AppendEvent(nil, sse.Event{
		ID:   "17",
		Type: "assigned",
		Data: map[string]string{"to": "Ada"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(frame))
	// Output:
	// event: assigned
	// data: {"to":"Ada"}
	// id: 17
}

func ExampleAppendFrame() {
	frame, err := sse.AppendFrame(nil, "18", "", []byte("first line\r\nsecond line"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(frame))
	// Output:
	// data: first line
	// data: second line
	// id: 18
}

func ExampleAppendRetry() {
	prelude := sse.AppendComment(nil, "ok")
	prelude = sse.AppendRetry(prelude, 3*time.Second)
	fmt.Print(string(prelude))
	// Output:
	// : ok
	// retry: 3000
}

func ExampleEncoder() {
	encoder := sse.NewEncoder(os.Stdout)
	for _, word := range []string{"one", "two"} {
		if err := encoder.Encode(sse.Event{Data: word}); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// data: one
	//
	// data: two
}

func ExampleRead() {
	stream := strings.NewReader("event: greeting\ndata: hello\nid: 1\n\n: comment\n\ndata: never complete")
	for event, err := range sse.Read(stream) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event.ID, event.Type, event.Text())
	}
	// Output:
	// 1 greeting hello
}

func ExampleDecoder() {
	decoder := sse.NewDecoder(strings.NewReader("retry: 500\ndata: {\"celsius\": 21}\n\nid: 7\n\n"))
	for {
		event, err := decoder.Decode()
		if err != nil {
			break // io.EOF at the end
		}
		var reading struct{ Celsius int }
		if err := event.Decode(&reading); err != nil {
			log.Fatal(err)
		}
		fmt.Println(reading.Celsius)
	}
	retry, _ := decoder.Retry()
	fmt.Println(retry, decoder.LastEventID())
	// Output:
	// 21
	// 500ms 7
}

func ExampleRespond() {
	handler := func(w http.ResponseWriter, r *http.Request) {
		stream, err := sse.Respond(w, r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer stream.KeepAlive(15 * time.Second)()
		for i := range 3 {
			if err := stream.Send(sse.Event{ID: fmt.Sprint(i), Data: i * i}); err != nil {
				return // the client is gone
			}
		}
	}
	rec := httptest.NewRecorder()
	handler(rec, httptest.NewRequest(http.MethodGet, "/squares", nil))
	fmt.Println(rec.Header().Get("Content-Type"))
	fmt.Print(rec.Body)
	// Output:
	// text/event-stream; charset=utf-8
	// data: 0
	// id: 0
	//
	// data: 1
	// id: 1
	//
	// data: 4
	// id: 2
}

func ExampleLastEventID() {
	r := httptest.NewRequest(http.MethodGet, "/events?lastEventId=41", nil)
	fmt.Println(sse.LastEventID(r))
	r.Header.Set("Last-Event-ID", "42") // an EventSource that reconnects
	fmt.Println(sse.LastEventID(r))
	// Output:
	// 41 true
	// 42 true
}

func ExampleClient() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last, _ := sse.LastEventID(r)
		if last == "2" {
			w.WriteHeader(http.StatusNoContent) // nothing more to come
			return
		}
		stream, err := sse.Respond(w, r)
		if err != nil {
			return
		}
		next := map[string]string{"": "1", "1": "2"}[last]
		_ = stream.Send(sse.Event{ID: next, Data: "after " + last, Retry: time.Millisecond})
	}))
	defer server.Close()

	client := sse.Client{URL: server.URL}
	for event, err := range client.Events(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %q\n", event.ID, event.Text())
	}
	// Output:
	// 1: "after "
	// 2: "after 1"
}

func ExampleFollow() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stream, err := sse.Respond(w, r) // as a feed of package feed does it
		if err != nil {
			return
		}
		_ = stream.Send(sse.Event{ID: "1", Type: "snapshot", Data: []string{"ink", "paper"}})
		_ = stream.Send(sse.Event{ID: "2", Type: "added", Data: map[string]string{"Name": "glue"}})
		_ = stream.Send(sse.Event{ID: "3", Type: "close"})
	}))
	defer server.Close()

	type change struct{ Name string }
	client := sse.Client{URL: server.URL}
	for item, err := range sse.Follow[change, []string](client.Stream(context.Background())) {
		switch item := item.(type) {
		case sse.Snapshot[[]string]:
			fmt.Println("all:", item.State)
		case sse.Message[change]:
			fmt.Println(item.Type, item.Data.Name)
		case sse.Gap:
			fmt.Println("messages are gone")
		case sse.Close:
			fmt.Println("the end")
		default:
			log.Fatal(err)
		}
	}
	// Output:
	// all: [ink paper]
	// added glue
	// the end
}

func ExampleCursorFile() {
	client := sse.Client{
		URL:    "http://127.0.0.1:8080/tickets/events",
		Cursor: sse.CursorFile("tickets.cursor"), // a process that is started again goes on where it was
	}
	for event, err := range client.Events(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event.Text())
	}
}
