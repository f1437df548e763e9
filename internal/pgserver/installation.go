package pgserver

import (
	"context"
	"os/exec"
	"syscall"
)

// Installation is a Postgres on this machine and the user that it runs as: what a test
// needs that runs a server in ways of its own.
type Installation struct {
	bin   binaries
	owner owner
}

// Locate finds the binaries that Start would take for a new folder. The error is a
// *NotFoundError when there are none.
func Locate(ctx context.Context, opts Options) (*Installation, error) {
	opts.scratch = true // whatever data may be somewhere, it is not meant
	bin, own, err := choose(ctx, opts, "")
	if err != nil {
		return nil, err
	}
	return &Installation{bin: bin, owner: own}, nil
}

// Command is a program of the installation, such as "initdb", ready to be started as
// the server's user and with the server's environment.
func (i *Installation) Command(program string, args ...string) *exec.Cmd {
	s := Server{bin: i.bin}
	cmd := exec.Command(s.program(program), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: i.owner.credential()}
	cmd.Env = serverEnv()
	cmd.Dir = "/" // our own folder may be closed to the server's user
	return cmd
}

// Give hands a file or folder to the server's user.
func (i *Installation) Give(path string) error { return i.owner.give(path) }
