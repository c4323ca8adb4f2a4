package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// client returns the client of an instance over Redis.
func (i *instance) client() redis.UniversalClient {
	return i.backend.(interface{ Client() redis.UniversalClient }).Client()
}

// silent returns an instance with a store whose relay does not run: one that was killed after each
// transaction, before it published anything.
func silent(t *testing.T, url string) *instance {
	t.Helper()
	i := dead(t, url, hub.Options{})
	i.store = &redisStore{client: i.client(), relay: newRelay(i.client(), i.hub)}
	return i
}

// inOrder fails the test if these are not the first versions of a ticket, each once.
func inOrder(t *testing.T, who string, changes []change) {
	t.Helper()
	versions := make(map[string]int)
	for n, c := range changes {
		if versions[c.Ticket.ID]++; c.Ticket.Version != versions[c.Ticket.ID] {
			t.Fatalf("%s: change %d is version %d of %s, want version %d", who, n, c.Ticket.Version, c.Ticket.ID, versions[c.Ticket.ID])
		}
	}
}

// TestInstancesAgree: two instances over one Redis, writers at both, and the same two tickets. Both
// feeds have each version once and in order, and both instances the same state.
func TestInstancesAgree(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		apps := []*app{serveOver(t, url, nil), serveOver(t, url, nil)}
		tickets := []thread{apps[0].create("one"), apps[1].create("two")}
		const writers, each = 4, 12
		total := len(tickets) + len(apps)*writers*each
		var wg sync.WaitGroup
		var mu sync.Mutex
		said := make(map[string]bool)
		for n, a := range apps {
			for w := range writers {
				wg.Go(func() {
					for k := range each {
						words := fmt.Sprintf("%d %d %d", n, w, k)
						if !a.comment(tickets[(w+k)%len(tickets)].ID, words) {
							return
						}
						mu.Lock()
						said[words] = true
						mu.Unlock()
					}
				})
			}
		}
		wg.Wait()

		for n, a := range apps {
			i := &instance{t: t, hub: a.hub}
			inOrder(t, fmt.Sprint("feed of all, instance ", n), i.published(everything, total))
			for _, made := range tickets {
				found := a.must("GET", "/tickets/"+made.ID, "")
				changes := i.published(made.changeTopics()[0], found.Version)
				inOrder(t, fmt.Sprint("feed of a ticket, instance ", n), changes)
				for k, c := range changes[1:] {
					if c.Comment == nil || *c.Comment != found.Comments[k] {
						t.Errorf("published %+v, but made %+v", c.Comment, found.Comments[k])
					}
				}
			}
		}
		// After the feeds' last message there is nothing more.
		for _, topic := range []string{everything, tickets[0].changeTopics()[0], tickets[1].changeTopics()[0]} {
			if extra := remaining(t, apps[0].hub, topic); extra != 0 {
				t.Errorf("%s: %d messages too many", topic, extra)
			}
		}
		for _, path := range []string{"/tickets", "/tickets/" + tickets[0].ID, "/tickets/" + tickets[1].ID} {
			_, one := apps[0].do("GET", path, "")
			if _, other := apps[1].do("GET", path, ""); one != other {
				t.Errorf("GET %s: %s and %s", path, one, other)
			}
		}
		for _, made := range tickets {
			for k, c := range apps[1].must("GET", "/tickets/"+made.ID, "").Comments {
				if !said[c.Text] || c.ID != k+1 {
					t.Errorf("comment %d has id %d and text %q: made twice, or by nobody", k, c.ID, c.Text)
				}
				delete(said, c.Text)
			}
		}
		if len(said) > 0 {
			t.Errorf("%d comments were accepted and are not there", len(said))
		}
	})
}

// remaining returns how many more messages a topic has than the versions of its tickets, once a
// marker behind them has arrived.
func remaining(t *testing.T, h *hub.Hub, topic string) int {
	t.Helper()
	sub, err := h.Subscribe(t.Context(), topic, hub.Earliest())
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if _, err := h.Publish(t.Context(), topic, hub.Message{Type: "marker"}); err != nil {
		t.Fatal(err)
	}
	newest, messages := make(map[string]int), 0
	for m, err := range sub.All() {
		if err != nil {
			t.Fatal(err)
		}
		if m.Type == "marker" {
			break
		}
		var c change
		if err := json.Unmarshal(m.Data, &c); err != nil {
			t.Fatal(err)
		}
		newest[c.Ticket.ID] = max(newest[c.Ticket.ID], c.Ticket.Version)
		messages++
	}
	for _, version := range newest {
		messages -= version
	}
	return messages
}

