package main

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
)

// TestFeed: the state, then each version, to the end, and nothing for who comes back to it.
func TestFeed(t *testing.T) {
	for _, backend := range []string{"memory://", "miniredis://orders"} {
		t.Run(backend, func(t *testing.T) {
			a := serve(t, setup{backend: backend})
			o := a.place()
			own, all := follow(t, a.url+"/orders/"+o.ID+"/events"), follow(t, a.url+"/orders/events")
			var got Order
			if own.next("snapshot", &got); !same(got, o) {
				t.Errorf("snapshot %+v, want %+v", got, o)
			}
			var shop Shop
			if all.next("snapshot", &shop); len(shop.Orders) != 1 || !same(shop.Orders[0], o) || shop.TillCents != 0 {
				t.Errorf("snapshot %+v", shop)
			}
			typed, err := hub.NewTopic[OrderEvent](a.hub, topicOf(o.ID)).Subscribe(t.Context(), hub.Latest())
			if err != nil {
				t.Fatal(err)
			}
			defer typed.Close()
			for _, step := range []struct {
				action string
				state  State
			}{{"pay", Paid}, {"pack", Packed}, {"ship", Shipped}, {"deliver", Delivered}} {
				want := a.must("/orders/"+o.ID+"/"+step.action, "")
				for _, s := range []*stream{own, all} {
					if s.next(string(step.state), &got); !same(got, want) || got.State != step.state {
						t.Errorf("event %+v, want %+v", got, want)
					}
				}
			}
			version := 1
			for e, err := range typed.All() {
				if version++; err != nil || e.Err != nil || e.Value.Version != version || e.Type != string(e.Value.State) {
					t.Fatalf("typed event %+v, %v", e, err)
				}
			}
			if version != 5 {
				t.Errorf("the typed topic ended at version %d", version)
			}
			end := own.next("close", nil)
			final, cursor := state[Order](a, "/orders/"+o.ID)
			if !same(final, got) || !final.Final || len(final.History) != 5 {
				t.Errorf("in the end the order is %+v, want %+v", final, got)
			}
			for _, id := range []string{end, cursor} {
				if resp, _ := a.do(http.MethodGet, "/orders/"+o.ID+"/events?lastEventId="+id, "", "Accept", "text/event-stream"); resp.StatusCode != http.StatusNoContent {
					t.Errorf("after the end, from %s: status %d", id, resp.StatusCode)
				}
			}
			// Who never was there gets the state, and the end.
			late := follow(t, a.url+"/orders/"+o.ID+"/events")
			late.next("snapshot", &got)
			late.next("close", nil)
			if shop, _ := state[Shop](a, "/orders"); shop.TillCents != 2580 {
				t.Errorf("in the till are %d", shop.TillCents)
			}
		})
	}
}

// same compares orders; those that came as JSON have no monotonic clock.
func same(a, b Order) bool { return reflect.DeepEqual(a, b) }

// TestStateAndStream: the stream goes on where the state was taken, at either URL.
func TestStateAndStream(t *testing.T) {
	a := serve(t, setup{})
	o := a.place()
	for _, suffix := range []string{"", "/events"} {
		path := "/orders/" + o.ID + suffix
		before, cursor := state[Order](a, path)
		_, shopCursor := state[Shop](a, "/orders"+suffix)
		if before.ID != o.ID || cursor == "" || shopCursor == "" {
			t.Fatalf("state %+v, cursor %q", before, cursor)
		}
		after := a.must("/orders/"+o.ID+"/"+map[State]string{Placed: "pay", Paid: "pack"}[before.State], "")
		var got Order
		if follow(t, a.url+path+"?lastEventId="+cursor).next(string(after.State), &got); !same(got, after) {
			t.Errorf("%s: event %+v, want %+v", path, got, after)
		}
		if follow(t, a.url+"/orders"+suffix+"?lastEventId="+shopCursor).next(string(after.State), &got); !same(got, after) {
			t.Errorf("the shop: event %+v, want %+v", got, after)
		}
	}
}

