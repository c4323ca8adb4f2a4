//go:build unix && !linux

package main

import "syscall"

// outlived does nothing: a demo that is killed leaves its programs to the user.
func outlived(*syscall.SysProcAttr) {}
