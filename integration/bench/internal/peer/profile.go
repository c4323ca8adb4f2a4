package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
)

// profile writes a CPU profile into a folder, named after what is published, until stop is called. The next one of that name replaces it. folder may be "".
func profile(folder string, seconds, rate float64) (stop func(), err error) {
	if folder == "" {
		return func() {}, nil
	}
	f, err := os.Create(filepath.Join(folder, fmt.Sprintf("publish-%gs-rate-%g.pprof", seconds, rate))) //nolint:gosec // whoever runs this chooses it
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close() // a profile that is not whole says so when it is read
	}, nil
}
