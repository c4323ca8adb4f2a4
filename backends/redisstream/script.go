package redisstream

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by their SHA-1.
	_ "embed"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed id.lua
	idSource string
	//go:embed rare.lua
	rareSource string
	//go:embed bounds.lua
	boundsSource string
	//go:embed batch.lua
	batchSource string
	//go:embed publish.lua
	publishSource string
	//go:embed bounded.lua
	boundedSource string
	//go:embed read.lua
	readSource string
	//go:embed page.lua
	pageSource string
	//go:embed next.lua
	nextSource string
	//go:embed seek.lua
	seekSource string
	//go:embed info.lua
	infoSource string
	//go:embed delete.lua
	deleteSource string
	//go:embed erase.lua
	eraseSource string
	//go:embed life.lua
	lifeSource string

	publishScript = newScript(idSource + moreSource() + publishSource)
	readScript    = newScript(boundedSource + readSource)
	pageScript    = newScript(boundedSource + pageSource)
	nextScript    = newScript(nextSource)
	seekScript    = newScript(lifeSource + seekSource)
	infoScript    = newScript(lifeSource + infoSource)
	deleteScript  = newScript(idSource + lifeSource + deleteSource)
	eraseScript   = newScript(idSource + lifeSource + eraseSource)
)

// moreSource puts what few runs of the publish script need into one function, which makes the
// others when it is called: to make a function costs Redis as much as a short command.
func moreSource() string {
	return "local function more()\n" + rareSource + boundsSource + batchSource + "return {rare = rare, bounds = bounds, batch = batch}\nend\n"
}

// mostRandom bounds the random numbers for id.lua, which says what they are for.
const mostRandom = 1 << 18

// randomID returns a random number for one run of a script that gives IDs. Two runs must not have
// the same one: with a clock that is behind, they would give the same ID in two histories.
func randomID() int { return 1 + rand.IntN(mostRandom) }

// script is a Lua script that Redis knows by its digest once it has seen the source.
type script struct{ source, digest string }

func newScript(source string) script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // Redis names scripts by their SHA-1.
	return script{source: source, digest: hex.EncodeToString(sum[:])}
}

// args returns the beginning of a command that runs the script.
func (s script) args(bySource bool, most int) []any {
	if bySource {
		return append(make([]any, 0, most+2), "eval", s.source)
	}
	return append(make([]any, 0, most+2), "evalsha", s.digest)
}

// command returns what makes the command that runs the script for some keys.
func (s script) command(ctx context.Context, keys []string, args ...any) func(bySource bool) redis.Cmder {
	return func(bySource bool) redis.Cmder {
		all := append(s.args(bySource, 1+len(keys)+len(args)), len(keys))
		for _, k := range keys {
			all = append(all, k)
		}
		return redis.NewCmd(ctx, append(all, args...)...)
	}
}

// once is a command that no client sends a second time. Otherwise a client repeats a command
// whose reply was lost.
type once struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (once) NoRetry() bool { return true }

// lastArg is the last argument of a command. A client asks for its bytes when it writes the
// command: as long as it did not, the command was not sent in full, and Redis cannot have run it.
type lastArg struct {
	bytes   []byte
	written atomic.Bool
}

// sent reports whether the command, which has this error, may have reached Redis.
func (a *lastArg) sent(err error) bool { return a.written.Load() && !errors.Is(err, errUnsent) }

// MarshalBinary implements encoding.BinaryMarshaler.
func (a *lastArg) MarshalBinary() ([]byte, error) {
	a.written.Store(true)
	return a.bytes, nil
}
