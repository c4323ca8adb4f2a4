package watermill

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

func TestPingKnowsItsSubscriptions(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		ping := func(when string, want error) {
			t.Helper()
			if err := b.Ping(t.Context()); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", when, err, want)
			}
		}
		ping("nothing is followed", nil)
		mustFollow(t, b, "t")
		ping("followed", nil)
		f.set(func() { f.onSubscribe = func(int) error { return errDown } })
		f.newest("t").cancel()
		time.Sleep(time.Minute)
		ping("the subscription is down", ErrBroker)
		f.set(func() { f.onSubscribe = nil })
		time.Sleep(time.Minute)
		ping("it is there again", nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Ping(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		_ = b.Close()
		ping("closed", hub.ErrClosed)
	})
}

func TestWhatAPubSubCannotDo(t *testing.T) {
	run(t, Options{}, func(t *testing.T, _ *fakeBroker, b *Backend) {
		_, all := b.PublishAll(t.Context(), "orders", make([]hub.Message, 2))
		_, seek := b.Seek(t.Context(), "orders", hub.Seek{Messages: 1})
		_, info := b.Info(t.Context(), "orders")
		for _, err := range []error{all, seek, info, b.Delete(t.Context(), "orders"), b.Erase(t.Context(), "orders", "x")} {
			if !errors.Is(err, hub.ErrUnsupported) || !strings.Contains(err.Error(), `"orders"`) {
				t.Errorf("%v", err)
			}
		}
		if !errors.Is(all, hub.ErrRejected) {
			t.Errorf("%v", all)
		}
		if tr := b.Traits(); tr.Atomic || tr.Ends || tr.Deletes {
			t.Errorf("%+v", tr)
		}
		if !b.IsID("any.valid~ID") || b.IsID("no ID") {
			t.Error("IsID")
		}
	})
}
