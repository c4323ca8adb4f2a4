package redisstream

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// replicaWait is with the context of a command that a cluster's client sends to where it is
// redirected: the replicas of that server are waited for, over the connection that ran the command.
type replicaWait struct {
	of       redis.Cmder
	wait     func() *redis.Cmd
	replicas int64
}

type replicaWaitKey struct{}

// waitingFor returns what a command is with, nil for nothing.
func waitingFor(ctx context.Context, cmd redis.Cmder) *replicaWait {
	if w, _ := ctx.Value(replicaWaitKey{}).(*replicaWait); w != nil && w.of == cmd {
		return w
	}
	return nil
}

// waitHook has the client of a cluster's node wait for replicas where a context says so.
type waitHook struct {
	passing

	node *redis.Client
}

// ProcessHook implements redis.Hook.
func (h waitHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if waitingFor(ctx, cmd) == nil {
			return next(ctx, cmd)
		}
		p := h.node.Pipeline()
		_ = p.Process(ctx, cmd)
		_, err := p.Exec(ctx)
		unanswered(cmd, err)
		return cmd.Err()
	}
}

// ProcessPipelineHook implements redis.Hook.
func (waitHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		w := waitingFor(ctx, cmds[len(cmds)-1])
		if w == nil {
			return next(ctx, cmds)
		}
		wait := w.wait()
		err := next(ctx, append(slices.Clip(cmds), wait))
		w.replicas, _ = wait.Int64()
		return err
	}
}
