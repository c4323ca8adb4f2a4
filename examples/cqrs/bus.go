package main

import (
	"context"
	"errors"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/components/cqrs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
)

// eventsTopic is the topic of all that happens.
const eventsTopic = "desk"

const (
	publishTimeout = 5 * time.Second // for one attempt
	closeTimeout   = 5 * time.Second // for handlers that run when the buses close
	maxCommands    = 200             // that wait for their handlers
)

// names makes the names of commands and events: those of their types.
var names = cqrs.JSONMarshaler{GenerateName: cqrs.StructName}

// buses carry commands to the desk and events from it.
type buses struct {
	desk     *desk
	attempts *attempts
	commands *cqrs.CommandBus
	router   *message.Router
	waiting  *waiting
	ended    chan error // of the router, once
}

// newBuses connects a desk to a hub. Commands travel within the process; another Pub/Sub in the
// place of the GoChannel takes them to other ones.
func newBuses(h *hub.Hub, logger wm.LoggerAdapter) (*buses, error) {
	b := &buses{waiting: newWaiting(maxCommands), ended: make(chan error, 1)}
	b.attempts = &attempts{Publisher: watermill.NewPublisher(h, watermill.PublisherOptions{}), counts: make(map[string]int)}
	events, err := cqrs.NewEventBusWithConfig(b.attempts, cqrs.EventBusConfig{
		GeneratePublishTopic: func(cqrs.GenerateEventPublishTopicParams) (string, error) { return eventsTopic, nil },
		// The bus makes a message, with a UUID of its own, each time it is asked to publish. The
		// event's ID makes it the same message each time: the UUID is the idempotency key, and of
		// all attempts at most one appends.
		OnPublish: func(p cqrs.OnEventSendParams) error {
			p.Message.UUID = p.Event.(event).id()
			return nil
		},
		Marshaler: names,
		Logger:    logger,
	})
	if err != nil {
		return nil, err
	}
	b.desk = newDesk(func(ctx context.Context, e event) error {
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		defer cancel()
		return events.Publish(ctx, e)
	})

	transport := gochannel.NewGoChannel(gochannel.Config{}, logger)
	b.commands, err = cqrs.NewCommandBusWithConfig(transport, cqrs.CommandBusConfig{
		GeneratePublishTopic: func(p cqrs.CommandBusGeneratePublishTopicParams) (string, error) { return p.CommandName, nil },
		Marshaler:            names,
		Logger:               logger,
	})
	if err != nil {
		return nil, err
	}
	b.router, err = message.NewRouter(message.RouterConfig{CloseTimeout: closeTimeout}, logger)
	if err != nil {
		return nil, err
	}
	// A handler that failed runs again after a pause, with the same command. When the last attempt
	// fails too, the GoChannel delivers the command once more, and so on: nothing that was accepted
	// is given up while the program runs.
	b.router.AddMiddleware(middleware.Retry{
		MaxRetries: 5, InitialInterval: 100 * time.Millisecond, MaxInterval: 2 * time.Second, Multiplier: 2, RandomizationFactor: .5,
		Logger: logger,
	}.Middleware)
	processor, err := cqrs.NewCommandProcessorWithConfig(b.router, cqrs.CommandProcessorConfig{
		GenerateSubscribeTopic: func(p cqrs.CommandProcessorGenerateSubscribeTopicParams) (string, error) { return p.CommandName, nil },
		SubscriberConstructor: func(cqrs.CommandProcessorSubscriberConstructorParams) (message.Subscriber, error) {
			return transport, nil
		},
		Marshaler: names,
		Logger:    logger,
	})
	if err != nil {
		return nil, err
	}
	return b, processor.AddHandlers(handler[BookRoom](b), handler[CancelBooking](b), handler[CheckIn](b), handler[CheckOut](b), handler[CleanRoom](b))
}

// handler returns the handler of a kind of command. The message of a command has its ID, which
// stays the same when the handler runs again.
func handler[C command](b *buses) cqrs.CommandHandler {
	var c C
	return cqrs.NewCommandHandler(names.Name(c), func(ctx context.Context, c *C) error {
		if err := b.desk.handle(ctx, cqrs.OriginalMessageFromCtx(ctx).UUID, *c); err != nil {
			return err
		}
		b.waiting.done()
		return nil
	})
}

// run starts the handlers and opens the desk. Commands may be sent when it has returned: the
// GoChannel drops those that nobody listens to.
func (b *buses) run(ctx context.Context) error {
	go func() { b.ended <- b.router.Run(context.WithoutCancel(ctx)) }()
	select {
	case <-b.router.Running():
	case err := <-b.ended:
		b.ended <- err
		return errors.Join(errors.New("cqrs: the router has ended"), err)
	}
	// That the desk is open is the first event. If it cannot be published now, the first command
	// does it.
	opening, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := b.desk.publishOutbox(opening); err != nil {
		b.router.Logger().Error("Opening the desk could not be published yet", err, nil)
	}
	return nil
}

// errBusy is that no more commands are taken.
var errBusy = errors.New("commands are not taken right now: try again")

// send puts a command on the bus under an ID, and returns before it is decided.
func (b *buses) send(ctx context.Context, id string, c command) error {
	if !b.waiting.add() {
		return errBusy
	}
	err := b.commands.SendWithModifiedMessage(ctx, c, func(m *message.Message) error {
		m.UUID = id
		return nil
	})
	if err != nil {
		b.waiting.done()
	}
	return err
}

// close takes no more commands, lets those that were accepted be decided and published until ctx
// ends, and stops the handlers. An error says what was left undone.
func (b *buses) close(ctx context.Context) error {
	err := errors.Join(b.waiting.wait(ctx), b.router.Close())
	return errors.Join(err, <-b.ended)
}
