package limiter

import "time"

const (
	// A credit is given once so many answers and so much time since the
	// first of them have gone by: the first requests are slow, because
	// connections are new and caches cold, and would promise too much.
	settleAnswers = 1000
	settleTime    = time.Second

	// creditPart of the least round trip is taken to be certain. The rest is
	// for round trips quicker than all those seen, and for a network on which
	// the quickest way there and the quickest way back are never met together.
	creditPart = 0.8
	// creditMargin covers what lies between our clock readings and the wire.
	// On a near network that is as long as the round trip itself, so there no
	// credit is given at all, and hardly any is needed.
	creditMargin = time.Millisecond
	// farthest is the longest round trip that is believed: with it the credit
	// is just under a second.
	farthest = 1250 * time.Millisecond
)

// roundTrip learns how much before a full second after an answer the next
// request may be written: its credit. The package comment says why there is
// one and when it is safe.
type roundTrip struct {
	least   time.Duration // the least round trip ever seen
	answers int           // seen since since
	since   time.Duration // the first of those answers
	credit  time.Duration // in force; 0 while the network is not yet known
}

func newRoundTrip() roundTrip { return roundTrip{least: farthest} }

// most is the credit that the least round trip allows, in force or not. It
// never rises.
func (r *roundTrip) most() time.Duration {
	return max(time.Duration(creditPart*float64(r.least))-creditMargin, 0)
}

// saw takes note of one round trip that ended with an answer.
func (r *roundTrip) saw(trip, now time.Duration) {
	r.least = min(r.least, trip)
	if trip < r.credit {
		// A round trip shorter than what was called certain: the network is
		// not what it was. All that was learnt is void.
		r.answers, r.credit = 0, 0
	}
	if r.answers == 0 {
		r.since = now
	}
	r.answers++
	if r.answers >= settleAnswers && now-r.since >= settleTime {
		r.credit = r.most()
	}
}
