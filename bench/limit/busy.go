package limit

import (
	"context"
	"runtime"
	"syscall"
	"time"

	"dialer/bench/internal/lab"
)

// BusyProgram is the first argument that makes this binary a burden.
const BusyProgram = "busy"

// Busy keeps every core busy until ctx is done. It ends with its parent.
func Busy(ctx context.Context, _ []string) error {
	for range runtime.NumCPU() {
		go func() {
			for ctx.Err() == nil {
			}
		}()
	}
	<-ctx.Done()
	return nil
}

// takeCores takes every core by busy loops of another process, until stop is called.
func takeCores() (stop func(), err error) {
	p, err := lab.Start(lab.Self(BusyProgram))
	if err != nil {
		return nil, err
	}
	return func() { _ = p.End(syscall.SIGKILL, 5*time.Second) }, nil // a kill cannot be refused
}
