//go:build !linux

package pgserver

import "syscall"

// dieWithParent does nothing: this system has no such wish to make of its
// kernel. A server that was left behind is stopped by the next start.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
