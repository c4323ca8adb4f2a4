package redisstream

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/queue"
	"github.com/headrace/headrace/internal/retry"
)

// batchBounds are those of a pipeline, as far as its commands are concerned.
var batchBounds = queue.Bounds{Items: 128, Bytes: 256 << 10}

const (
	// batchesAtOnce is how many batches are under way at one node. Redis runs one command at a
	// time: with two, one batch is on its way while the other is run.
	batchesAtOnce = 2
	// failingPace spaces batches while the node is failing.
	failingPace = 50 * time.Millisecond
)

// job is one caller's command, or messages that share a command with those of others. The caller
// waits for done, and may leave before.
type job struct {
	queue.Item
	cmd redis.Cmder
	// Makes the command anew, after it was certainly not run.
	again func(bySource bool) redis.Cmder
	// Tells whether the command was sent. Without it, running twice does no harm.
	last *lastArg
	// How many replicas had what was written when the command was answered.
	replicas int64
	// Instead of the two. Several are appended together or not at all.
	messages []*message
	size     int           // about the bytes of the command, or of its reply; see batcher.replies
	done     chan struct{} // closed when the command has its result
}

func newJob(size int, command func(bySource bool) redis.Cmder) *job {
	return &job{cmd: command(false), size: size, again: command, done: make(chan struct{})}
}

// err is why the job has no answer, or an error that is one.
func (j *job) err() error {
	if len(j.messages) > 0 {
		return j.messages[0].err
	}
	return j.cmd.Err()
}

// Size implements queue.Queued.
func (j *job) Size() int { return j.size }

// batcher sends the commands of many callers to one node in few pipelines. It never waits for
// more to come: a worker takes what is queued, up to the bounds, and what comes meanwhile is the
// next batch. So batches grow with the load by themselves. Workers exist only while there are
// jobs.
type batcher struct {
	ctx context.Context // of the commands; ends when the backend is closed
	// send gives the command of every job its result. Several workers call it at once.
	send func(jobs []*job)
	// replies: the size of a job is that of its reply. A batch has as many as the link carries soon:
	// nobody has his reply before all have.
	replies bool
	// sendAlone, if there is one, does so on the caller's goroutine, for the job of one who finds
	// no worker. It returns soon after ctx ends.
	sendAlone func(ctx context.Context, j *job)
	spawn     func(func()) bool

	link link       // what it carries of replies
	pace retry.Pace // of the batches of all workers while the node is failing

	used time.Time // by a caller, in a cluster; guarded by lanes.mu

	mu      sync.Mutex
	queue   queue.Queue[*job]
	workers int
	calm    time.Time // nobody sends alone before
}

func newBatcher(ctx context.Context, spawn func(func()) bool) *batcher {
	return &batcher{ctx: ctx, spawn: spawn, pace: retry.Pace{Every: failingPace, Least: failingPace}}
}

// do runs a job and waits for it, at most until ctx ends. Then err is the context's, and maybe
// says whether the command may have been sent.
func (b *batcher) do(ctx context.Context, j *job) (maybe bool, err error) {
	if b.sendAlone != nil && b.enter() {
		b.sendAlone(ctx, j)
		if ctx.Err() == nil {
			b.settle(j)
		} else {
			close(j.done) // it says nothing about the node that somebody could not wait
		}
		b.leave(ctx.Err() != nil)
		return true, nil
	}
	b.add(j)
	select {
	case <-j.done:
		return true, nil
	case <-ctx.Done():
		return !j.Withdraw(), context.Cause(ctx)
	}
}

// add queues a job.
func (b *batcher) add(j *job) {
	b.mu.Lock()
	b.queue.Add(j)
	start := b.workers < batchesAtOnce
	if start {
		b.workers++
	}
	b.mu.Unlock()
	if start {
		b.start()
	}
}

func (b *batcher) start() {
	if !b.spawn(b.work) {
		// The backend is closed, so all commands fail at once. Others may have queued theirs,
		// counting on this worker.
		b.work()
	}
}

// enter makes the caller a worker if there is none. While the node is failing the workers keep
// the pace.
func (b *batcher) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.workers > 0 || b.pace.Failing() || time.Now().Before(b.calm) {
		return false
	}
	b.workers++
	return true
}

// leave ends what enter began. Others may have queued jobs meanwhile, counting on this worker.
// Callers who break off one after the other, each with a connection closed, are sent by the
// workers for a while: those find out whether the node is failing.
func (b *batcher) leave(brokenOff bool) {
	b.mu.Lock()
	if brokenOff {
		b.calm = time.Now().Add(failingPace)
	}
	more := b.queue.Len() > 0
	if !more {
		b.workers--
	}
	b.mu.Unlock()
	if more {
		b.start()
	}
}

func (b *batcher) work() {
	var jobs []*job
	for {
		b.pace.Wait(b.ctx)
		var more bool
		if jobs, more = b.take(jobs[:0]); !more {
			return
		}
		if len(jobs) == 0 {
			continue
		}
		began := time.Now()
		b.send(jobs)
		if b.replies {
			b.link.note(jobs, time.Since(began))
		}
		b.settle(jobs...)
		clear(jobs)
		// The callers that have their results now run first: what they do next is in the next
		// batch.
		runtime.Gosched()
	}
}

// settle ends jobs that have their results. The node is failing when nobody got an answer, be it
// that of an error, but for the one that it is not ready.
func (b *batcher) settle(jobs ...*job) {
	failing := true
	for _, j := range jobs {
		err := j.err()
		failing = failing && err != nil && !errors.Is(err, redis.Nil) && (!isReply(err) || notReady(err))
		close(j.done)
	}
	b.pace.Note(failing)
}

// take moves jobs from the queue into a batch. It reports false, and the worker is no longer
// counted, when there are none.
func (b *batcher) take(jobs []*job) ([]*job, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.queue.Len() == 0 {
		b.workers--
		return nil, false
	}
	bounds := batchBounds
	if b.replies {
		bounds.Bytes = hub.PageBytes
		if b.link.slow() {
			bounds.Bytes = b.link.budget()
		}
	}
	return b.queue.Take(jobs, bounds), true
}
