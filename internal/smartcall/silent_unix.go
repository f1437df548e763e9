//go:build unix

package smartcall

import "syscall"

// silent tells whether a socket is open and has nothing to read, without waiting.
func silent(raw syscall.RawConn) bool {
	var err error
	var one [1]byte
	if failed := raw.Read(func(fd uintptr) bool {
		_, _, err = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	}); failed != nil {
		return false
	}
	return err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR
}
