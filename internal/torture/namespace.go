package torture

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// Namespace is a network of its own, in which there is nothing but loopback. What runs in
// it reaches what a Proxy in it reaches, as a machine behind cables that a test may cut.
// It has no name and leaves nothing behind: it is gone with the test's process. A nil
// Namespace is the machine's own network.
type Namespace struct {
	work chan func() // for the thread that lives in it
	over chan struct{}
}

// errOver: a test uses a network that has ended.
var errOver = errors.New("the network has ended")

// NewNamespace makes a network that ends with the test. It takes Linux and root; the error
// says what is missing.
func NewNamespace(t testing.TB) (*Namespace, error) {
	t.Helper()
	n := &Namespace{work: make(chan func()), over: make(chan struct{})}
	made := make(chan error, 1)
	var thread sync.WaitGroup
	thread.Go(func() {
		// Never unlocked: the thread, and with it the network, ends with the goroutine.
		runtime.LockOSThread()
		err := enterNewNetwork()
		made <- err
		for err == nil {
			select {
			case f := <-n.work:
				f()
			case <-n.over:
				return
			}
		}
	})
	if err := <-made; err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		close(n.over)
		thread.Wait()
	})
	return n, nil
}

// do calls f in the network: sockets that it opens and processes that it starts belong there.
func (n *Namespace) do(f func() error) error {
	if n == nil {
		return f()
	}
	done := make(chan error, 1)
	select {
	case n.work <- func() { done <- f() }:
		return <-done
	case <-n.over:
		return errOver
	}
}

func (n *Namespace) listen(address string) (ln net.Listener, err error) {
	err = n.do(func() (err error) {
		ln, err = net.Listen("tcp", address)
		return err
	})
	return ln, err
}

func (n *Namespace) dial(ctx context.Context, address string) (c net.Conn, err error) {
	err = n.do(func() (err error) {
		c, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		return err
	})
	return c, err
}
