//go:build !unix

package integration

import "time"

// ownCPU returns how much processor time this process has used: not known here.
func ownCPU() time.Duration { return 0 }
