//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/headrace/headrace/integration/bench/internal/payload"
)

// arity is how many numbers follow each command.
var arity = map[string]int{"open": 1, "connect": 2, "join": 1, "reset": 3, "expect": 2}

// obey begins to execute a command.
func (l *loop) obey(words []string) error {
	count, known := arity[words[0]]
	if !known || len(words) != 1+count {
		return fmt.Errorf("load: %q is no command with %d numbers", words[0], len(words)-1)
	}
	numbers := make([]int, count)
	for i, word := range words[1:] {
		n, err := strconv.Atoi(word)
		if err != nil || n < 0 {
			return fmt.Errorf("load: %q is no number", word)
		}
		numbers[i] = n
	}
	switch words[0] {
	case "open":
		started := payload.Now()
		if err := l.open(numbers[0]); err != nil {
			return err
		}
		l.answer("opened %d %d", numbers[0], started)
	case "connect":
		started := payload.Now()
		if err := l.open(numbers[0]); err != nil {
			return err
		}
		l.wait(numbers[1], func() bool { return l.answered >= l.opened || len(l.conns) == 0 },
			func() { l.answer("connected %d %d %d", l.answered, started, l.first) })
	case "join":
		l.wait(numbers[0], func() bool { return l.joined >= l.opened || len(l.conns) == 0 },
			func() { l.answer("joined %d", l.joined) })
	case "reset":
		l.reset(numbers[0], numbers[1] != 0, numbers[2])
		l.answer("ok")
	case "expect":
		l.expected, l.finished = numbers[0], 0
		for _, c := range l.conns {
			if c.count >= l.expected {
				l.finished++
			}
		}
		// Of a connection that has ended nothing more can be expected.
		l.wait(numbers[1], func() bool { return l.finished >= len(l.conns) }, l.report)
	}
	return nil
}

// wait has reply called when done reports true, or some seconds are over.
func (l *loop) wait(seconds int, done func() bool, reply func()) {
	l.until, l.done, l.reply = time.Now().Add(time.Duration(seconds)*time.Second), done, reply
}

func (l *loop) reset(step int, latency bool, receivers int) {
	l.step, l.latency, l.receivers = step, latency, receivers
	l.samples, l.reached, l.told = l.samples[:0], l.reached[:0], 0
	l.total, l.last, l.expected, l.finished = 0, 0, 0, 0
	for _, c := range l.conns {
		c.count, c.passed, c.stamping, c.torn = 0, 0, false, c.torn[:0]
	}
}

// report answers expect.
func (l *loop) report() {
	least, most := 0, 0
	if len(l.conns) > 0 {
		least = math.MaxInt
	}
	for _, c := range l.conns {
		least, most = min(least, c.count), max(most, c.count)
	}
	slices.Sort(l.samples)
	l.answer("done %d %d %d %d %d %d %d %d", l.last, l.total, least, most, l.lost,
		len(l.samples), percentile(l.samples, 50), percentile(l.samples, 99))
	l.expected = 0
}

// percentile returns a percentile of sorted values, 0 when there are none.
func percentile(sorted []int64, percent int) int64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*percent/100]
}
