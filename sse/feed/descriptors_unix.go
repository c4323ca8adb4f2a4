//go:build unix

package feed

import "syscall"

// descriptorLimit returns how many file descriptors the process may have, 0 if that is unknown or
// has no limit. Go has raised the soft limit to the hard one when the program started.
func descriptorLimit() int64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	// The types and the value for no limit differ between systems; the latter is enormous, or
	// negative here.
	return max(int64(limit.Cur), 0)
}
