package integration

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
)

// BenchmarkStalledReader compares publish and delivery latency to 1,000 readers with and without one more that never reads. Runs with and without alternate, five of each;
// the metrics are ratios with/without of the medians over the runs: of the runs' median latencies, and of their 99th percentiles. One iteration is the whole comparison.
func BenchmarkStalledReader(b *testing.B) {
	for b.Loop() {
		var without, with []latencies
		for range 5 {
			without = append(without, measureStalled(b, false))
			with = append(with, measureStalled(b, true))
		}
		for name, pick := range map[string]func(latencies) time.Duration{
			"publish-p50": func(l latencies) time.Duration { return l.publish[0] }, "publish-p99": func(l latencies) time.Duration { return l.publish[1] },
			"deliver-p50": func(l latencies) time.Duration { return l.deliver[0] }, "deliver-p99": func(l latencies) time.Duration { return l.deliver[1] },
		} {
			w, wo := medianOf(with, pick), medianOf(without, pick)
			b.ReportMetric(float64(w)/float64(wo), name+"-ratio")
			b.Logf("%s: %v with, %v without", name, w, wo)
		}
	}
}

// latencies are the 50th and 99th percentile of one run.
type latencies struct{ publish, deliver [2]time.Duration }

func medianOf(runs []latencies, pick func(latencies) time.Duration) time.Duration {
	var all []time.Duration
	for _, r := range runs {
		all = append(all, pick(r))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func percentiles(all []time.Duration) [2]time.Duration {
	slices.Sort(all)
	return [2]time.Duration{all[len(all)/2], all[len(all)*99/100]}
}

func measureStalled(b *testing.B, stalled bool) latencies {
	const readers, messages = 1000, 150
	h := newHub(b, memory.Options{})
	server := serve(b, h, ginsse.Options{WriteTimeout: time.Hour})
	address := server.Listener.Addr().String()

	// What the stalled reader gets stuck in; the others come later and do not get it.
	big := bytes.Repeat([]byte("x"), 200<<10)
	var first hub.ID
	for range 64 {
		id, err := h.Publish(context.Background(), "load", hub.Message{Data: big})
		if err != nil {
			b.Fatal(err)
		}
		if first == "" {
			first = id
		}
	}
	if stalled {
		defer dial(b, address, "Last-Event-ID: "+string(first)+"\r\n").Close()
	}

	var done, ready sync.WaitGroup
	var mu sync.Mutex
	var deliver []time.Duration
	arrived := make(chan struct{}, readers)
	for range readers {
		conn := dial(b, address, "")
		defer conn.Close()
		ready.Add(1)
		done.Go(func() {
			own := readStamps(conn, messages, ready.Done, arrived)
			mu.Lock()
			deliver = append(deliver, own...)
			mu.Unlock()
		})
	}
	ready.Wait()
	var publish []time.Duration
	for range messages {
		start := time.Now()
		if _, err := h.Publish(context.Background(), "load", hub.Message{Data: fmt.Appendf(nil, "%d", start.UnixNano())}); err != nil {
			b.Fatal(err)
		}
		publish = append(publish, time.Since(start))
		// The next one when this one is everywhere: each run works at its own full speed, one message at a time.
		for range readers {
			<-arrived
		}
	}
	done.Wait()
	return latencies{publish: percentiles(publish), deliver: percentiles(deliver)}
}

func dial(b *testing.B, address, header string) net.Conn {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Write([]byte("GET /topics/load HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n" + header + "\r\n")); err != nil {
		b.Fatal(err)
	}
	return conn
}

// readStamps reads n messages that hold the time of their publishing, and returns how long each was under way. ready is called when the stream has begun.
func readStamps(conn net.Conn, n int, ready func(), arrived chan<- struct{}) []time.Duration {
	var all []time.Duration
	buf := make([]byte, 4096)
	var text []byte
	for len(all) < n {
		k, err := conn.Read(buf)
		if err != nil {
			return all
		}
		now := time.Now().UnixNano()
		text = append(text, buf[:k]...)
		if ready != nil && bytes.Contains(text, []byte("checkpoint")) {
			ready()
			ready = nil
		}
		for {
			_, after, found := bytes.Cut(text, []byte("\ndata: 1"))
			end := bytes.IndexByte(after, '\n')
			if !found || end < 0 {
				break
			}
			stamp, _ := strconv.ParseInt("1"+string(after[:end]), 10, 64)
			all = append(all, time.Duration(now-stamp))
			arrived <- struct{}{}
			text = append(text[:0], after[end:]...)
		}
	}
	return all
}
