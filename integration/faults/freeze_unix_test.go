//go:build unix

package faults

import "syscall"

const canFreeze = true

// freeze stops a server's process: its connections stay open, and nothing answers.
func (n *node) freeze() { n.Signal(syscall.SIGSTOP) }

func (n *node) thaw() { n.Signal(syscall.SIGCONT) }
