package redisstream

import (
	"bytes"
	"context"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"github.com/headrace/headrace/hub"
)

// BenchmarkRedisTime prints what a message takes of Redis, in microseconds: the time in the publish
// script, and the CPU time of the server's thread in all. One iteration is 20,000 messages. To
// compare two versions of the script, run it in two worktrees in turn.
func BenchmarkRedisTime(b *testing.B) {
	for _, test := range []struct {
		name               string
		publishers, topics int
	}{{"alone", 1, 1}, {"64 on one topic", 64, 1}, {"64 on 64 topics", 64, 64}} {
		b.Run(test.name, func(b *testing.B) {
			s := startServer(b)
			r := newRig(b, s.addr, Options{})
			m := hub.Message{Type: "note", Data: bytes.Repeat([]byte("x"), 200)}
			publish := func(messages int) {
				var wg sync.WaitGroup
				for p := range test.publishers {
					wg.Go(func() {
						for range messages / test.publishers {
							if _, err := r.Publish(context.Background(), "t"+itoa(p%test.topics), m); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			}
			const messages = 20_000
			publish(messages / 10)
			var script, cpu float64
			n := 0
			for b.Loop() {
				script, cpu = script-s.scriptTime(b), cpu-s.cpuTime(b)
				publish(messages)
				script, cpu = script+s.scriptTime(b), cpu+s.cpuTime(b)
				n += messages / test.publishers * test.publishers
			}
			b.ReportMetric(script/float64(n), "script-µs/message")
			b.ReportMetric(cpu/float64(n), "cpu-µs/message")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// scriptTime is how many microseconds all scripts have run.
func (s *server) scriptTime(t testing.TB) (us float64) {
	return s.info(t, "commandstats", "cmdstat_evalsha:calls=\\d+,usec=")
}

// cpuTime is how many microseconds of CPU time the server's thread has had.
func (s *server) cpuTime(t testing.TB) (us float64) {
	return 1e6 * (s.info(t, "cpu", "used_cpu_user_main_thread:") + s.info(t, "cpu", "used_cpu_sys_main_thread:"))
}

func (s *server) info(t testing.TB, section, field string) float64 {
	t.Helper()
	text := s.Info(context.Background(), section).Val()
	found := regexp.MustCompile(field + "([0-9.]+)").FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("no %s in %s", field, text)
	}
	n, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
