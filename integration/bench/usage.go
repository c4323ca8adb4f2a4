//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the CPU time that processes have used, to the nanosecond and with that of threads
// that have ended. Children that have ended do not count.
func cpuTime(processes []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range processes {
		var t unix.Timespec
		// How the kernel numbers the clock of a process: its id inverted, and 2 for the time by the
		// scheduler.
		if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
			return 0, fmt.Errorf("bench: the CPU time of process %d: %w", pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum, nil
}

// memory returns the bytes of memory that processes occupy, what they share counted once.
func memory(processes []int) (int64, error) {
	var sum int64
	for _, pid := range processes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, fmt.Errorf("bench: the memory of a process: %w", err)
		}
		lines := bufio.NewScanner(bytes.NewReader(text))
		found := false
		for lines.Scan() {
			var kilobytes int64
			if n, _ := fmt.Sscanf(lines.Text(), "Pss: %d kB", &kilobytes); n == 1 {
				sum, found = sum+kilobytes<<10, true
			}
		}
		if !found {
			return 0, fmt.Errorf("bench: process %d has no memory", pid)
		}
	}
	return sum, nil
}
