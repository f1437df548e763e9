package limiter

import (
	"slices"
	"time"
)

// Taken returns for how long from now each slot that is not free yet is still taken, in no
// order. With it the guard of the node that has the account next can go on where this one
// ended: see Inherit. No slot may be held, and none may be acquired later.
func (g *Guard) Taken() []time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	var taken []time.Duration
	now := g.now()
	for _, moment := range g.unheld {
		// Another node has another way to the platform, so no credit is taken off.
		if left := max(moment, g.holdEnd) - now; left > 0 {
			taken = append(taken, left)
		}
	}
	return taken
}

// Inherit makes as many slots taken as another node's guard had, for the times that its
// Taken returned before since. It is for a new guard: slots it has used are forgotten.
func (g *Guard) Inherit(taken []time.Duration, since time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	begin := since.Sub(g.start)
	taken = slices.Sorted(slices.Values(taken))
	taken = taken[max(len(taken)-g.total, 0):] // if the limit is lower now, the last of them say when
	g.unheld = g.unheld[:0]
	for range g.total - len(taken) {
		g.unheld.add(never)
	}
	for _, left := range taken {
		moment := begin + left
		if left > second {
			// This guard may give credit before that, which is of its own way alone. What it
			// can be at most is put on top, as for a request without an answer. Until then
			// there is none: the first answer is settleTime old, and was a round trip of more
			// than creditMargin on its way.
			moment += g.trip.most()
		}
		g.unheld.add(moment)
	}
}