// TestFullOutboxRefuses: what could not be published for long is not made.
func TestFullOutboxRefuses(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		i := silent(t, url)
		made := mustCreate(t, i, "a")
		fill := make([]any, outboxSize-1)
		for n := range fill {
			fill[n] = fmt.Sprint(n)
		}
		if err := i.client().RPush(t.Context(), outboxKey, fill...).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := create(t, i, "one too many"); !errors.Is(err, errBusy) {
			t.Errorf("create with a full outbox: %v, want errBusy", err)
		}
		if _, err := edited(t, i, made.ID)(commenting("one too many")); !errors.Is(err, errBusy) {
			t.Errorf("comment with a full outbox: %v, want errBusy", err)
		}
		if _, err := edited(t, i, made.ID)(moving("open")); err != nil {
			t.Errorf("no change with a full outbox: %v", err)
		}
		got, err := i.get(t.Context(), made.ID)
		all, _ := i.list(t.Context())
		counts, _ := counted(t, i)
		if err != nil || !reflect.DeepEqual(got, made) || len(all) != 1 || counts[statusOpen] != 1 {
			t.Errorf("a refused change was made: %+v, %v, %d tickets, counts %v", got, err, len(all), counts)
		}
	})
}

// TestCreateStopsAtTheLimit: two instances at once take exactly as many tickets as there is room
// for.
func TestCreateStopsAtTheLimit(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		instances := []*instance{silent(t, url), silent(t, url)}
		const room = 5
		ids := make([]any, maxTickets-room)
		for n := range ids {
			ids[n] = fmt.Sprint(n)
		}
		if err := instances[0].client().RPush(t.Context(), orderKey, ids...).Err(); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var taken atomic.Int64
		for n := range 4 * room {
			wg.Go(func() {
				made, err := newThread("a")
				if err == nil {
					for err = errBusy; errors.Is(err, errBusy); {
						err = instances[n%2].create(t.Context(), made)
					}
				}
				if err == nil {
					taken.Add(1)
				} else if !errors.Is(err, errFull) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		all, err := instances[0].list(t.Context())
		if err != nil || taken.Load() != room || len(all) != room {
			t.Errorf("%d tickets were accepted, %d are listed, %v; want %d", taken.Load(), len(all), err, room)
		}
	})
}

// TestConflictsEnd: a transaction that always finds the key written by others is given up.
func TestConflictsEnd(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		i := silent(t, url)
		runs := 0
		err := i.store.(*redisStore).transact(t.Context(), "{tickets}:test", func(ctx context.Context, tx *redis.Tx) error {
			runs++
			i.client().Incr(ctx, "{tickets}:test")
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, "{tickets}:test", "mine", 0)
				return nil
			})
			return err
		})
		if !errors.Is(err, errBusy) || runs != tries {
			t.Errorf("%v after %d tries, want errBusy after %d", err, runs, tries)
		}
		if got := i.client().Get(t.Context(), "{tickets}:test").Val(); got != fmt.Sprint(tries) {
			t.Errorf("the key has %s: a transaction was executed although the key had been written", got)
		}
	})
}

// severed is a connection that breaks when EXEC has been sent, before its reply is read.
type severed struct {
	net.Conn
	armed *atomic.Bool
}

func (s *severed) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	if bytes.Contains(p, []byte("exec")) && s.armed.CompareAndSwap(true, false) {
		// The server has executed it when it answers; the answer is lost.
		_, _ = s.Read(make([]byte, 1))
		_ = s.Close()
	}
	return n, err
}

// TestLostReply: a transaction whose outcome is unknown is not repeated behind the caller's back.
func TestLostReply(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		i := silent(t, url)
		made := mustCreate(t, i, "a")
		var armed atomic.Bool
		var dialer net.Dialer
		client := redis.NewClient(&redis.Options{Addr: strings.TrimPrefix(url, "redis://"), Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			return &severed{c, &armed}, err
		}})
		defer client.Close()
		armed.Store(true)
		s := &redisStore{client: client, relay: newRelay(client, i.hub)}
		if _, err := edited(t, s, made.ID)(commenting("a")); !errors.Is(err, errAway) || armed.Load() {
			t.Errorf("comment: %v, want errAway", err)
		}
		got, err := s.get(t.Context(), made.ID)
		if waiting := i.client().LLen(t.Context(), outboxKey).Val(); err != nil || got.Version != 2 || len(got.Comments) != 1 || waiting != 2 {
			t.Errorf("%+v, %v, %d changes in the outbox: want the change made once", got, err, waiting)
		}
	})
}

