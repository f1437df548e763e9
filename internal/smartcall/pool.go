package smartcall

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// pool keeps the connections that no request uses.
type pool struct {
	turn chan struct{} // holds a token per connection that may be in use
	dial func(ctx context.Context) (*link, error)

	mu     sync.Mutex
	idle   []*link // the one used last at the end
	sweep  *time.Timer
	closed bool
}

func newPool(conns int, dial func(ctx context.Context) (*link, error)) *pool {
	return &pool{turn: make(chan struct{}, conns), dial: dial}
}

var errUnasked = errors.New("the connection was over, or an answer came before the request")

// enter waits until one connection more may be in use. leave ends that.
func (p *pool) enter(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a connection: %w", context.Cause(ctx))
	}
}

func (p *pool) leave() { <-p.turn }

// take returns an idle connection that is alive, or a new one.
func (p *pool) take(ctx context.Context) (l *link, reused bool, err error) {
	for l := p.pop(); l != nil; l = p.pop() {
		if time.Since(l.idle) < idleTimeout && l.alive() {
			return l, true, nil
		}
		l.close()
	}
	l, err = p.dial(ctx)
	if err == nil && l.stream == l.socket && !l.alive() {
		// Whoever speaks before he is asked may do so at any time. (What a connection with TLS
		// has to read at first belongs to its set-up.)
		l.close()
		return nil, false, errUnasked
	}
	return l, false, err
}

func (p *pool) pop() *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	l := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return l
}

// put gives a connection back. One that is not reusable is closed.
func (p *pool) put(l *link, reusable bool) {
	l.idle = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !reusable {
		l.close()
		return
	}
	p.idle = append(p.idle, l)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(idleTimeout, p.closeOld)
	}
}

// closeOld closes the connections that nobody has used for a while.
func (p *pool) closeOld() {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := 0
	for old < len(p.idle) && time.Since(p.idle[old].idle) >= idleTimeout {
		p.idle[old].close()
		old++
	}
	p.idle = append(p.idle[:0], p.idle[old:]...)
	p.sweep = nil
	if len(p.idle) > 0 {
		p.sweep = time.AfterFunc(idleTimeout-time.Since(p.idle[0].idle), p.closeOld)
	}
}

// close closes the idle connections, and lets those in use be closed when they are
// given back.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.sweep != nil {
		p.sweep.Stop()
	}
	for _, l := range p.idle {
		l.close()
	}
	p.idle = nil
}
