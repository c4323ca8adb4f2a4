package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
)

// readersVariable, when it is set, makes a process of BenchmarkStalledReader the one that has the
// readers.
const readersVariable = "HEADRACE_READERS"

const (
	stalledReaders  = 10_000 // fewer where a process may not have so many files open
	stalledMessages = 150    // in each run
	stalledRuns     = 5      // with stalled readers, and as many without
)

// BenchmarkStalledReader compares how long a publish takes, and how long a message is under way to
// 10,000 readers, with and without some more that never read. The readers have a process of their
// own. Runs with and without alternate, five of each; the metrics are ratios with/without of the
// medians over the runs: of the runs' median latencies, and of their 99th percentiles. heap-MB is
// by how much the heap is greater with stalled readers than without, each the median over the runs.
// One iteration is the whole comparison.
//
// The aims are a ratio of at most 1.2 for the median and 1.5 for the 99th percentile of a publish.
// The comparison takes some minutes, and a machine that does nothing else:
//
//	go -C integration test -run '^$' -bench StalledReader -benchtime 1x -timeout 30m
//
// With -short there are 1,000 readers.
func BenchmarkStalledReader(b *testing.B) {
	if os.Getenv(readersVariable) != "" {
		if err := readAll(); err != nil {
			b.Fatal(err)
		}
		return
	}
	for _, stalled := range []int{1, 100} {
		b.Run(fmt.Sprintf("stalled=%d", stalled), func(b *testing.B) {
			for b.Loop() {
				compareStalled(b, stalled)
			}
		})
	}
}

func compareStalled(b *testing.B, stalled int) {
	s := newStalledBench(b)
	s.run(b, 0) // pools are warm, and all readers have had a message
	var without, with []latencies
	for range stalledRuns {
		without = append(without, s.run(b, 0))
		with = append(with, s.run(b, stalled))
	}
	for _, metric := range []struct {
		name string
		of   func(latencies) time.Duration
	}{
		{"publish-p50", func(l latencies) time.Duration { return l.publish[0] }},
		{"publish-p99", func(l latencies) time.Duration { return l.publish[1] }},
		{"deliver-p50", func(l latencies) time.Duration { return l.deliver[0] }},
		{"deliver-p99", func(l latencies) time.Duration { return l.deliver[1] }},
	} {
		w, wo := medianOf(with, metric.of), medianOf(without, metric.of)
		b.ReportMetric(float64(w)/float64(wo), metric.name+"-ratio")
		b.Logf("%s: %v with, %v without", metric.name, w, wo)
	}
	inUse := func(l latencies) int64 { return l.heap }
	w, wo := medianOf(with, inUse), medianOf(without, inUse)
	b.ReportMetric(float64(w-wo)/(1<<20), "heap-MB")
	b.Logf("heap: %.1f MB with, %.1f MB without, for %d readers", float64(w)/(1<<20), float64(wo)/(1<<20), s.readers)
}

// latencies are the 50th and 99th percentile of one run, and the heap in use at its end.
type latencies struct {
	publish, deliver [2]time.Duration
	heap             int64
}

func medianOf[T int64 | time.Duration](runs []latencies, pick func(latencies) T) T {
	var all []T
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

// stalledBench is a server with its readers.
type stalledBench struct {
	hub     *hub.Hub
	address string
	readers int
	first   hub.ID         // where stalled readers begin
	said    *bufio.Scanner // what the process of the readers says
}

func newStalledBench(b *testing.B) *stalledBench {
	b.Helper()
	s := &stalledBench{readers: min(stalledReaders, mostFiles()/2)}
	if testing.Short() {
		s.readers = min(s.readers, 1000)
	}
	if s.readers < stalledReaders {
		b.Logf("%d readers only", s.readers)
	}
	s.hub = newHub(b, memory.Options{})
	server := serve(b, s.hub, ginsse.Options{Heartbeat: time.Hour, NoRotation: true, WriteTimeout: time.Hour})
	s.address = server.Listener.Addr().String()
	// What a stalled reader gets stuck in; the others come later and do not get it.
	big := bytes.Repeat([]byte("x"), 200<<10)
	for range 64 {
		id, err := s.hub.Publish(context.Background(), "load", hub.Message{Data: big})
		if err != nil {
			b.Fatal(err)
		}
		if s.first == "" {
			s.first = id
		}
	}

	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^$", "-test.bench=^BenchmarkStalledReader$", "-test.benchtime=1x")
	cmd.Env = append(os.Environ(), readersVariable+"="+fmt.Sprint(s.address, " ", s.readers))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close() // which ends it
		_ = cmd.Wait()
	})
	s.said = bufio.NewScanner(out)
	s.hear(b, "ready")
	return s
}