// TestKeysOfOthers: what another program has deleted or overwritten is missing, and hides nothing
// else.
func TestKeysOfOthers(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		a := serveOver(t, url, nil)
		i := silent(t, url)
		var made []thread
		for range 8 {
			made = append(made, a.create("a"))
		}
		key := func(n int) string { return ticketKeys + made[n].ID }
		if _, err := i.client().Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Set(t.Context(), key(0), `{"id":`, 0)
			p.Set(t.Context(), key(1), `null`, 0)
			p.Set(t.Context(), key(2), `{}`, 0)
			p.Del(t.Context(), key(3))
			p.Rename(t.Context(), key(4), key(3)) // the ticket with its own ID in the wrong place
			p.LPush(t.Context(), key(4), "a")
			p.Set(t.Context(), key(5), `{"id":"`+made[5].ID+`","version":1,"status":"lost"}`, 0)
			p.Set(t.Context(), key(6), `{"id":"`+made[6].ID+`","status":"open"}`, 0)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		var listed []ticket
		if code, answer := a.do("GET", "/tickets", ""); code != http.StatusOK || json.Unmarshal([]byte(answer), &listed) != nil || len(listed) != 1 || listed[0].ID != made[7].ID {
			t.Errorf("GET /tickets: status %d, %s; want the ticket that is whole", code, answer)
		}
		for n := range 7 {
			if code, answer := a.do("POST", "/tickets/"+made[n].ID+"/comments", `{"text":"a"}`); code != http.StatusServiceUnavailable {
				t.Errorf("a change of broken ticket %d: status %d, %s; want 503", n, code, answer)
			}
		}
		if _, err := edited(t, i, made[7].ID)(moving("closed")); err != nil {
			t.Fatal(err)
		}
		counts, err := counted(t, i)
		if want := map[status]int{statusOpen: 0, statusPending: 0, statusClosed: 1}; err != nil || !reflect.DeepEqual(counts, want) {
			t.Errorf("counts %v, %v; want %v", counts, err, want)
		}
	})
}

// TestCauseIsForMiddleware: the client is not told why the tickets are out of reach, but whoever
// logs requests is.
func TestCauseIsForMiddleware(t *testing.T) {
	answered := httptest.NewRecorder()
	c, _ := gin.CreateTestContext(answered)
	answer(c, http.StatusOK, nil, reached(errors.New("the cause")))
	if answered.Code != http.StatusServiceUnavailable || answered.Header().Get("Retry-After") == "" || strings.Contains(answered.Body.String(), "cause") {
		t.Errorf("status %d, %v, %s", answered.Code, answered.Header(), answered.Body)
	}
	if !strings.Contains(c.Errors.String(), "the cause") {
		t.Errorf("the Gin context has %q", c.Errors.String())
	}
}

// TestRedisAway: while Redis is away everything is answered with 503 and without the cause, and
// afterwards everything goes on, also the feed.
func TestRedisAway(t *testing.T) {
	m := miniredis.RunT(t)
	a := serveOver(t, "redis://"+m.Addr(), nil)
	made := a.create("before")
	path := "/tickets/" + made.ID
	_, cookies := a.signIn("Ada", roleAdmin)
	(&instance{t: t, hub: a.hub}).published(everything, 1)
	m.Close()
	for _, request := range [][3]string{
		{"GET", "/tickets", ""}, {"GET", path, ""}, {"GET", path + "/events", ""}, {"POST", "/tickets", `{"subject":"a"}`},
		{"POST", path + "/comments", `{"text":"a"}`}, {"PATCH", path, `{"status":"closed"}`},
		{"POST", "/sign-in", `{"name":"Ada","role":"agent"}`}, {"POST", "/sign-out-everywhere", ""},
	} {
		code, answer := a.do(request[0], request[1], request[2], "Cookie", cookies)
		want := fmt.Sprintf(`{"error":%q}`, errAway.Error())
		if strings.HasSuffix(request[1], "/events") {
			want = `{"error":"service unavailable"}`
		}
		if code != http.StatusServiceUnavailable || answer != want {
			t.Errorf("%v: status %d, %s; want 503 and %s", request, code, answer, want)
		}
	}
	if code, answer := a.do("POST", "/tickets", `{"subject":""}`); code != http.StatusBadRequest {
		t.Errorf("an invalid request: status %d, %s", code, answer)
	}
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "Redis to be back", func() bool {
		code, _ := a.do("POST", path+"/comments", `{"text":"after"}`)
		return code == http.StatusCreated
	})
	changes := (&instance{t: t, hub: a.hub}).published(everything, 2)
	if inOrder(t, "feed", changes); changes[1].Comment.Text != "after" {
		t.Errorf("published %+v", changes)
	}
}
