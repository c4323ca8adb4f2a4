package tabs

import (
	"os/exec"
	"strconv"
	"testing"

	"github.com/headrace/headrace/internal/testenv"
)

// TestModel runs the module in a browser that is made up, where everything happens that can happen
// to tabs, connections and the server, in any order. A seed that fails is run again by
//
//	STORY=1 node model.mjs ../../js/headrace.js SEED 1
func TestModel(t *testing.T) {
	stories := testenv.Sized(20, 2000)
	cmd := exec.CommandContext(t.Context(), testenv.Need(t, "node"), "model.mjs", "../../js/headrace.js", "1", strconv.Itoa(stories))
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	t.Logf("%s", output)
}
