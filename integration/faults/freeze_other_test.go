//go:build !unix

package faults

// canFreeze: this system has no SIGSTOP.
const canFreeze = false

func (*node) freeze() {}

func (*node) thaw() {}
