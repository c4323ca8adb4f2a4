package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	upstream "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/integration/brokers/brokertest"
	"github.com/headrace/headrace/integration/brokers/internal/servers"
	"github.com/headrace/headrace/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	patience = time.Minute
	fast     = 10 * time.Millisecond // between two polls in tests
	keep     = time.Hour
)

// TestPostgres starts one server for all tests.
func TestPostgres(t *testing.T) {
	s := servers.Postgres(t)
	t.Run("broker", func(t *testing.T) { testBroker(t, s) })
	t.Run("a subscription begins at the end", func(t *testing.T) { testBeginsAtTheEnd(t, s) })
	t.Run("an ended subscription leaves no place", func(t *testing.T) { testNoPlaceIsLeft(t, s) })
	t.Run("old messages go, and with them dead places", func(t *testing.T) { testSweep(t, s) })
	t.Run("asking in vain writes nothing", func(t *testing.T) { testAskingWritesNothing(t, s) })
	t.Run("a long transaction holds up delivery", func(t *testing.T) { testLongTransaction(t, s) })
	t.Run("open does not wait", func(t *testing.T) { testOpenDoesNotWait(t) })
}

func testBroker(t *testing.T, s *servers.Server) {
	brokertest.Run(t, brokertest.Broker{
		New:       func(t testing.TB) hub.Backend { return opened(t, s.URL+"?poll=10ms") },
		Traits:    hub.Traits{Name: "postgres", Ordered: true, Shared: true, Durable: true, Keys: hub.KeysWindow},
		Restart:   func(testing.TB) { s.Restart() },
		Topic:     tableName,
		Publisher: func(t testing.TB) message.Publisher { return foreigner(t, s) },
		Competing: func(t testing.TB, group string) hub.Backend { return sharing(t, s, group) },
		Raw: []brokertest.Raw{
			{Name: "metadata that is no object", Write: inserts(s, "raw-1", "raw 1", `[1, "a"]`), Shown: true},
			{Name: "metadata that is no text", Write: inserts(s, "raw-2", "raw 2", `{"n": 1, "b": true, "l": [1], "o": {"a": "b"}, "z": null}`), Shown: true},
			{Name: "neither metadata nor payload", Write: inserts(s, "raw-3", nil, nil), Shown: true},
			{Name: "no UUID", Write: inserts(s, "", "raw 4", nil)},
		},
	})
}

