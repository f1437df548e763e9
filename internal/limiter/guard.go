package limiter

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// second is how far apart the guard keeps two requests of one slot. It is
// longer than a second by 200 millionths because the platform counts with its
// own clock, and two quartz clocks differ by up to about 100 millionths each.
// It also makes the distance more than one second, never exactly one, so that
// it does not matter whether the platform's window includes both its ends.
const second = time.Second + 200*time.Microsecond

// Guard never lets more than its limit of requests arrive at the platform in
// any sliding second, whatever the network and the machine do. The package
// comment has the reasoning and the proof. All methods may be called
// concurrently. A Guard starts no goroutine and needs no closing. Make one
// with NewGuard.
type Guard struct {
	start time.Time // every moment below is counted from here, by the monotonic clock

	mu      sync.Mutex
	limit   int           // slots there should be
	total   int           // slots there are, held or not: more than limit while a lowering takes effect
	unheld  slots         // those that no request holds
	holdEnd time.Duration // no slot is granted before this moment
	trip    roundTrip     // what may be taken off a slot's moment
	waiting list.List     // of *waiter, in the order they came
	timer   *time.Timer   // runs serve when the next slot is free and somebody waits
	armed   time.Duration // when the timer runs; 0 = it does not
}

// waiter is one Acquire in the queue. granted holds its slot once it has one.
type waiter struct {
	granted chan Slot
}

// NewGuard returns a guard for an account that allows limit requests per
// second. All slots are free: whoever takes an account over from another node
// calls Hold before the first Acquire. A limit of 0 or less grants nothing.
func NewGuard(limit int) *Guard {
	g := &Guard{start: time.Now(), trip: newRoundTrip()}
	g.SetLimit(limit)
	return g
}

// Acquire waits until a request may be written and returns its slot. Call it
// last, right before the first byte: a slot that is held while something else
// is done is pace lost. Those who wait are served in the order they came. If
// ctx ends first, the error wraps its error and nothing is lost. Each slot
// must be settled by one of its methods, or the limit is one lower for ever.
func (g *Guard) Acquire(ctx context.Context) (Slot, error) {
	if err := ctx.Err(); err != nil {
		return Slot{}, fmt.Errorf("wait for a slot: %w", err)
	}
	if slot, ok := g.TryAcquire(); ok {
		return slot, nil
	}
	g.mu.Lock()
	w := &waiter{granted: make(chan Slot, 1)}
	place := g.waiting.PushBack(w)
	g.serve()
	g.mu.Unlock()

	select {
	case slot := <-w.granted:
		return slot, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	g.waiting.Remove(place) // does nothing if the slot was granted a moment ago
	g.mu.Unlock()
	select {
	case slot := <-w.granted:
		slot.Unsent()
	default:
	}
	return Slot{}, fmt.Errorf("wait for a slot: %w", ctx.Err())
}

// TryAcquire returns a slot if one is free and nobody waits for it.
func (g *Guard) TryAcquire() (Slot, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting.Len() > 0 {
		return Slot{}, false
	}
	return g.take(g.now())
}

// SetLimit changes how many requests per second are allowed; 0 or less means
// none. More slots are there at once. Fewer take effect as slots come free:
// none is granted until no more than n are in use or within their second.
func (g *Guard) SetLimit(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = max(n, 0)
	for g.total < g.limit {
		g.unheld.add(never)
		g.total++
	}
	g.serve()
}

// Hold grants no slot for d from now, as if every slot had just been used. A
// node that takes over an account holds for one second plus the longest time
// by which a request of the node before it can still be on its way. Of
// several holds the one that ends last counts.
func (g *Guard) Hold(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holdEnd = max(g.holdEnd, g.now()+d)
}

// now is the moment it is.
func (g *Guard) now() time.Duration { return time.Since(g.start) }

// next is the moment at which the soonest slot may be granted. There must be
// one. mu is held. The credit is taken off here and not when the slot was
// settled, so that what the guard has learnt since counts for this slot too.
func (g *Guard) next() time.Duration {
	return max(g.unheld[0]-g.trip.credit, g.holdEnd)
}

// take grants a slot if one is free. mu is held.
func (g *Guard) take(now time.Duration) (Slot, bool) {
	for len(g.unheld) > 0 && g.next() <= now {
		moment := g.unheld.soonest()
		if g.total > g.limit {
			g.total-- // the limit was lowered: a slot ends here, when its second is over, not before
			continue
		}
		return Slot{&use{guard: g, moment: moment, granted: now}}, true
	}
	return Slot{}, false
}

// serve grants free slots to those who wait, each slot to one and to nobody
// else, and sees to it that it runs again when the next slot is free. It is
// called whenever anything has changed. mu is held.
func (g *Guard) serve() {
	for g.waiting.Len() > 0 {
		now := g.now()
		slot, ok := g.take(now)
		if ok {
			g.waiting.Remove(g.waiting.Front()).(*waiter).granted <- slot
			continue
		}
		if len(g.unheld) > 0 {
			g.wakeAt(g.next(), now)
		}
		return // without a slot to wait for, the settling of one calls again
	}
}

// wakeAt lets the timer run serve at a moment. If it runs sooner already it is
// left alone: it will find that it is too early and set itself again. One
// timer serves all slots, so that slots which come free while the machine is
// late are granted together. mu is held.
func (g *Guard) wakeAt(moment, now time.Duration) {
	if g.armed != 0 && g.armed <= moment {
		return
	}
	g.armed = moment
	if g.timer == nil {
		g.timer = time.AfterFunc(moment-now, g.wake)
		return
	}
	g.timer.Reset(moment - now)
}

// wake is what the timer runs.
func (g *Guard) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed = 0
	g.serve()
}
