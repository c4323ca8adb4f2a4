package watermill_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/headrace/headrace/backends"
	_ "github.com/headrace/headrace/backends/memory"
	_ "github.com/headrace/headrace/backends/redisstream/embedded"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// universalCase is a case of Watermill's universal suite: run has it, or without says why it is
// left out.
type universalCase struct {
	run     func(*testing.T, tests.TestContext, tests.PubSubConstructor)
	without string
}

const (
	noAcknowledgement = "every reader of a topic has its own place in it and nothing is acknowledged"
	noRedelivery      = "a message that a reader failed at is not delivered to it again: it can read from its place once more"
)

// universalCases are all cases of the suite.
var universalCases = map[string]universalCase{
	"TestPublishSubscribe":                  {run: tests.TestPublishSubscribe},
	"TestConcurrentSubscribe":               {run: tests.TestConcurrentSubscribe},
	"TestConcurrentSubscribeMultipleTopics": {run: tests.TestConcurrentSubscribeMultipleTopics},
	"TestContinueAfterSubscribeClose":       {run: tests.TestContinueAfterSubscribeClose},
	"TestConcurrentClose":                   {run: tests.TestConcurrentClose},
	"TestPublishSubscribeInOrder":           {run: tests.TestPublishSubscribeInOrder},
	"TestPublisherClose":                    {run: tests.TestPublisherClose},
	"TestTopic":                             {run: tests.TestTopic},
	"TestSubscribeCtx":                      {run: tests.TestSubscribeCtx},
	"TestNewSubscriberReceivesOldMessages":  {run: tests.TestNewSubscriberReceivesOldMessages},

	"TestResendOnError":       {without: noRedelivery},
	"TestContinueAfterErrors": {without: noRedelivery},
	"TestNoAck":               {without: noAcknowledgement},
	"TestMessageCtx":          {without: noAcknowledgement + ", so no context ends with it"},
	"TestConsumerGroups":      {without: "there are no consumer groups: every reader gets every message"},
	"TestReconnect":           {without: "it restarts a server, and its subscriber has to come through that: that is tested with each backend that has one"},
}

// universalFeatures are what a hub gives over a backend that replays. Its cases run side by side.
var universalFeatures = tests.Features{
	GuaranteedOrder:                  true,
	Persistent:                       true,
	NewSubscriberReceivesOldMessages: true,
}

// TestUniversalSuite runs the cases of Watermill's suite that apply. Each reader is an instance
// of its own there, so a case that has several gets each message as often and de-duplicates by
// the UUID.
func TestUniversalSuite(t *testing.T) {
	for _, backend := range []struct {
		name, url string
		short     bool
	}{
		{"memory", "memory://?messages=20000", !testenv.IsLong()},
		{"redis", "miniredis://universal?maxlen=20000", true},
	} {
		t.Run(backend.name, func(t *testing.T) {
			t.Parallel()
			h := universalHub(t, backend.url)
			features := universalFeatures
			features.ForceShort = backend.short
			for _, name := range slices.Sorted(maps.Keys(universalCases)) {
				c := universalCases[name]
				if c.run == nil {
					continue
				}
				skipped := false
				t.Run(name, func(t *testing.T) {
					defer func() { skipped = t.Skipped() }()
					c.run(t, tests.TestContext{TestID: tests.NewTestID(), Features: features}, func(*testing.T) (message.Publisher, message.Subscriber) {
						return watermill.NewPublisher(h, watermill.PublisherOptions{}), newHubSubscriber(t.Context(), h)
					})
				})
				if skipped {
					t.Errorf("%s skips itself with %+v: give it what it needs, or leave it out with a reason", name, features)
				}
			}
		})
	}
}

func universalHub(t *testing.T, url string) *hub.Hub {
	t.Helper()
	backend, err := backends.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// hubSubscriber is a Watermill subscriber on a hub, as thin as the suite lets it be: from the
// oldest message on, without regard to Ack and Nack.
type hubSubscriber struct {
	hub *hub.Hub
	ctx context.Context // of the case: some of them leave subscribers open
	end context.CancelFunc
	wg  sync.WaitGroup
}

func newHubSubscriber(ctx context.Context, h *hub.Hub) *hubSubscriber {
	s := &hubSubscriber{hub: h}
	s.ctx, s.end = context.WithCancel(ctx)
	return s
}

func (s *hubSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	subscription, err := s.hub.Subscribe(ctx, topic, hub.Earliest())
	if err != nil {
		cancel()
		return nil, err
	}
	out := make(chan *message.Message)
	s.wg.Go(func() {
		defer cancel()
		defer stop()
		defer close(out)
		for m, err := range subscription.All() {
			if err != nil {
				return
			}
			got := message.NewMessageWithContext(ctx, m.Headers[watermill.UUIDHeader], m.Data)
			for key, value := range m.Headers {
				if key != watermill.UUIDHeader {
					got.Metadata.Set(key, value)
				}
			}
			select {
			case out <- got:
			case <-ctx.Done():
				return
			}
		}
	})
	return out, nil
}

func (s *hubSubscriber) Close() error {
	s.end()
	s.wg.Wait()
	return nil
}

// TestUniversalCasesAreKnown fails when the suite has a case that universalCases does not list,
// or lacks one that it does.
func TestUniversalCasesAreKnown(t *testing.T) {
	for name, c := range universalCases {
		if (c.run == nil) == (c.without == "") {
			t.Errorf("%s must either run or have a reason why not", name)
		}
	}
	known := slices.Sorted(maps.Keys(universalCases))
	if found := casesOfSuite(t); !slices.Equal(found, known) {
		t.Errorf("the suite has the cases\n%q, universalCases lists\n%q", found, known)
	}
}

// casesOfSuite returns the names of the suite's exported functions that take a TestContext.
func casesOfSuite(t *testing.T) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/ThreeDotsLabs/watermill/pubsub/tests").Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of the suite: %v", err)
	}
	var found []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && f.Recv == nil && f.Name.IsExported() && slices.ContainsFunc(f.Type.Params.List, takesTestContext) {
				found = append(found, f.Name.Name)
			}
		}
	}
	slices.Sort(found)
	return found
}

func takesTestContext(parameter *ast.Field) bool {
	name, ok := parameter.Type.(*ast.Ident)
	return ok && name.Name == "TestContext"
}
