//go:build !unix

package feed

// descriptorLimit returns 0: the system states no limit.
func descriptorLimit() int64 { return 0 }
