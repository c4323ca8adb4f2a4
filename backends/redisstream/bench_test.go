package redisstream

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends/backendtest"
	"github.com/headrace/headrace/hub"
)

// BenchmarkPublish compares Publish with one call of the script for each message over a go-redis
// client with its default pool, and with redis-benchmark running the script in pipelines of 16
// over 50 connections, where it is installed. The ways alternate, five runs of each; the metrics
// are ratios of medians. One iteration is the whole comparison.
func BenchmarkPublish(b *testing.B) {
	s := startServer(b)
	r := newRig(b, s.addr, Options{})
	plain := redis.NewClient(&redis.Options{Addr: s.addr, DisableIdentity: true})
	b.Cleanup(func() { _ = plain.Close() })
	m := hub.Message{Type: "note", Data: bytes.Repeat([]byte("x"), 200)}
	ctx := context.Background()
	publish := func(topic string) error {
		_, err := r.Publish(ctx, topic, m)
		return err
	}
	oneByOne := func(topic string) error {
		command, _ := r.publisher.callCommand([]*job{r.messageJob(topic, m)})
		return plain.Process(ctx, command(false))
	}
	if err := publish("warm"); err != nil { // makes the script known
		b.Fatal(err)
	}
	const runs = 5
	for b.Loop() {
		rates := make(map[string][]float64)
		for range runs {
			add := func(name string, rate float64) { rates[name] = append(rates[name], rate) }
			lone, called := latencies(b, publish, oneByOne)
			add("latency", lone)
			add("latency one by one", called)
			for _, topics := range []int{1, 64} {
				add(fmt.Sprintf("%d topics", topics), throughput(b, topics, publish))
				add(fmt.Sprintf("%d topics one by one", topics), throughput(b, topics, oneByOne))
			}
			if rate, ok := r.redisBenchmark(b, s.addr, &m); ok {
				add("redis-benchmark", rate)
			}
		}
		for name, all := range rates {
			b.Logf("%-20s %8.0f (%.0f)", name, median(all), all)
		}
		ratio := func(unit, of, to string) { b.ReportMetric(median(rates[of])/median(rates[to]), unit) }
		ratio("latency/one-by-one", "latency", "latency one by one")
		for _, topics := range []string{"1", "64"} {
			ratio(topics+"-topics/one-by-one", topics+" topics", topics+" topics one by one")
			if len(rates["redis-benchmark"]) > 0 {
				ratio(topics+"-topics/redis-benchmark", topics+" topics", "redis-benchmark")
			}
		}
	}
}

// throughput is how many messages a second 64 publishers have together.
func throughput(b *testing.B, topics int, publish func(topic string) error) float64 {
	const publishers, each = 64, 1000
	var wg sync.WaitGroup
	start := time.Now()
	for p := range publishers {
		wg.Go(func() {
			topic := "bench" + itoa(p%topics)
			for range each {
				if err := publish(topic); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return publishers * each / time.Since(start).Seconds()
}

// latencies are the median ones of a lone publisher in two ways, in microseconds. The ways
// alternate quickly: what else the machine does meets both.
func latencies(b *testing.B, publish, other func(topic string) error) (of, ofOther float64) {
	var all [2][]float64
	for range 100 {
		for i, way := range []func(string) error{publish, other} {
			for range 50 {
				start := time.Now()
				if err := way("lone"); err != nil {
					b.Fatal(err)
				}
				all[i] = append(all[i], float64(time.Since(start))/float64(time.Microsecond))
			}
		}
	}
	return median(all[0]), median(all[1])
}

// redisBenchmark is how many messages a second redis-benchmark publishes.
func (r *rig) redisBenchmark(b *testing.B, addr string, m *hub.Message) (float64, bool) {
	program, err := exec.LookPath("redis-benchmark")
	if err != nil {
		b.Log("redis-benchmark is not installed")
		return 0, false
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		b.Fatal(err)
	}
	args := []string{"-h", host, "-p", port, "-P", "16", "-c", "50", "-n", "150000", "-q"}
	j := r.messageJob("bench", *m)
	command, _ := r.publisher.callCommand([]*job{j})
	for _, a := range command(false).Args() {
		switch a := a.(type) {
		case *lastArg:
			args = append(args, string(a.bytes))
		case []byte:
			args = append(args, string(a))
		default:
			args = append(args, fmt.Sprint(a))
		}
	}
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		b.Fatal(err)
	}
	found := regexp.MustCompile(`([0-9.]+) requests per second`).FindSubmatch(out)
	if found == nil {
		b.Fatalf("redis-benchmark says: %s", out)
	}
	rate, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return rate, true
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

func BenchmarkBackend(b *testing.B) {
	s := startServer(b)
	backendtest.Benchmark(b, backendtest.Config{
		New: func(t testing.TB) hub.Backend { return newRig(t, s.addr, Options{}).Backend },
	})
}
