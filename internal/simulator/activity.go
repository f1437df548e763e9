package simulator

import "sync"

// activity counts what is not finished: requests being answered, calls, reports on
// their way. Its zero value is quiet.
type activity struct {
	mu    sync.Mutex
	n     int
	quiet chan struct{} // closed when n falls to 0; nil while nobody waits
}

func (a *activity) begin(n int) {
	a.mu.Lock()
	a.n += n
	a.mu.Unlock()
}

func (a *activity) end(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n -= n
	if a.n == 0 && a.quiet != nil {
		close(a.quiet)
		a.quiet = nil
	}
}

// waiter is nil when all is quiet now, else closed at the next moment of quiet.
func (a *activity) waiter() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n == 0 {
		return nil
	}
	if a.quiet == nil {
		a.quiet = make(chan struct{})
	}
	return a.quiet
}
