package main

import "syscall"

// outlived makes the system ask a program to end when the demo was killed and cannot. SIGKILL would
// leave nginx's workers.
func outlived(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }
