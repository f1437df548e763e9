package simulator

import "sync"

// crew does jobs in at most limit goroutines, the rest wait in order. It is used for
// what may take the other side's time: pushes and callbacks.
type crew struct {
	limit int

	mu      sync.Mutex
	running int
	queue   []func()
	closed  bool
	members sync.WaitGroup
}

func (c *crew) do(job func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
	case c.running == c.limit:
		c.queue = append(c.queue, job)
	default:
		c.running++
		c.members.Go(func() { c.work(job) })
	}
}

func (c *crew) work(job func()) {
	for job != nil {
		job()
		job = c.next()
	}
}

func (c *crew) next() func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.queue) == 0 {
		c.running--
		return nil
	}
	job := c.queue[0]
	c.queue[0] = nil
	c.queue = c.queue[1:]
	return job
}

// close waits for the jobs in hand and forgets the others.
func (c *crew) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.members.Wait()
}