// hear waits for the readers to say something, and returns what follows it.
func (s *stalledBench) hear(b *testing.B, word string) string {
	b.Helper()
	for s.said.Scan() {
		if rest, ok := strings.CutPrefix(s.said.Text(), word); ok {
			return rest
		}
	}
	b.Fatalf("the readers never said %q", word)
	return ""
}

// run publishes messages, each when the one before it is everywhere: each run works at its own full
// speed.
func (s *stalledBench) run(b *testing.B, stalled int) (l latencies) {
	b.Helper()
	for range stalled {
		conn := dial(b, s.address, "Last-Event-ID: "+string(s.first)+"\r\n")
		defer conn.Close()
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			b.Fatal(err)
		}
	}
	var publish, deliver []time.Duration
	for range stalledMessages {
		start := time.Now()
		if _, err := s.hub.Publish(context.Background(), "load", hub.Message{Data: strconv.AppendInt(nil, start.UnixNano(), 10)}); err != nil {
			b.Fatal(err)
		}
		publish = append(publish, time.Since(start))
		for text := range strings.FieldsSeq(s.hear(b, "everywhere")) {
			took, err := time.ParseDuration(text)
			if err != nil {
				b.Fatal(err)
			}
			deliver = append(deliver, took)
		}
	}
	return latencies{percentiles(publish), percentiles(deliver), heap()}
}

func dial(b *testing.B, address, header string) net.Conn {
	b.Helper()
	conn, err := net.Dial("tcp", address)
	if err == nil {
		_, err = conn.Write([]byte("GET /topics/load HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n" + header + "\r\n"))
	}
	if err != nil {
		b.Fatal(err)
	}
	return conn
}

// readAll has the readers, in a process of their own. It says when all have begun, and when each
// message is everywhere, with how long it took to some of them.
func readAll() error {
	var address string
	var readers int
	if _, err := fmt.Sscan(os.Getenv(readersVariable), &address, &readers); err != nil {
		return err
	}
	const sample = 100 // one reader in so many says how long a message took
	var (
		mu           sync.Mutex
		ready, taken int
		took         []byte
		failed       error
		connections  []net.Conn
		connecting   sync.WaitGroup
		reading      sync.WaitGroup
	)
	for worker := range 32 {
		connecting.Go(func() {
			for i := worker; i < readers; i += 32 {
				conn, err := net.Dial("tcp", address)
				if err == nil {
					_, err = conn.Write([]byte(requestFor("/topics/load")))
				}
				mu.Lock()
				if err != nil {
					failed = err
					mu.Unlock()
					return
				}
				connections = append(connections, conn)
				mu.Unlock()
				reading.Go(func() {
					readStamps(conn, func() {
						mu.Lock()
						defer mu.Unlock()
						if ready++; ready == readers {
							fmt.Println("ready")
						}
					}, func(late time.Duration) {
						mu.Lock()
						defer mu.Unlock()
						if i%sample == 0 {
							took = append(append(took, ' '), late.String()...)
						}
						if taken++; taken == readers {
							fmt.Printf("everywhere%s\n", took)
							taken, took = 0, took[:0]
						}
					})
				})
			}
		})
	}
	connecting.Wait()
	if failed == nil {
		_, failed = io.Copy(io.Discard, os.Stdin) // until the server has seen enough
	}
	for _, conn := range connections {
		_ = conn.Close()
	}
	reading.Wait()
	return failed
}

// readStamps reads messages that hold the time of their publishing, and says how long each was
// under way. ready is called when the stream has begun.
func readStamps(conn net.Conn, ready func(), took func(time.Duration)) {
	buf := make([]byte, 1024)
	var text []byte
	for {
		k, err := conn.Read(buf)
		if err != nil {
			return
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
			took(time.Duration(now - stamp))
			text = append(text[:0], after[end:]...)
		}
	}
}