// TestSnapshotIsFresh: a change after the request came and before the snapshot is taken is in it,
// or comes after it.
func TestSnapshotIsFresh(t *testing.T) {
	a := serve(t, setup{})
	o := a.place()
	// The place in the topic is fixed by Follow, which is after the order was loaded for the 404.
	pay := func() { a.must("/orders/"+o.ID+"/pay", "") }
	a.backend.following.Store(&pay)
	if got, _ := state[Order](a, "/orders/"+o.ID); got.State != Paid {
		t.Errorf("the state is %s, and the change is in neither", got.State)
	}
}

// TestTransitions tries every action in every state.
func TestTransitions(t *testing.T) {
	a := serve(t, setup{})
	allowed := map[string]string{
		"":                      "pay cancel",
		"pay":                   "pack cancel",
		"pay pack":              "ship cancel",
		"pay pack ship":         "deliver refund",
		"pay pack ship deliver": "",
		"pay pack ship refund":  "",
		"cancel":                "", // nothing was paid
		"pay cancel":            "refund",
		"pay cancel refund":     "",
	}
	for way, next := range allowed {
		for _, try := range actions {
			o := a.place()
			for step := range strings.FieldsSeq(way) {
				o = a.must("/orders/"+o.ID+"/"+step, "")
			}
			if o.Final != (next == "") {
				t.Errorf("after %q: final %v", way, o.Final)
			}
			resp, answer := a.do(http.MethodPost, "/orders/"+o.ID+"/"+try.name, "")
			want := http.StatusConflict
			if strings.Contains(" "+next+" ", " "+try.name+" ") {
				want = http.StatusOK
			}
			if resp.StatusCode != want {
				t.Errorf("after %q, %s: status %d, %s, want %d", way, try.name, resp.StatusCode, answer, want)
			}
			got, _ := state[Order](a, "/orders/"+o.ID)
			if want == http.StatusConflict && !same(got, o) {
				t.Errorf("after %q, %s was refused and changed the order to %+v", way, try.name, got)
			}
			if last := got.History[len(got.History)-1]; got.Version != len(got.History) || last.State != got.State || last.Version != got.Version {
				t.Errorf("after %q, %s: version %d, history %v", way, try.name, got.Version, got.History)
			}
		}
	}
	shop, _ := state[Shop](a, "/orders")
	if got := tillOf(shop.Orders); got != shop.TillCents {
		t.Errorf("till %d, want %d", shop.TillCents, got)
	}
}

// TestTill: what is refunded is taken out.
func TestTill(t *testing.T) {
	a := serve(t, setup{})
	kept, lost := a.place(), a.place()
	for _, step := range []struct {
		order, action string
		cents         int64
	}{{kept.ID, "pay", 2580}, {lost.ID, "pay", 5160}, {lost.ID, "cancel", 5160}, {lost.ID, "refund", 2580}} {
		a.must("/orders/"+step.order+"/"+step.action, "")
		if shop, _ := state[Shop](a, "/orders"); shop.TillCents != step.cents {
			t.Errorf("after %s: %d in the till, want %d", step.action, shop.TillCents, step.cents)
		}
	}
	// A refunded order is over.
	late := follow(t, a.url+"/orders/"+lost.ID)
	late.next("snapshot", nil)
	late.next("close", nil)
}

