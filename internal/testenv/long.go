package testenv

import (
	"os"
	"testing"
)

// longVariable is what make test-long sets.
const longVariable = "HEADRACE_LONG"

// Long skips a test unless the environment variable HEADRACE_LONG is set. It marks what takes long
// and seldom breaks: make test leaves it out, make test-long runs what it marks and nothing else, by
// the names of the tests. So it is called in the body of a TestXxx, not in a helper.
func Long(t testing.TB) {
	t.Helper()
	if os.Getenv(longVariable) == "" {
		t.Skipf("testenv: this takes long: run make test-long, or this test by make short RUN=%s", t.Name())
	}
}
