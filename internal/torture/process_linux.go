package torture

import (
	"fmt"
	"syscall"
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