// TestRepeats: with the same key a request changes nothing more, is answered the same, and sends no
// second message.
func TestRepeats(t *testing.T) {
	a := serve(t, setup{})
	o := a.must("/orders", mug, "Idempotency-Key", "one")
	if again := a.must("/orders", mug, "Idempotency-Key", "one"); !same(again, o) {
		t.Errorf("placed again: %+v, want %+v", again, o)
	}
	all := follow(t, a.url+"/orders")
	all.next("snapshot", nil)
	paid := a.must("/orders/"+o.ID+"/pay", "", "Idempotency-Key", "two")
	packed := a.must("/orders/"+o.ID+"/pack", "", "Idempotency-Key", "three")
	if again := a.must("/orders/"+o.ID+"/pay", "", "Idempotency-Key", "two"); !same(again, paid) {
		t.Errorf("paid again: %+v, want %+v", again, paid)
	}
	// The key of one order means nothing for another one, in the store and in the topic of all.
	other := a.must("/orders", mug, "Idempotency-Key", "three")
	a.must("/orders/"+other.ID+"/pay", "", "Idempotency-Key", "two")
	all.next("paid", nil)
	var got Order
	if all.next("packed", &got); !same(got, packed) {
		t.Errorf("event %+v", got)
	}
	all.next("placed", nil)
	if all.next("paid", &got); got.ID != other.ID {
		t.Errorf("event %+v, want one of %s", got, other.ID)
	}
	for path, body := range map[string]string{"/orders/" + o.ID + "/ship": "", "/orders": strings.Replace(mug, "2", "3", 1)} {
		key := map[bool]string{true: "one", false: "two"}[path == "/orders"]
		if resp, answer := a.do(http.MethodPost, path, body, "Idempotency-Key", key); resp.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s with the key of another request: status %d, %s", path, resp.StatusCode, answer)
		}
	}
}

// TestKeyIsHandedOn: the message has the key that the client stated.
func TestKeyIsHandedOn(t *testing.T) {
	a := serve(t, setup{})
	o := a.place()
	a.must("/orders/"+o.ID+"/pay", "", "Idempotency-Key", "mine")
	_, cursor := state[Order](a, "/orders/"+o.ID)
	// So publishing with the same key appends nothing, and has the ID of the first.
	id, err := a.hub.Publish(t.Context(), topicOf(o.ID), hub.Message{Key: "mine"})
	if err != nil || string(id) != cursor {
		t.Errorf("ID %s, %v; want %s", id, err, cursor)
	}
}

// TestLostAnswers: the change is made once and announced once, though the server is told again and
// again that the outcome is unknown; who repeats the request is answered like the first time.
func TestLostAnswers(t *testing.T) {
	a := serve(t, setup{})
	o := a.place()
	own, all := follow(t, a.url+"/orders/"+o.ID), follow(t, a.url+"/orders")
	own.next("snapshot", nil)
	all.next("snapshot", nil)
	a.backend.lose.Store(1000)
	resp, answer := a.do(http.MethodPost, "/orders/"+o.ID+"/pay", "", "Idempotency-Key", "k")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || strings.Contains(answer, "canary") {
		t.Fatalf("status %d, %s", resp.StatusCode, answer)
	}
	own.next("paid", nil)
	a.backend.lose.Store(0)
	all.next("paid", nil)
	if again := a.must("/orders/"+o.ID+"/pay", "", "Idempotency-Key", "k"); again.Version != 2 {
		t.Errorf("repeated: %+v", again)
	}
	a.must("/orders/"+o.ID+"/pack", "")
	own.next("packed", nil)
	all.next("packed", nil)
}

// TestBackendAway: the change is made, and announced by itself when the backend is back, with those
// after it.
func TestBackendAway(t *testing.T) {
	a := serve(t, setup{})
	o := a.place()
	own := follow(t, a.url+"/orders/"+o.ID)
	own.next("snapshot", nil)
	a.backend.away.Store(true)
	for _, action := range []string{"pay", "pack", "ship", "deliver"} {
		if resp, _ := a.do(http.MethodPost, "/orders/"+o.ID+"/"+action, ""); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: status %d", action, resp.StatusCode)
		}
	}
	if got, _ := state[Order](a, "/orders/"+o.ID); got.Version != 5 {
		t.Errorf("version %d", got.Version)
	}
	a.backend.away.Store(false)
	for _, kind := range []string{"paid", "packed", "shipped", "delivered", "close"} {
		own.next(kind, nil)
	}
}

