package sse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A CursorStore keeps the last event ID of a stream while the process does not run. A stream calls
// it from one goroutine at a time; whether streams may share it is the store's to say. A ctx lives
// for 10 seconds, also when that of the stream has ended.
type CursorStore interface {
	// Load returns what was saved last, "" if nothing was.
	Load(ctx context.Context) (id string, err error)
	// Save keeps an ID. It holds no CR, LF or NUL, and can be "". When Save fails, Load returns
	// this one or the one before it, and nothing in between.
	Save(ctx context.Context, id string) error
}

// CursorFile is a [CursorStore] that is a file, by its name. The file holds the ID and a line end.
// Save writes another file beside it, has that written to the disk, and renames it, so that a crash
// leaves the one ID or the other. One stream at a time may use a file.
type CursorFile string

// errCursorFile means that a file was not written by a CursorFile, or is not whole.
var errCursorFile = errors.New("the file does not hold an id and a line end")

// Load implements [CursorStore]. A file that does not exist holds nothing.
func (f CursorFile) Load(context.Context) (string, error) {
	text, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	id, ok := strings.CutSuffix(string(text), "\n")
	// To begin anew where the position is lost would be a loss that nobody is told of.
	if !ok || strings.ContainsAny(id, "\r\n\x00") {
		return "", errCursorFile
	}
	return id, nil
}

// Save implements [CursorStore].
func (f CursorFile) Save(_ context.Context, id string) (err error) {
	next, err := os.CreateTemp(filepath.Dir(string(f)), "."+filepath.Base(string(f))+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(next.Name())
		}
	}()
	if _, err = next.WriteString(id + "\n"); err == nil {
		err = next.Sync()
	}
	if err = errors.Join(err, next.Close()); err != nil {
		return err
	}
	return os.Rename(next.Name(), string(f))
}

// storeTimeout bounds one call of a store.
const storeTimeout = 10 * time.Second

// A keeper saves the position of a stream in a store, each change once.
type keeper struct {
	store CursorStore // nil: nowhere
	known bool        // saved is what the store holds
	saved string
}

// load returns what the store holds.
func (k *keeper) load(ctx context.Context) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if id, err = k.store.Load(ctx); err != nil {
		return "", fmt.Errorf("sse: load the cursor: %w", err)
	}
	k.known, k.saved = true, id
	return id, nil
}

// save has the store hold an ID.
func (k *keeper) save(ctx context.Context, id string) error {
	if k.store == nil || k.known && k.saved == id {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := k.store.Save(ctx, id); err != nil {
		k.known = false
		return fmt.Errorf("sse: save the cursor: %w", err)
	}
	k.known, k.saved = true, id
	return nil
}
