package sql

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
)

const (
	// PostgreSQL cuts longer names without a word.
	maxName   = 63
	maxPrefix = 20
	maxTopic  = maxName - maxPrefix - 2
)

// tableName returns what a topic is called in the names of its tables: as it is as far as Watermill
// lets it pass, $ and two digits for each byte that it does not. A name that is too long for that
// is $$ and a hash.
func tableName(topic string) (string, error) {
	var name strings.Builder
	for _, c := range []byte(topic) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._:", c) >= 0:
			name.WriteByte(c)
		default:
			fmt.Fprintf(&name, "$%02x", c)
		}
	}
	if name.Len() <= maxTopic {
		return name.String(), nil
	}
	const kept = 24 // of 32 bytes
	sum := sha256.Sum256([]byte(topic))
	return "$$" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:kept])), nil
}

// schema is the tables of messages.
type schema struct{ sql.DefaultPostgreSQLSchema }

func newSchema(prefix string) schema {
	return schema{sql.DefaultPostgreSQLSchema{
		GenerateMessagesTableName: func(topic string) string { return `"` + prefix + "m_" + topic + `"` },
		// The default takes nothing but JSON.
		GeneratePayloadType: func(string) string { return "BYTEA" },
	}}
}

// UnmarshalMessage reads whatever is in the table. Watermill asks again for a row that it cannot
// read, for ever.
func (s schema) UnmarshalMessage(p sql.UnmarshalMessageParams) (sql.Row, error) {
	var row sql.Row
	var transaction sql.XID8
	if err := p.Row.Scan(&row.Offset, &transaction, &row.UUID, &row.Payload, &row.Metadata); err != nil {
		return sql.Row{}, err
	}
	row.Msg = message.NewMessage(string(row.UUID), row.Payload)
	row.ExtraData = map[string]any{"transaction_id": transaction}
	var metadata map[string]any
	if err := json.Unmarshal(row.Metadata, &metadata); err != nil {
		return row, nil // none, or not an object
	}
	for key, value := range metadata {
		switch v := value.(type) {
		case string:
			row.Msg.Metadata[key] = v
		case bool, float64:
			row.Msg.Metadata[key] = fmt.Sprint(v)
		}
	}
	return row, nil
}

// places is the tables of places. A place belongs to one subscription.
type places struct {
	sql.DefaultPostgreSQLOffsetsAdapter
}

func newPlaces(prefix string) places {
	return places{sql.DefaultPostgreSQLOffsetsAdapter{
		GenerateMessagesOffsetsTableName: func(topic string) string { return `"` + prefix + "p_" + topic + `"` },
	}}
}

// BeforeSubscribingQueries makes a place at the end: after all transactions that have ended.
// Watermill's is at the beginning of the table. What transactions that are under way bring is
// delivered even if they began before.
func (a places) BeforeSubscribingQueries(p sql.BeforeSubscribingQueriesParams) ([]sql.Query, error) {
	return []sql.Query{{
		Query: `INSERT INTO ` + a.MessagesOffsetsTable(p.Topic) + ` (consumer_group, offset_acked, last_processed_transaction_id)
			VALUES ($1, 9223372036854775807, (pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1)::text::xid8)`,
		Args: []any{p.ConsumerGroup},
	}}, nil
}

// NextOffsetQuery reads a place. Watermill's locks it too, against others in its group, which costs
// a transaction ID and a write each time that a subscription asks in vain. Here nobody else is in
// the group.
func (a places) NextOffsetQuery(p sql.NextOffsetQueryParams) (sql.Query, error) {
	return sql.Query{
		Query: `SELECT offset_acked, last_processed_transaction_id FROM ` + a.MessagesOffsetsTable(p.Topic) + ` WHERE consumer_group = $1`,
		Args:  []any{p.ConsumerGroup},
	}, nil
}
