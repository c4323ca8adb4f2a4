//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// surroundings says where and how much is measured.
func (b *bench) surroundings() string {
	s := b.scale
	var name unix.Utsname
	kernel := "unknown"
	if unix.Uname(&name) == nil {
		kernel = unix.ByteSliceToString(name.Release[:])
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s, Linux %s, %d CPUs%s%s.\n", runtime.Version(), kernel, runtime.NumCPU(), redisVersion(), revision())
	fmt.Fprintf(&out, "%d connections, messages of %d bytes; paced: %d a second; saturated: %d on their way at most, wide: %d; %g s a figure.\n",
		s.conns, s.size, s.rate, s.ahead, s.wide, s.seconds)
	fmt.Fprintf(&out, "Connecting and memory: %d connections. Replay: %d clients, %d messages each. Runs: %d; the median, and in brackets the least and the greatest.\n",
		s.idle, s.readers, s.retained, s.runs)
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		fmt.Fprintf(&out, "Load of the machine before: %s.\n", strings.Fields(string(load))[0])
	}
	out.WriteString("\n")
	return out.String()
}

// revision returns the revision that was built, when that is known.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return ", revision " + s.Value[:min(12, len(s.Value))]
		}
	}
	return ""
}

func redisVersion() string {
	out, err := exec.Command("redis-server", "--version").Output()
	if err != nil {
		return ""
	}
	for word := range strings.FieldsSeq(string(out)) {
		if v, ok := strings.CutPrefix(word, "v="); ok {
			return ", Redis " + v
		}
	}
	return ""
}
