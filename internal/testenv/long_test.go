package testenv

import (
	"strings"
	"testing"
)

func (f *fakeTB) Name() string { return "TestSlow" }

func TestLong(t *testing.T) {
	for _, test := range []struct {
		variable, outcome string
		size              int
	}{{"", "skip", 1}, {"1", "", 10}} {
		t.Setenv(longVariable, test.variable)
		tb := &fakeTB{}
		done := make(chan struct{})
		go func() {
			defer close(done)
			Long(tb)
		}()
		<-done
		if told := strings.Contains(tb.message, "RUN=TestSlow"); tb.outcome != test.outcome || told != (test.outcome == "skip") {
			t.Errorf("%s=%q: outcome %q (%s), want %q", longVariable, test.variable, tb.outcome, tb.message, test.outcome)
		}
		if got := Sized(1, 10); got != test.size {
			t.Errorf("%s=%q: size %d, want %d", longVariable, test.variable, got, test.size)
		}
	}
}
