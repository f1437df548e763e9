package pgserver

import "syscall"

// dieWithParent has the kernel send the signal to the child when the thread
// that forked it ends.
func dieWithParent(attr *syscall.SysProcAttr, signal syscall.Signal) { attr.Pdeathsig = signal }
