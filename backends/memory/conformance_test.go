package memory_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/backendtest"
	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
)

func TestBackend(t *testing.T) {
	const messages = 500
	retention := hub.Retention{Prefix: "retained/", Messages: 200, Bytes: 1 << 20, Age: time.Second}
	backendtest.Run(t, backendtest.Config{
		New: func(testing.TB) hub.Backend {
			return memory.New(memory.Options{MaxMessages: messages, Retention: []hub.Retention{retention}})
		},
		Retention: retention,
		Trim: func(t testing.TB, b hub.Backend, topic string) {
			for i := range messages {
				if _, err := b.Publish(t.Context(), topic, hub.Message{Data: fmt.Append(nil, "filler ", i), AfterEnd: true}); err != nil {
					t.Fatal(err)
				}
			}
		},
		Lacks: map[string]string{"F9": "the live path is a function call, which does not break"},
	})
}

func BenchmarkBackend(b *testing.B) {
	backendtest.Benchmark(b, backendtest.Config{New: func(testing.TB) hub.Backend { return memory.New(memory.Options{}) }})
}
