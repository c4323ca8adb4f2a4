package amqp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	amqp091 "github.com/rabbitmq/amqp091-go"
)

// link is a connection that Watermill makes again when it was lost. It tells of each loss, which
// Watermill keeps to itself.
type link struct {
	uri  string
	conn *amqp.ConnectionWrapper

	mu      sync.Mutex
	live    context.Context // ends with the present connection
	drop    context.CancelFunc
	raw     net.Conn        // the present one
	opening context.Context // bounds connecting
}

func newLink(uri string) *link { return &link{uri: uri, opening: context.Background()} }

func (l *link) connect(ctx context.Context) (err error) {
	l.bound(ctx)
	defer l.bound(context.Background())
	release := context.AfterFunc(ctx, l.cut)
	defer release()
	l.conn, err = amqp.NewConnection(amqp.ConnectionConfig{
		AmqpURI:    l.uri,
		AmqpConfig: &amqp091.Config{Dial: l.dial, Heartbeat: 10 * time.Second, Locale: "en_US"},
		Reconnect: &amqp.ReconnectConfig{
			BackoffInitialInterval: 100 * time.Millisecond, BackoffRandomizationFactor: 0.5, BackoffMultiplier: 2, BackoffMaxInterval: 5 * time.Second,
		},
	}, nil)
	if err != nil {
		l.conn = nil
		return reduce(err)
	}
	return nil
}

// bound makes ctx the bound of connecting.
func (l *link) bound(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opening = ctx
}

func (l *link) dial(network, addr string) (net.Conn, error) {
	l.mu.Lock()
	ctx := l.opening
	l.mu.Unlock()
	const timeout = 10 * time.Second // for each of connecting and the handshake
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	// The client takes it back when the handshake is done.
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	live, drop := context.WithCancel(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.live, l.drop, l.raw = live, drop, conn
	return &watched{conn, drop}, nil
}

func (l *link) present() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.live
}

// end ends what lives as long as the present connection.
func (l *link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop()
}

// closeTimeout bounds the farewell. A broker that blocks publishers, for want of memory, does not
// answer to it.
const closeTimeout = 3 * time.Second

func (l *link) close() error {
	if l.conn == nil {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- l.conn.Close() }()
	select {
	case err := <-done:
		return err
	case <-time.After(closeTimeout):
	}
	l.cut()
	return <-done
}

// cut closes the present connection without a farewell.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.raw != nil {
		_ = l.raw.Close()
	}
}

// watched is a connection that tells when it is closed, which the client does at the first error.
type watched struct {
	net.Conn
	closed context.CancelFunc
}

func (w *watched) Close() error {
	defer w.closed()
	return w.Conn.Close()
}

// reduce keeps what an operator needs of an error of the client, which may quote the URL.
func reduce(err error) error {
	for _, known := range []error{amqp091.ErrCredentials, amqp091.ErrVhost, amqp091.ErrSASL} {
		if errors.Is(err, known) {
			return fmt.Errorf("amqp: cannot connect: %w", known)
		}
	}
	if e := (*net.OpError)(nil); errors.As(err, &e) {
		return fmt.Errorf("amqp: cannot connect: %w", e)
	}
	return errors.New("amqp: cannot connect: the broker refuses, or the URL cannot be read")
}
