package dialer

import (
	"sync"
	"sync/atomic"
)

// crew is the senders of an account. They are hired when they are needed, because a slow
// platform needs as many as the limit has requests and a quick one a handful, and the one
// that became free last is the first to get work: its stack and connection are warm, and
// those that are not needed are not touched.
type crew struct {
	sync.WaitGroup
	free chan struct{} // holds a token per sender that has nothing to do; only the dispenser takes
	most atomic.Int32  // how many there may be

	// Of the dispenser alone.
	all []chan *job

	mu   sync.Mutex
	idle []chan *job // of the senders that have nothing to do, the last one free at the end
}

func newCrew(most int) crew { return crew{free: make(chan struct{}, most)} }

// allow sets how many senders there may be. Those that there are stay.
func (c *crew) allow(most int) { c.most.Store(int32(min(most, cap(c.free)))) }

// hire starts a sender, unless there are as many as there may be.
func (c *crew) hire(send func(jobs chan *job)) bool {
	if len(c.all) >= int(c.most.Load()) {
		return false
	}
	jobs := make(chan *job, 1)
	c.all = append(c.all, jobs)
	c.rest(jobs) // the dispenser may count on it at once
	c.Go(func() { send(jobs) })
	return true
}

// rest says that a sender has nothing to do.
func (c *crew) rest(jobs chan *job) {
	c.mu.Lock()
	c.idle = append(c.idle, jobs)
	c.mu.Unlock()
	c.free <- struct{}{}
}

// give hands a job to a sender that is free. The dispenser has taken a token for it.
func (c *crew) give(j *job) {
	c.mu.Lock()
	last := len(c.idle) - 1
	jobs := c.idle[last]
	c.idle = c.idle[:last]
	c.mu.Unlock()
	jobs <- j
}

// dismiss lets every sender end when it has nothing to do.
func (c *crew) dismiss() {
	for _, jobs := range c.all {
		close(jobs)
	}
}