func TestRefusals(t *testing.T) {
	a := serve(t, setup{})
	o := a.place()
	items := strings.Repeat(`{"product":"Enamel mug","quantity":1},`, maxItems+1)
	tests := []struct {
		name, method, path, body string
		header                   []string
		code                     int
		want                     string
	}{
		{"unknown order", "POST", "/orders/NIX/pay", "", nil, 404, "no such order"},
		{"unknown order's feed", "GET", "/orders/NIX/events", "", nil, 404, ""},
		{"unknown order's feed for an EventSource", "GET", "/orders/NIX", "", []string{"Accept", "text/event-stream"}, 404, ""},
		{"unknown order's state", "GET", "/orders/NIX", "", []string{"Accept", "application/json"}, 404, ""},
		{"unknown action", "POST", "/orders/" + o.ID + "/burn", "", nil, 404, `{"error":`},
		{"wrong method", "PUT", "/orders/" + o.ID + "/pay", "", nil, 405, `{"error":`},
		{"neither state nor stream", "GET", "/orders/" + o.ID, "", []string{"Accept", "image/png"}, 406, ""},
		{"wrong state", "POST", "/orders/" + o.ID + "/ship", "", nil, 409, "cannot ship an order that is placed"},
		{"no JSON", "POST", "/orders", "two mugs", nil, 400, "not the JSON"},
		{"a price", "POST", "/orders", `{"customer":"A","items":[{"product":"Enamel mug","quantity":1,"cents":1}]}`, nil, 400, "not the JSON"},
		{"body too large", "POST", "/orders", mug[:1] + strings.Repeat(" ", maxBody) + mug[1:], nil, 400, "too large"},
		{"no name", "POST", "/orders", strings.Replace(mug, "Ada", " ", 1), nil, 400, "name of the customer is missing"},
		{"name too long", "POST", "/orders", strings.Replace(mug, "Ada", strings.Repeat("ä", maxCustomer+1), 1), nil, 400, "has 61 characters"},
		{"no items", "POST", "/orders", `{"customer":"A","items":[]}`, nil, 400, "1 to 10 items"},
		{"too many items", "POST", "/orders", `{"customer":"A","items":[` + strings.TrimSuffix(items, ",") + `]}`, nil, 400, "1 to 10 items"},
		{"unknown product", "POST", "/orders", strings.Replace(mug, "mug", "jug", 1), nil, 400, "item 1: there is no such product"},
		{"no quantity", "POST", "/orders", strings.Replace(mug, "2", "0", 1), nil, 400, "1 to 99"},
		{"negative quantity", "POST", "/orders", strings.Replace(mug, "2", "-2", 1), nil, 400, "1 to 99"},
		{"quantity too large", "POST", "/orders", strings.Replace(mug, "2", "100", 1), nil, 400, "1 to 99"},
		{"strange key", "POST", "/orders/" + o.ID + "/pay", "", []string{"Idempotency-Key", "a/b"}, 400, "Idempotency-Key"},
		{"long key", "POST", "/orders", mug, []string{"Idempotency-Key", strings.Repeat("k", 65)}, 400, "Idempotency-Key"},
		{"from a page of another site", "POST", "/orders/" + o.ID + "/pay", "", []string{"Origin", "http://elsewhere.example"}, 403, ""},
		{"the page", "GET", "/", "", nil, 200, "<title>Orders"},
		{"the products", "GET", "/products", "", nil, 200, `"cents":1290`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			resp, answer := a.do(test.method, test.path, test.body, test.header...)
			if resp.StatusCode != test.code || !strings.Contains(answer, test.want) {
				t.Errorf("status %d, %s; want %d and %s", resp.StatusCode, answer, test.code, test.want)
			}
		})
	}
	if shop, _ := state[Shop](a, "/orders"); len(shop.Orders) != 1 || !same(shop.Orders[0], o) {
		t.Errorf("the refused requests left %+v", shop)
	}
}

// TestDescribe: the routes say what they are.
func TestDescribe(t *testing.T) {
	a := serve(t, setup{})
	router, err := newRouter(&controller{hub: a.hub, store: a.store, publisher: a.publisher})
	if err != nil {
		t.Fatal(err)
	}
	described := make(map[string]ginsse.Description)
	for _, d := range ginsse.Describe(router) {
		described[d.Path] = d
	}
	d := described["/orders/:order/events"]
	if len(described) != 4 || !d.Snapshot || len(d.Events) != 7 || len(d.Topics) != 1 || d.Topics[0] != "orders/{order}" || d.Parameters[0].Model != "*main.Order" {
		t.Errorf("described as %+v", described)
	}
}
