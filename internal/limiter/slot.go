package limiter

import "time"

// Slot is the right to write one request. The one who has it says by exactly
// one of its methods what became of the request. Only the first counts, the
// later ones do nothing: a sender may defer Unanswered right after Acquire and
// be sure that no slot is lost and none is free too soon, even if it panics.
// Copies are the same slot. Methods may be called concurrently. The zero Slot
// stands for no request, and its methods do nothing.
type Slot struct{ use *use }

// use is one use of a slot, by one request. The guard's lock covers it.
type use struct {
	guard   *Guard
	moment  time.Duration // of the slot before this use
	granted time.Duration
	settled bool
}

// Answered says that the request was written and a complete answer came,
// whatever it says: a throttled request was counted by the platform too. sent
// is a moment at or before the first byte of the request, answered one at or
// after the end of the answer, both straight from time.Now. The nearer they
// are to the wire, the nearer the account comes to its limit; sent must not
// include the making of a connection, since the shortest time from sent to
// answered is taken as a property of the network.
func (s Slot) Answered(sent, answered time.Time) {
	s.settle(func(g *Guard, now time.Duration) time.Duration {
		// No slip of the caller can free a slot within a second of its
		// being granted, or make a round trip look longer than that.
		first := max(sent.Sub(g.start), s.use.granted)
		last := min(max(answered.Sub(g.start), s.use.granted), now)
		g.trip.saw(last-first, now)
		return last + second
	})
}

// Unsent says that not one byte of the request was written. The slot is as
// free as it was before.
func (s Slot) Unsent() {
	s.settle(func(*Guard, time.Duration) time.Duration { return s.use.moment })
}

// Unanswered says that the request, or a part of it, was written and that no
// complete answer came until deadline, or ever will: its connection is closed.
// The slot is free one second after deadline, or after now if that is later.
func (s Slot) Unanswered(deadline time.Time) {
	s.settle(func(g *Guard, now time.Duration) time.Duration {
		// Nothing is known of its way back, so no credit may be taken off
		// later: what can be at most is put on top. The sum is never less
		// than a second, as the most only falls.
		return max(deadline.Sub(g.start), now) + second + g.trip.most()
	})
}

// settle gives the slot back with the moment that moment returns, once.
func (s Slot) settle(moment func(g *Guard, now time.Duration) time.Duration) {
	if s.use == nil {
		return
	}
	g := s.use.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.use.settled {
		return
	}
	s.use.settled = true
	g.unheld.add(moment(g, g.now()))
	g.serve()
}
