package clients

import (
	"os/exec"
	"testing"

	"github.com/headrace/headrace/internal/testenv"
)

const module = "../../js/headrace.js"

// npmTool runs the program of an npm package, and returns what it prints.
func npmTool(t *testing.T, name, program string, arguments ...string) []byte {
	t.Helper()
	needPackages(t, []string{name})
	arguments = append([]string{"node_modules/" + name + "/" + program}, arguments...)
	output, err := exec.CommandContext(t.Context(), testenv.Need(t, "node"), arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, output)
	}
	return output
}

// TestModuleIsSmall: js/headrace.js has at most 6 KB without comments, spaces and long names.
func TestModuleIsSmall(t *testing.T) {
	const most = 6 << 10
	if n := len(npmTool(t, "terser", "bin/terser", "--module", "--compress", "--mangle", "--", module)); n > most {
		t.Errorf("the module has %d bytes, %d are allowed", n, most)
	}
}

// TestModuleTypes: a program that uses the module in each way compiles, and each misuse in it is
// found.
func TestModuleTypes(t *testing.T) {
	npmTool(t, "typescript", "bin/tsc", "--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom", "--module", "esnext",
		"--moduleResolution", "bundler", "pages/types.ts")
}
