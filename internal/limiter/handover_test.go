package limiter

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// The guard of the next node goes on where the one before has ended: each slot is free at
// the moment it would have been, and those that were free are free.
func TestTheNextGuardGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, start := NewGuard(3), time.Now()
		slot := mustAcquire(t, first)
		pass(100 * time.Millisecond)
		slot.Answered(start, time.Now())
		pass(400 * time.Millisecond)
		slot, sent := mustAcquire(t, first), time.Now()
		slot.Answered(sent, sent)
		taken := first.Taken()
		pass(50 * time.Millisecond) // the account has no holder
		next := NewGuard(3)
		next.Inherit(taken, time.Now())
		for i, want := range []time.Duration{550 * time.Millisecond, 150*time.Millisecond + second, 550*time.Millisecond + second} {
			mustAcquire(t, next)
			wantSince(t, []string{"the free slot", "the first that was taken", "the second"}[i], start, want)
		}
	})
}

// A hold is handed on, and a lower limit keeps the slots that come free last.
func TestTheNextGuardHoldsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, start := NewGuard(3), time.Now()
		first.Hold(time.Second)
		pass(300 * time.Millisecond)
		next := NewGuard(1)
		next.Inherit(append(first.Taken(), 200*time.Millisecond), time.Now())
		mustAcquire(t, next)
		wantSince(t, "the only slot", start, time.Second)
	})
}

// The law holds over a change of hands, however the account was dialled before, and
// whatever the ways to the platform of the two nodes are like.
func TestLawHoldsOverAHandOver(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 40).Draw(rt, "limit")
		var ways [2]network
		for i := range ways {
			ways[i] = network{
				there: millis(0, 100).Draw(rt, "there"), back: millis(0, 100).Draw(rt, "back"), jitter: millis(0, 300).Draw(rt, "jitter"),
				lostOneIn: rapid.IntRange(0, 20).Draw(rt, "lost one in"), unsentOneIn: rapid.IntRange(2, 20).Draw(rt, "unsent one in"),
				timeout: millis(500, 3000).Draw(rt, "timeout"),
			}
		}
		seed, first := rapid.Uint64().Draw(rt, "seed"), millis(0, 2500).Draw(rt, "first")
		gap := millis(0, 300).Draw(rt, "gap")
		worst := 0
		synctest.Test(t, func(t *testing.T) {
			guard := NewGuard(limit)
			ctx, cancel := context.WithTimeout(t.Context(), first)
			p := ways[0].run(t, ctx, 2*limit, seed, guard.Acquire)
			cancel()
			taken := guard.Taken()
			pass(gap)
			next := NewGuard(limit)
			next.Inherit(taken, time.Now())
			ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
			q := ways[1].run(t, ctx, 2*limit, seed+1, next.Acquire)
			cancel()
			p.arrivals = append(p.arrivals, q.arrivals...)
			worst = p.worst()
		})
		if worst > limit {
			rt.Fatalf("worst second at the platform holds %d requests, limit %d", worst, limit)
		}
	})
}
