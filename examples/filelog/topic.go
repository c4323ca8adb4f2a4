package filelog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headrace/headrace/hub"
)

// topic is a file, what it holds, and its followers.
type topic struct {
	mu        sync.Mutex
	sync      bool
	file      *os.File // nil when closed
	size      int64    // of the lines that count
	epochs    []epoch
	begun     bool // the newest epoch is this process's
	messages  []hub.Message
	followers []*follower
}

// epoch begins at a position: behind so many messages.
type epoch struct {
	name  string
	after int
}

// line is one line of a file: an epoch, or a message.
type line struct {
	Epoch   string            `json:"epoch,omitempty"`
	Type    string            `json:"type,omitempty"`
	Data    []byte            `json:"data,omitempty"`
	Binary  bool              `json:"binary,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Time    time.Time         `json:"time,omitzero"`
	Final   bool              `json:"final,omitempty"`
	// More says that the next line is of the same batch. A batch without its last line was never
	// appended.
	More bool `json:"more,omitempty"`
}

func (l line) encode() []byte {
	text, _ := json.Marshal(l) // of these types it does not fail
	return append(text, '\n')
}

// tail is the ID of the newest message, or of the position before the first one.
func (t *topic) tail() hub.ID {
	if n := len(t.messages); n > 0 {
		return t.messages[n-1].ID
	}
	return join(t.epochs[0].name, 0)
}

// place returns how many messages are not behind an ID. A position is known if it is in its epoch:
// not before that began, and not behind where the next one did.
func (t *topic) place(id hub.ID) (n int, known bool) {
	name, n, ok := split(id)
	for i, e := range t.epochs {
		end := len(t.messages)
		if i+1 < len(t.epochs) {
			end = t.epochs[i+1].after
		}
		if ok && e.name == name && e.after <= n && n <= end {
			return n, true
		}
	}
	return 0, id == ""
}

func (t *topic) read(after hub.ID, limit int) hub.Page {
	n, known := t.place(after)
	p := hub.Page{Gap: !known, Next: after, Final: n > 0 && t.messages[n-1].Final}
	if n == 0 {
		p.Next = t.tail()
	}
	for size := 0; n < len(t.messages) && len(p.Messages) < limit && size < hub.PageBytes; n++ {
		p.Messages = append(p.Messages, t.messages[n])
		p.Next = t.messages[n].ID
		size += len(t.messages[n].Data)
	}
	return p
}

// publish appends messages, all or none: what can be refused is refused before it writes.
func (t *topic) publish(ms []hub.Message) ([]hub.ID, error) {
	ended := len(t.messages) > 0 && t.messages[len(t.messages)-1].Final
	if ended && ms[len(ms)-1].Final {
		return slices.Repeat([]hub.ID{t.tail()}, len(ms)), nil // finishing once more appends nothing
	}
	for _, m := range ms {
		switch {
		case m.Key != "":
			return nil, hub.ErrNoKeys
		case ended && !m.AfterEnd:
			return nil, hub.ErrEnded
		}
	}
	next := topic{epochs: t.epochs, messages: t.messages} // as it is if all goes well
	var text []byte
	if !t.begun {
		text = next.take(line{Epoch: newEpoch()})
	}
	for i, m := range ms {
		text = append(text, next.take(line{
			Type: m.Type, Data: bytes.Clone(m.Data), Binary: m.Binary, Headers: maps.Clone(m.Headers), Final: m.Final,
			Time: time.Now().Round(0), // without the monotonic clock, as it is read again
			More: i < len(ms)-1,
		})...)
	}
	if err := t.write(text); err != nil {
		return nil, fmt.Errorf("%w: %w", hub.ErrUnknown, err)
	}
	fresh := next.messages[len(t.messages):]
	t.epochs, t.messages, t.begun = next.epochs, next.messages, true
	t.deliver(fresh)
	var ids []hub.ID
	for _, m := range fresh {
		ids = append(ids, m.ID)
	}
	return ids, nil
}

// take adds a line to what the topic holds, and returns its text.
func (t *topic) take(l line) []byte {
	if l.Epoch != "" {
		t.epochs = append(slices.Clip(t.epochs), epoch{name: l.Epoch, after: len(t.messages)})
		return l.encode()
	}
	t.messages = append(t.messages, hub.Message{
		ID: join(t.epochs[len(t.epochs)-1].name, len(t.messages)+1), Prev: t.tail(),
		Type: l.Type, Data: l.Data, Binary: l.Binary, Headers: l.Headers, Time: l.Time, Final: l.Final,
	})
	return l.encode()
}

// write appends text to the file. What was written in part is cut off again: by this process, or if
// that fails too, by the next one, and until then the topic is closed.
func (t *topic) write(text []byte) error {
	_, err := t.file.WriteAt(text, t.size)
	if err == nil && t.sync {
		err = t.file.Sync()
	}
	if err == nil {
		t.size += int64(len(text))
	} else if t.file.Truncate(t.size) != nil {
		_ = t.file.Close()
		t.file = nil
	}
	return err
}

// open opens a topic's file, or makes one, and reads it. What comes behind the last whole batch is
// cut off: a process ended while it wrote that.
func open(path string, sync bool) (t *topic, err error) {
	t = &topic{sync: sync}
	if t.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil { //nolint:gosec // its name is a hash
		return nil, err
	}
	text, err := io.ReadAll(t.file)
	if err == nil {
		if err = t.load(text); err == nil {
			err = t.file.Truncate(t.size)
		}
	}
	if err == nil && len(t.epochs) == 0 {
		// At once, so that the tail of a topic without messages holds.
		err = t.write(t.take(line{Epoch: newEpoch()}))
		t.begun = true
	}
	if err != nil {
		_ = t.close()
		return nil, err
	}
	return t, nil
}

func (t *topic) load(text []byte) error {
	var batch []line
	read := 0
	for one := range bytes.Lines(text) {
		if read += len(one); one[len(one)-1] != '\n' {
			break
		}
		var l line
		err := json.Unmarshal(one, &l)
		if err != nil || len(t.epochs) == 0 && l.Epoch == "" {
			return fmt.Errorf("the file of a topic is damaged before byte %d", read)
		}
		if batch = append(batch, l); l.More {
			continue
		}
		for _, l := range batch {
			t.take(l)
		}
		batch, t.size = nil, int64(read)
	}
	return nil
}

func (t *topic) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	file := t.file
	t.file, t.followers = nil, nil
	if file == nil {
		return nil
	}
	return file.Close()
}

// follower is a sink. It is called with the topic locked: so calls are serial, and a Read that
// begins behind one sees what was delivered. Stopping must not want the lock: a sink may stop
// itself, or wait for somebody who stops it.
type follower struct {
	sink    hub.Sink
	stopped atomic.Bool
}

func (f *follower) hasStopped() bool { return f.stopped.Load() }

// follow adds a follower, forgets those that have stopped, and returns the tail.
func (t *topic) follow(f *follower) hub.ID {
	t.followers = append(slices.DeleteFunc(t.followers, (*follower).hasStopped), f)
	return t.tail()
}

func (t *topic) deliver(ms []hub.Message) {
	for _, f := range t.followers {
		if !f.hasStopped() {
			f.sink.Deliver(ms...)
		}
	}
}
