package ginsse

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
)

// Ref is a parameter that stands for a model: its key comes with the request, the model itself is
// loaded when it is asked for, by the function that the route was given with Models. It is a
// field of a route's parameters:
//
//	type TicketParams struct {
//		Ticket ginsse.Ref[*Ticket] // :ticket, :Ticket or :ticketRef; a path tag wins
//	}
//
// A query parameter or header may be a Ref when it is required. In a topic template the
// parameter's name stands for the key.
//
// Copies of a Ref share what is loaded, but a Snapshot has references of its own, which load
// anew. A Ref is safe for concurrent use, also after its request.
type Ref[T any] struct{ state *refState[T] }

// refState is what the copies of a Ref share: the model, or the one load under way.
type refState[T any] struct {
	key  string
	load func(context.Context) (T, error)

	mu      sync.Mutex
	loaded  bool
	value   T
	running *loading
}

// loading is one call of a load function. Its fields are written before done is closed, and not
// after.
type loading struct {
	done chan struct{}
	err  error
	// It ended for a reason of its caller's own, which says nothing to those who wait.
	abandoned bool
}

var errUnbound = errors.New("ginsse: the reference belongs to no request")

// Key returns the text of the key, as a topic template has it: "7" for the number 7, also when
// the client wrote 07. A Ref that no route has bound has none.
func (r Ref[T]) Key() string {
	if r.state == nil {
		return ""
	}
	return r.state.key
}

// Get returns the model. The first Get of a request loads it, on its own goroutine and with its
// own ctx. Gets that come meanwhile wait for that load, each until its own ctx ends, and share
// its result. Once loaded, the model is there for the whole request, whatever ctx is. A failure
// is not kept: the next Get loads again. If the ctx of the Get that loads ends, or its load
// panics, those who wait do not fail: one of them loads anew.
//
// The error is the load function's, unchanged, so that a guard can return it as it is; or
// ErrNotFound when the function returned neither an error nor anything but nil; or the cause of
// the end of ctx.
func (r Ref[T]) Get(ctx context.Context) (T, error) {
	var none T
	s := r.state
	if s == nil {
		return none, errUnbound
	}
	for {
		s.mu.Lock()
		if s.loaded {
			s.mu.Unlock()
			return s.value, nil
		}
		if ctx.Err() != nil {
			s.mu.Unlock()
			return none, context.Cause(ctx)
		}
		l := s.running
		if l == nil {
			l = &loading{done: make(chan struct{})}
			s.running = l
			s.mu.Unlock()
			return s.run(ctx, l)
		}
		s.mu.Unlock()
		select {
		case <-l.done:
			if l.err != nil && !l.abandoned {
				return none, l.err
			}
		case <-ctx.Done():
			return none, context.Cause(ctx)
		}
	}
}

// run loads the model for the caller and for those who wait on l.
func (s *refState[T]) run(ctx context.Context, l *loading) (value T, err error) {
	l.abandoned = true // until the load has returned: it may panic
	defer func() {
		s.mu.Lock()
		s.running = nil
		s.mu.Unlock()
		close(l.done)
	}()
	value, err = s.load(ctx)
	if err == nil && isNil(reflect.ValueOf(&value).Elem()) {
		err = ErrNotFound
	}
	l.err, l.abandoned = err, err != nil && ctx.Err() != nil
	if err != nil {
		var none T
		return none, err
	}
	s.mu.Lock()
	s.loaded, s.value = true, value
	s.mu.Unlock()
	return value, nil
}

func isNil(v reflect.Value) bool {
	return (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && v.IsNil()
}

// refType tells a Ref from a struct that embeds one. It must work for nil.
func (*Ref[T]) refType() reflect.Type { return reflect.TypeFor[Ref[T]]() }

func isRef(t reflect.Type) bool {
	r, ok := reflect.TypeAssert[interface{ refType() reflect.Type }](reflect.New(t))
	return ok && r.refType() == t
}

// Model says how references to one type are loaded. Make it with ModelOf and give it to a route
// with Models. It is not changed by routes, and may be given to several.
type Model struct {
	ref, value, key reflect.Type
	noLoad          bool
	set             func(ref reflect.Value, text string) error
	text            func(ref reflect.Value) string
	get             func(ctx context.Context, ref reflect.Value) error
	// Makes it a reference by the same key that has loaded nothing.
	renew func(ref reflect.Value)
}

// ModelOf returns the model of type T that load loads by its key. The key is anything that a path
// parameter can be, with a text: a string, a number, a type with UnmarshalText and MarshalText. A
// key that cannot be made of a request's text is answered 400, before anything is loaded.
//
// Ref.Get calls load with its own context. That has the request's values, those of Keys among
// them, when it is the Context's. For one reference of a request load is not called concurrently;
// for different requests it is. It returns ErrNotFound, wrapped or not, when there is no such
// model; a nil pointer without an error means the same.
func ModelOf[K, T any](load func(ctx context.Context, key K) (T, error)) Model {
	setKey := setter(reflect.TypeFor[K]())
	return Model{
		ref: reflect.TypeFor[Ref[T]](), value: reflect.TypeFor[T](), key: reflect.TypeFor[K](), noLoad: load == nil,
		set: func(ref reflect.Value, text string) error {
			var key K
			v := reflect.ValueOf(&key).Elem()
			if err := setKey(v, text); err != nil {
				return err
			}
			text, err := formatValue(v)
			if err != nil {
				return malformedError{err}
			}
			ref.Set(reflect.ValueOf(Ref[T]{&refState[T]{key: text, load: func(ctx context.Context) (T, error) { return load(ctx, key) }}}))
			return nil
		},
		text: func(ref reflect.Value) string { return ref.Interface().(Ref[T]).Key() },
		get: func(ctx context.Context, ref reflect.Value) error {
			_, err := ref.Interface().(Ref[T]).Get(ctx)
			return err
		},
		renew: func(ref reflect.Value) {
			if s := ref.Interface().(Ref[T]).state; s != nil {
				ref.Set(reflect.ValueOf(Ref[T]{&refState[T]{key: s.key, load: s.load}}))
			}
		},
	}
}

// modelsByRef checks a route's models and returns them by the type of their references.
func modelsByRef(models []Model) (map[reflect.Type]*Model, error) {
	byRef := make(map[reflect.Type]*Model)
	var errs []error
	for i := range models {
		m := &models[i]
		switch {
		case m.ref == nil:
			errs = append(errs, errors.New("a model is empty; make it with ModelOf"))
			continue
		case m.noLoad:
			errs = append(errs, fmt.Errorf("the function that loads the model %s is nil", m.value))
		case setter(m.key) == nil:
			errs = append(errs, fmt.Errorf("model %s: a key cannot be a %s", m.value, m.key))
		case !hasText(m.key):
			errs = append(errs, fmt.Errorf("model %s: a key cannot be a %s, which has no text: it needs a MarshalText or String method", m.value, m.key))
		case byRef[m.ref] != nil:
			errs = append(errs, fmt.Errorf("there are two models %s", m.value))
		}
		byRef[m.ref] = m
	}
	return byRef, errors.Join(errs...)
}
