// Package filelog is a backend over files, made to be read by those who write a backend of their
// own. It obeys every rule of hub.Backend, and does as little as possible beside.
//
// A topic is a file of lines of JSON, appended to, and the same messages in memory. An ID is
// <epoch>-<number>, and the number is the message's in the file: 1 is the first. An epoch is what
// one process appended: before its first message it writes a line that names a new one. A machine
// that loses power may lose what was not synced, and the next process gives the lost numbers again;
// but under another epoch. So no ID is given twice, and the lost ones are known to be lost.
//
// What it does not have, it does not declare. Traits.Deletes is false: what is deleted has to leave
// the file, below positions that readers hold, and that would be as much code again. Traits.Keys is
// KeysNone: keys have to be stored, found after a restart, and forgotten some day. Nothing is ever
// trimmed, and nobody keeps a second process from the directory.
package filelog

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/headrace/headrace/hub"
)

// Options are those of Open.
type Options struct {
	// Sync makes Publish wait until the disk has what it appended. Without it messages survive the
	// end of the process, but not a loss of power.
	Sync bool
}

// Backend is a hub.Backend over the files of a directory. Its methods may be called concurrently.
// Their contexts matter only at the start of a call. Use Open.
type Backend struct {
	dir  string
	opts Options

	mu     sync.Mutex
	topics map[string]*topic // those that were used; nil when closed
}

var _ hub.Backend = (*Backend)(nil)

// Open returns a backend over a directory, which it makes if it is not there. One process may use a
// directory at a time.
func Open(dir string, o Options) (*Backend, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("filelog: open: %w", err)
	}
	return &Backend{dir: dir, opts: o, topics: make(map[string]*topic)}, nil
}

// Traits implements hub.Backend.
func (b *Backend) Traits() hub.Traits {
	return hub.Traits{
		Name: "filelog", Replay: true, Ordered: true, Chained: true, Durable: true, Atomic: true, Ends: true,
	}
}

// Publish implements hub.Backend.
func (b *Backend) Publish(ctx context.Context, name string, m hub.Message) (hub.ID, error) {
	ids, err := b.PublishAll(ctx, name, []hub.Message{m})
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

// PublishAll implements hub.Backend. The outcome is unknown only when the file could not be written
// or synced; all other errors come before that, and are hub.ErrRejected.
func (b *Backend) PublishAll(ctx context.Context, name string, ms []hub.Message) (ids []hub.ID, err error) {
	err = b.with(ctx, name, func(t *topic) (err error) {
		ids, err = t.publish(ms)
		return err
	})
	if err != nil && !errors.Is(err, hub.ErrUnknown) {
		err = fmt.Errorf("%w: %w", hub.ErrRejected, err)
	}
	return ids, err
}

// Follow implements hub.Backend.
func (b *Backend) Follow(ctx context.Context, name string, sink hub.Sink) (tail hub.ID, stop func(), err error) {
	f := &follower{sink: sink}
	err = b.with(ctx, name, func(t *topic) error {
		tail = t.follow(f)
		return nil
	})
	if err != nil {
		return "", nil, err
	}
	return tail, func() { f.stopped.Store(true) }, nil
}

// Read implements hub.Backend.
func (b *Backend) Read(ctx context.Context, name string, after hub.ID, limit int) (p hub.Page, err error) {
	err = b.with(ctx, name, func(t *topic) error {
		p = t.read(after, limit)
		return nil
	})
	return p, err
}

// Seek implements hub.Backend. From the newest message on it goes back as long as the bounds allow.
func (b *Backend) Seek(ctx context.Context, name string, s hub.Seek) (id hub.ID, err error) {
	err = b.with(ctx, name, func(t *topic) error {
		size := int64(0)
		for i := len(t.messages) - 1; i >= 0; i-- {
			m, count := &t.messages[i], len(t.messages)-i
			size += int64(len(m.Data))
			if s.Messages > 0 && count > s.Messages || s.Bytes > 0 && size > s.Bytes && count > 1 || m.Time.Before(s.Since) {
				id = m.ID
				break
			}
		}
		return nil
	})
	return id, err
}

// Info implements hub.Backend.
func (b *Backend) Info(ctx context.Context, name string) (info hub.Info, err error) {
	err = b.with(ctx, name, func(t *topic) error {
		if n := len(t.messages); n > 0 {
			newest := t.messages[n-1]
			info = hub.Info{Exists: true, Oldest: t.messages[0].ID, Newest: newest.ID, Finished: newest.Final}
		}
		return nil
	})
	return info, err
}

// Delete implements hub.Backend. It is not asked, see Traits.
func (b *Backend) Delete(context.Context, string) error { return hub.ErrUnsupported }

// Erase implements hub.Backend. It is not asked, see Traits.
func (b *Backend) Erase(context.Context, string, hub.ID) error { return hub.ErrUnsupported }

// Ping implements hub.Backend. It asks whether the directory is there.
func (b *Backend) Ping(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, err := os.Stat(b.dir)
	if b.topics == nil {
		err = hub.ErrClosed
	}
	if err = cmp.Or(ctx.Err(), err); err != nil {
		return fmt.Errorf("filelog: ping: %w", err)
	}
	return nil
}

const (
	epochLen     = 12
	epochLetters = "abcdefghijklmnopqrstuvwxyz234567"
)

func newEpoch() string { return strings.ToLower(rand.Text()[:epochLen]) }

func join(epoch string, number int) hub.ID { return hub.ID(epoch + "-" + strconv.Itoa(number)) }

// split returns what an ID is made of. There is one spelling of each: IDs are compared for
// equality.
func split(id hub.ID) (epoch string, number int, ok bool) {
	epoch, digits, _ := strings.Cut(string(id), "-")
	number, err := strconv.Atoi(digits)
	ok = err == nil && number >= 0 && len(epoch) == epochLen && strings.Trim(epoch, epochLetters) == "" && id == join(epoch, number)
	return epoch, number, ok
}

// IsID implements hub.Backend.
func (b *Backend) IsID(id hub.ID) bool {
	_, _, ok := split(id)
	return ok
}

// Close implements hub.Backend.
func (b *Backend) Close() error {
	b.mu.Lock()
	topics := b.topics
	b.topics = nil
	b.mu.Unlock()
	var errs []error
	for _, t := range topics {
		errs = append(errs, t.close())
	}
	return errors.Join(errs...)
}

// with calls do with the topic, locked. The topic's file is opened, or made, at the first use, even
// by Read: the beginning of a topic that never was is a position too, which must hold.
func (b *Backend) with(ctx context.Context, name string, do func(t *topic) error) error {
	err := ctx.Err()
	var t *topic
	if err == nil {
		t, err = b.topic(name)
	}
	if err == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if err = hub.ErrClosed; t.file != nil {
			err = do(t)
		}
	}
	if err != nil {
		return fmt.Errorf("filelog: %w", err)
	}
	return nil
}

func (b *Backend) topic(name string) (*topic, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.topics == nil {
		return nil, hub.ErrClosed
	}
	t := b.topics[name]
	if t == nil {
		sum := sha256.Sum256([]byte(name)) // a name may be too long for a file's, or have slashes
		var err error
		if t, err = open(filepath.Join(b.dir, hex.EncodeToString(sum[:16])+".log"), b.opts.Sync); err != nil {
			return nil, err
		}
		b.topics[name] = t
	}
	return t, nil
}
