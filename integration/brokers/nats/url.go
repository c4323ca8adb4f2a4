// Package nats opens nats:// URLs: topics over NATS JetStream through Watermill. Importing it
// registers the scheme. It is made to be copied: the three files have no other use for this module
// than backends/watermill.
package nats

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/nats-io/nats.go"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
)

func init() { backends.Register("nats", Open) }

// Open is the backends.Opener of nats://user:password@host:4222,host:4222, or nats://token@host.
// Parameters:
//
//	stream=HEADRACE    the stream; one that does not exist is made, one that does is used as it is
//	prefix=headrace    the subjects of the stream begin with it and a dot; see TopicName
//	retention=1h       how long a stream that is made keeps messages, for instances whose connection was away
//	storage=file       where a stream that is made keeps them: file or memory
//	replicas=1         on how many servers
//	tls=true           connect with TLS, by the authorities that the system trusts
//	type=name          the metadata key with the type of messages of other programs; default none
//	probes=false       write nothing to the topics: see watermill.Options.NoProbes
//	probe_every=30s    see watermill.Options.ProbeEvery
//
// Open connects, and waits for the server as long as ctx allows. The backend owns the connection,
// and Close closes it.
func Open(ctx context.Context, u *url.URL, q *backends.Query) (hub.Backend, error) {
	prefix := q.String("prefix", "headrace")
	stream := nats.StreamConfig{
		Name:     q.String("stream", "HEADRACE"),
		Subjects: []string{prefix + ".>"},
		MaxAge:   q.Duration("retention", time.Hour, time.Second),
		Replicas: q.Int("replicas", 1, 1),
	}
	if q.Enum("storage", "file", "file", "memory") == "memory" {
		stream.Storage = nats.MemoryStorage
	}
	sub := &subscriber{stream: stream}
	connect := []nats.Option{
		nats.Name("headrace"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectBufSize(-1), // what cannot be sent has failed: it must not reach the stream when nobody expects it any more
		nats.ReconnectHandler(func(conn *nats.Conn) { sub.ensureAgain(conn) }),
	}
	if q.Bool("tls", false) {
		connect = append(connect, nats.Secure())
	}
	o := watermill.Options{
		Name: "nats", Ordered: true, Persistent: stream.Storage == nats.FileStorage,
		Topic:      func(topic string) (string, error) { return prefix + "." + TopicName(topic), nil },
		Decode:     watermill.DecodeForeign(q.String("type", "")),
		NoProbes:   !q.Bool("probes", true),
		ProbeEvery: q.Duration("probe_every", 0, time.Second),
	}
	if err := q.Err(); err != nil {
		return nil, err
	}
	if !subject.MatchString(prefix) || !name.MatchString(stream.Name) {
		return nil, fmt.Errorf("%w: stream or prefix has characters that NATS does not take in a name", backends.ErrParameter)
	}
	servers, err := servers(u)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		connect = append(connect, nats.Timeout(time.Until(deadline)))
	}
	conn, err := nats.Connect(servers, connect...)
	if err != nil {
		return nil, fmt.Errorf("nats: connect: %w", err)
	}
	b, err := open(ctx, conn, sub, o)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("nats: %w", err)
	}
	return b, nil
}

func open(ctx context.Context, conn *nats.Conn, sub *subscriber, o watermill.Options) (*watermill.Backend, error) {
	if err := sub.ensureFor(ctx, conn); err != nil {
		return nil, err
	}
	publisher, err := wmnats.NewPublisherWithNatsConn(conn, wmnats.PublisherPublishConfig{
		Marshaler:         &wmnats.NATSMarshaler{},
		SubjectCalculator: wmnats.DefaultSubjectCalculator,
		// TrackMsgID stays off: the server would drop the repeat of a key, and its number would be
		// missing.
	}, nil)
	if err != nil {
		return nil, err
	}
	o.OnClose = func() error {
		conn.Close()
		return nil
	}
	return watermill.New(publisher, sub, o)
}

var (
	subject = regexp.MustCompile(`^[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*$`)
	name    = regexp.MustCompile(`^[0-9A-Za-z_-]+$`)
)

// servers returns the URL's hosts as the client wants them.
func servers(u *url.URL) (string, error) {
	if strings.Trim(u.Path, "/") != "" {
		return "", fmt.Errorf("%w: nats has no use for a path", backends.ErrURL)
	}
	var list []string
	for host := range strings.SplitSeq(u.Host, ",") {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), "4222")
		}
		if strings.HasPrefix(host, ":") {
			return "", fmt.Errorf("%w: a host is empty", backends.ErrURL)
		}
		list = append(list, (&url.URL{Scheme: "nats", User: u.User, Host: host}).String())
	}
	return strings.Join(list, ","), nil
}
