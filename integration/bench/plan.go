//go:build linux

package main

import (
	"os"
	"os/exec"
	"slices"
)

// scale is how much is measured.
type scale struct {
	runs     int      // of everything
	conns    int      // on the topic
	idle     int      // whose memory is measured
	seconds  float64  // of publishing for a figure
	warm     float64  // seconds of publishing before
	retained int      // messages in a replay
	readers  int      // of a replay
	size     int      // bytes of a message
	rate     int      // messages a second when paced
	ahead    int      // messages on their way when saturated
	wide     int      // the same, on one topic once more; 0 for not
	strict   bool     // a problem fails the run
	profile  string   // the folder for profiles; "" for none
	tasks    []string // what is measured; nil for all
	skip     []string // labels of rows that are measured only when their shape is asked for

	contenders []contender
}

func full() scale {
	return scale{
		runs: 5, conns: 1000, idle: 8000, seconds: 4, warm: 1, retained: 100_000, readers: 40, size: 200, rate: 50, ahead: 32, wide: 256,
		contenders: contenders,
	}
}

// reduced is what CI runs: it shows that the measuring works, and measures nothing that noise
// cannot change.
func reduced() scale {
	s := full()
	s.runs, s.conns, s.idle, s.seconds, s.warm, s.retained, s.readers, s.strict = 1, 200, 500, 1, 0.2, 5000, 10, true
	s.contenders = only(raw, direct, ordinary, "go-sse")
	s.skip = []string{"headrace-wrappedhttp", "go-sse-topics4", "go-sse-wrappedhttp"}
	return s
}

// quick is for whoever changes headrace and wants to know what came of it: few figures in few
// minutes.
func quick() scale {
	s := full()
	s.runs, s.idle, s.seconds, s.warm, s.wide = 3, 2000, 1, 0.3, 0
	s.tasks = []string{delivering, connecting}
	s.contenders = only(raw, direct, stream)
	s.skip = []string{"headrace-wrappedhttp", "gin-topics4", "gin-own", "gin-wrapped"}
	return s
}

func only(names ...string) []contender {
	var list []contender
	for _, c := range contenders {
		if slices.Contains(names, c.short) {
			list = append(list, c)
		}
	}
	return list
}

// contender is a server.
type contender struct {
	short   string // its name on the command line
	name    string
	program string // in the folder of this one
	module  string // whose version is shown
	args    []string
	library bool // a library for Go that is no part of this project

	// shapes are the names of those that it is measured with besides one topic.
	shapes []string

	delivers, connects, replays bool // what is measured
	redis                       bool // two instances over one Redis

	// missing says what is missing on this machine, "" for nothing. It may be nil.
	missing func() string
}

// The names of contenders that ratios are about.
const (
	raw      = "raw"
	direct   = "headrace"
	ordinary = "headrace-ordinary"
	stream   = "gin"
)

// What can be measured, by the name on the command line.
const (
	delivering = "deliver"
	connecting = "connect"
	replaying  = "replay"
)

var tasks = []string{delivering, connecting, replaying}

var contenders = []contender{
	{short: raw, name: "raw loop", program: "raw", shapes: []string{spread}, delivers: true, connects: true},
	{short: direct, name: "headrace", program: "headrace",
		shapes:   []string{"topics4", "own", "filter", "map", "wrapped", "wrappedhttp", spread},
		delivers: true, connects: true, replays: true},
	{short: "headrace-detached", name: "headrace, detached", program: "headrace", args: []string{"-detached"}, delivers: true, connects: true},
	{short: ordinary, name: "headrace, ordinary path", program: "headrace", args: []string{"-wrapped"}, delivers: true, connects: true, replays: true},
	{short: "go-sse", name: "tmaxmax/go-sse", program: "gosse", module: "github.com/tmaxmax/go-sse", library: true,
		shapes:   []string{"topics4", "own", "wrappedhttp", spread},
		delivers: true, connects: true, replays: true},
	{short: "r3labs", name: "r3labs/sse", program: "r3labs", module: "github.com/r3labs/sse/v2", library: true,
		shapes:   []string{spread},
		delivers: true, connects: true, replays: true},
	{short: stream, name: "c.Stream and a channel each, Gin", program: "ginstream", module: "github.com/gin-gonic/gin", library: true,
		shapes:   []string{"topics4", "own", "wrapped", spread},
		delivers: true, connects: true},
	{short: "watermill", name: "watermill-http SSERouter", program: "watermill", module: "github.com/ThreeDotsLabs/watermill-http/v2", library: true,
		delivers: true, connects: true},
	{short: "centrifuge", name: "centrifuge", program: "centrifuge", module: "github.com/centrifugal/centrifuge", library: true,
		shapes:   []string{"topics4", "own", spread},
		delivers: true, connects: true},
	{short: "nchan", name: "nchan (nginx)", program: "nchan", delivers: true, connects: true, missing: withoutNchan},
	{short: "headrace-paged", name: "headrace, replay from the backend", program: "headrace", args: []string{"-paged"}, replays: true},
	{short: "headrace-redis", name: "headrace, two instances over Redis", program: "headrace", delivers: true, redis: true, missing: withoutRedis},
}

func withoutNchan() string {
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if _, err := exec.LookPath(name); err == nil {
			for _, module := range []string{os.Getenv("HEADRACE_NCHAN"), "/usr/lib/nginx/modules/ngx_nchan_module.so"} {
				if _, err := os.Stat(module); err == nil { //nolint:gosec // whoever runs this chooses it
					return ""
				}
			}
			return "nginx has no module nchan (Debian: libnginx-mod-nchan)"
		}
	}
	return "nginx is not installed"
}

func withoutRedis() string {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return "redis-server is not installed"
	}
	return ""
}
