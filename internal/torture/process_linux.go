package torture

import (
	"fmt"
	"syscall"
	"unsafe"
)

// dieWithParent has the kernel kill the child when the thread that forked it ends.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// mount makes a folder a file system in memory of the given size, such as "200m".
func mount(folder, size string) error {
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size="+size+",mode=0711"); err != nil {
		return fmt.Errorf("mount %s of memory on %s: %w", size, folder, err)
	}
	return nil
}

func unmount(folder string) error {
	if err := syscall.Unmount(folder, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", folder, err)
	}
	return nil
}

// enterNewNetwork moves the calling thread into a network of its own, whose loopback works.
func enterNewNetwork() error {
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network of its own: %w", err)
	}
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("switch loopback on: %w", err)
	}
	defer syscall.Close(s)
	request := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{name: [syscall.IFNAMSIZ]byte{'l', 'o'}, flags: syscall.IFF_UP}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(s), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("switch loopback on: %w", errno)
	}
	return nil
}
