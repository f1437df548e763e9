//go:build !linux

package torture

import (
	"errors"
	"syscall"
)

func dieWithParent(*syscall.SysProcAttr) {}

var errNoMount = errors.New("a file system of limited size is made on Linux only")

func mount(folder, size string) error { return errNoMount }

func enterNewNetwork() error { return errors.New("a network of its own is made on Linux only") }

func unmount(folder string) error { return errNoMount }