func opened(t testing.TB, rawURL string) hub.Backend {
	t.Helper()
	b, err := backends.Open(t.Context(), rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func database(t testing.TB, s *servers.Server) *stdsql.DB {
	t.Helper()
	config, err := pgx.ParseConfig(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// sharing returns a backend whose subscriptions are in one group with those of others, as Watermill
// would have it.
func sharing(t testing.TB, s *servers.Server, group string) hub.Backend {
	t.Helper()
	db := database(t, s)
	sub := newSubscriber(db, "headrace_", fast, keep)
	sub.group, sub.offsets = group, sub.places.DefaultPostgreSQLOffsetsAdapter
	b, err := watermill.New(publisher(t, db, sub.schema), sub, watermill.Options{Ordered: true, Topic: tableName, OnClose: sub.Close})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func publisher(t testing.TB, db *stdsql.DB, schema sql.SchemaAdapter) *sql.Publisher {
	t.Helper()
	p, err := sql.NewPublisher(sql.BeginnerFromStdSQL(db), sql.PublisherConfig{SchemaAdapter: schema, AutoInitializeSchema: true}, upstream.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// foreigner is the Watermill publisher of a program that knows nothing of headrace but the tables.
func foreigner(t testing.TB, s *servers.Server) message.Publisher {
	t.Helper()
	return publisher(t, database(t, s), newSchema("headrace_").DefaultPostgreSQLSchema)
}

func inserts(s *servers.Server, uuid string, payload, metadata any) func(testing.TB, string) {
	return func(t testing.TB, topic string) {
		t.Helper()
		if text, ok := payload.(string); ok {
			payload = []byte(text)
		}
		table := newSchema("headrace_").MessagesTable(named(t, topic))
		exec(t, database(t, s), `INSERT INTO `+table+` (uuid, payload, metadata, transaction_id) VALUES ($1, $2, $3, pg_current_xact_id())`, uuid, payload, metadata)
	}
}

func named(t testing.TB, topic string) string {
	t.Helper()
	name, err := tableName(topic)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func exec(t testing.TB, db *stdsql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func count(t testing.TB, db *stdsql.DB, table string) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	testenv.Eventually(t, what, func() error {
		if !cond() {
			return errors.New("it is not so")
		}
		return nil
	})
}

// testBeginsAtTheEnd: watermill-sql 4.1.2 begins a new group at the beginning of the table.
func testBeginsAtTheEnd(t *testing.T, s *servers.Server) {
	db := database(t, s)
	sub := newSubscriber(db, "headrace_", fast, keep)
	defer sub.Close()
	p := publisher(t, db, sub.schema)
	const topic = "begins"
	for i := range 500 {
		if err := p.Publish(topic, message.NewMessage(fmt.Sprint("old-", i), nil)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	messages, err := sub.Subscribe(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(topic, message.NewMessage("new", nil)); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-messages:
		m.Ack()
		if m.UUID != "new" {
			t.Errorf("the first message is %s, want the one published after Subscribe", m.UUID)
		}
	case <-time.After(patience):
		t.Fatal("no message comes")
	}
}

// testNoPlaceIsLeft: watermill-sql never deletes the offsets of a group.
func testNoPlaceIsLeft(t *testing.T, s *servers.Server) {
	db := database(t, s)
	b := opened(t, s.URL+"?poll=10ms")
	defer b.Close()
	const topic = "place"
	table := newPlaces("headrace_").MessagesOffsetsTable(named(t, topic))
	_, stop, err := b.Follow(t.Context(), topic, quiet{})
	if err != nil {
		t.Fatal(err)
	}
	if n := count(t, db, table); n != 1 {
		t.Errorf("%d places while the topic is followed, want 1", n)
	}
	stop()
	eventually(t, "the place is gone after stop", func() bool { return count(t, db, table) == 0 })
	if _, _, err := b.Follow(t.Context(), topic, quiet{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, db, table); n != 0 {
		t.Errorf("%d places after Close", n)
	}
}

func testSweep(t *testing.T, s *servers.Server) {
	db := database(t, s)
	sub := newSubscriber(db, "headrace_", fast, keep)
	defer sub.Close()
	const topic = "sweep"
	messages, places := sub.schema.MessagesTable(topic), sub.places.MessagesOffsetsTable(topic)
	publish(t, publisher(t, db, sub.schema), topic, sweepAtOnce+500)
	exec(t, db, `UPDATE `+messages+` SET created_at = created_at - interval '2 hours'`)
	publish(t, publisher(t, db, sub.schema), topic, 3)

	ctx, cancel := context.WithCancel(t.Context())
	if _, err := sub.Subscribe(ctx, topic); err != nil {
		t.Fatal(err)
	}
	eventually(t, "old messages are deleted", func() bool { return count(t, db, messages) == 3 })
	cancel()

	// The place of a process that was killed: it has not moved in all that time.
	publish(t, publisher(t, db, sub.schema), topic, 1)
	exec(t, db, `INSERT INTO `+places+` (consumer_group, offset_acked, last_processed_transaction_id) VALUES ('dead', 1, '3')`)
	exec(t, db, `UPDATE `+messages+` SET created_at = created_at - interval '2 hours'`)
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	if _, err := sub.Subscribe(ctx, topic); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the dead place is deleted", func() bool { return count(t, db, places) == 1 })
	if n := count(t, db, messages); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func publish(t *testing.T, p *sql.Publisher, topic string, n int) {
	t.Helper()
	ms := make([]*message.Message, 0, n)
	for i := range n {
		ms = append(ms, message.NewMessage(fmt.Sprint(i), nil))
	}
	if err := p.Publish(topic, ms...); err != nil {
		t.Fatal(err)
	}
}

// testAskingWritesNothing: watermill-sql 4.1.2 locks its row with each poll, which takes a
// transaction ID and a write to the log. IDs are 32 bits wide.
func testAskingWritesNothing(t *testing.T, s *servers.Server) {
	db := database(t, s)
	sub := newSubscriber(db, "headrace_", fast, keep)
	defer sub.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const topic = "asks"
	sub.group = "group"
	if _, err := sub.Subscribe(ctx, topic); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		adapter sql.OffsetsAdapter
		writes  bool
	}{{sub.places, false}, {sub.places.DefaultPostgreSQLOffsetsAdapter, true}} {
		query, err := sub.schema.SelectQuery(sql.SelectQueryParams{Topic: topic, ConsumerGroup: "group", OffsetsAdapter: test.adapter})
		if err != nil {
			t.Fatal(err)
		}
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), query.Query, query.Args...); err != nil {
			t.Fatal(err)
		}
		var id stdsql.NullString
		if err := tx.QueryRowContext(t.Context(), `SELECT pg_current_xact_id_if_assigned()::text`).Scan(&id); err != nil {
			t.Fatal(err)
		}
		_ = tx.Rollback()
		if id.Valid != test.writes {
			t.Errorf("%T: a poll takes a transaction ID: %v, want %v", test.adapter, id.Valid, test.writes)
		}
	}
}

// testLongTransaction: a message waits for all transactions that began before its own and write,
// wherever in the server. It is late then, and not lost.
func testLongTransaction(t *testing.T, s *servers.Server) {
	db := database(t, s)
	b := opened(t, s.URL+"?poll=10ms")
	t.Cleanup(func() { _ = b.Close() })
	h := brokertest.NewHub(t, b)
	r := brokertest.Read(t, h, "held")

	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), `SELECT pg_current_xact_id()`); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Publish(t.Context(), "held", hub.Message{Data: []byte("late")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, _, err := b.Follow(ctx, "held elsewhere", quiet{}); !errors.Is(err, watermill.ErrSilent) {
		t.Errorf("Follow while a transaction is open: %v, want ErrSilent", err)
	}
	if texts := r.Texts(); len(texts) > 0 {
		t.Errorf("%q came, and a transaction from before is open", texts)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	r.Await(t, patience, "late")
	if m := r.Messages()[0]; m.Gap {
		t.Error("a gap, and nothing was lost")
	}
}

func testOpenDoesNotWait(t *testing.T) {
	b := opened(t, "postgres://user:top-secret@127.0.0.1:1/database?connect_timeout=1")
	defer b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := b.Publish(ctx, "topic", hub.Message{})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Publish without a server: %v", err)
	}
	if _, _, err := b.Follow(ctx, "topic", quiet{}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Follow without a server: %v", err)
	}
}

func TestTableName(t *testing.T) {
	long := strings.Repeat("long", 60)
	seen := map[string]string{}
	for _, test := range []struct{ topic, want string }{
		{"orders", "orders"},
		{"Orders", "Orders"},
		{"a-b.c_d:e", "a-b.c_d:e"},
		{"shop/orders", "shop$2forders"},
		{"shop$2forders", "shop$242forders"},
		{"ü\"';--", "$c3$bc$22$27$3b--"},
		{strings.Repeat("x", maxTopic), strings.Repeat("x", maxTopic)},
		{strings.Repeat("x", maxTopic+1), ""},
		{long, ""},
		{long + "a", ""},
		{"$$" + strings.Repeat("0", 39), ""},
	} {
		got := named(t, test.topic)
		if test.want != "" && got != test.want || test.want == "" && !strings.HasPrefix(got, "$$") {
			t.Errorf("%q is called %q, want %q", test.topic, got, test.want)
		}
		prefix := strings.Repeat("p", maxPrefix)
		for _, table := range []string{newSchema(prefix).MessagesTable(got), newPlaces(prefix).MessagesOffsetsTable(got)} {
			if len(table) > maxName+2 { // with two quotes
				t.Errorf("%q has a table with a name of %d bytes: %s", test.topic, len(table)-2, table)
			}
			if other, ok := seen[table]; ok {
				t.Errorf("%q and %q have the same table", test.topic, other)
			}
			seen[table] = test.topic
		}
	}
}

func TestURL(t *testing.T) {
	for _, rawURL := range []string{
		"postgres://user:top-secret@localhost/db?no_such=1",
		"postgres://user:top-secret@localhost/db?search_path=x",
		"postgres://user:top-secret@localhost/db?prefix=A",
		"postgres://user:top-secret@localhost/db?prefix=" + strings.Repeat("a", 21),
		`postgres://user:top-secret@localhost/db?prefix=%22`,
		"postgres://user:top-secret@localhost/db?poll=1",
		"postgres://user:top-secret@localhost/db?connections=1",
		"postgres://user:top-secret@localhost/db?sslmode=top-secret",
		"postgres://user:top-secret@localhost:port/db",
		"postgres:///db",
	} {
		b, err := backends.Open(t.Context(), rawURL)
		if err == nil {
			_ = b.Close()
			t.Errorf("%s opens", rawURL)
		} else if !errors.Is(err, backends.ErrParameter) && !errors.Is(err, backends.ErrURL) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", rawURL, err)
		}
	}
	u, err := url.Parse("postgres://user@localhost/db?sslmode=disable&application_name=a&connect_timeout=5")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), u, backends.NewQuery(u.Query()))
	if err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
}

// quiet is a sink that does nothing with what it gets.
type quiet struct{}

func (quiet) Deliver(...hub.Message) {}
func (quiet) Broken(error)           {}
func (quiet) Restored(hub.ID)        {}
