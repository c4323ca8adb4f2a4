package peer

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// profiler writes profiles into a folder. Without a folder it does nothing.
type profiler struct {
	folder string
	file   *os.File // the CPU profile that is being written
}

func (p *profiler) create(name string) (*os.File, error) {
	return os.Create(filepath.Join(p.folder, filepath.Base(name)+".pprof"))
}

// start begins a CPU profile. The next one of that name replaces it.
func (p *profiler) start(name string) error {
	p.stop()
	if p.folder == "" {
		return nil
	}
	f, err := p.create(name)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		_ = f.Close()
		return err
	}
	p.file = f
	return nil
}

// stop ends the CPU profile, if there is one.
func (p *profiler) stop() {
	if p.file == nil {
		return
	}
	pprof.StopCPUProfile()
	_ = p.file.Close() // a profile that is not whole says so when it is read
	p.file = nil
}

// heap writes what is in use after a collection.
func (p *profiler) heap(name string) error {
	if p.folder == "" {
		return nil
	}
	f, err := p.create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	runtime.GC()
	return pprof.Lookup("heap").WriteTo(f, 0)
}
