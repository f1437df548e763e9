package limiter

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// platform is the other side of a simulated network, in fake time. It counts
// requests by the moment they arrive, the only moment that it knows.
type platform struct {
	mu       sync.Mutex
	arrivals []arrival
}

type arrival struct{ sent, at time.Time }

func (p *platform) arrive(sent time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrivals = append(p.arrivals, arrival{sent, time.Now()})
}

// worst is the most requests that arrived within any one second, both its ends
// included, which is stricter than the platform can be.
func (p *platform) worst() int {
	worst := 0
	p.windows(func(_ arrival, n int) { worst = max(worst, n) })
	return worst
}

// windows calls f with each arrival and the number in the second that it ends.
func (p *platform) windows(f func(last arrival, n int)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.SortStableFunc(p.arrivals, func(a, b arrival) int { return a.at.Compare(b.at) })
	first := 0
	for i, last := range p.arrivals {
		for last.at.Sub(p.arrivals[first].at) > time.Second {
			first++
		}
		f(last, i-first+1)
	}
}

// between counts the arrivals from one moment to another.
func (p *platform) between(from, to time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, a := range p.arrivals {
		if !a.at.Before(from) && a.at.Before(to) {
			n++
		}
	}
	return n
}

// network is what may happen to a request. A number one in n of 0 means never.
type network struct {
	there, work, back time.Duration // the least time each part takes
	jitter            time.Duration // at most so much more, for each part anew
	straightOneIn     int           // has no jitter at all
	lostOneIn         int           // arrives, and is never answered
	unsentOneIn       int           // is not written
	dawdle            time.Duration // at most so long from the slot to the first byte, and from the answer to its settling
	timeout           time.Duration // for an answer
	frozen            [][2]time.Duration
}

// senders is how many requests may be open at once.
func (n network) run(t *testing.T, ctx context.Context, senders int, seed uint64, acquire func(context.Context) (Slot, error)) *platform {
	t.Helper()
	p := &platform{}
	start := time.Now()
	var wg sync.WaitGroup
	for i := range senders {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for {
				slot, err := acquire(ctx)
				if err != nil {
					if ctx.Err() != nil {
						return
					}
					continue // this wait was given up, not the run
				}
				n.send(p, slot, random, start)
			}
		})
	}
	wg.Wait()
	return p
}

// send is one request from the slot to its settling.
func (n network) send(p *platform, slot Slot, random *rand.Rand, start time.Time) {
	pass(upTo(random, n.dawdle))
	n.thaw(start)
	if oneIn(random, n.unsentOneIn) {
		slot.Unsent()
		return
	}
	sent := time.Now()
	deadline := sent.Add(n.timeout)
	there, back := n.there, n.work+n.back
	if !oneIn(random, n.straightOneIn) {
		there += upTo(random, n.jitter)
		back += upTo(random, n.jitter) + upTo(random, n.jitter)
	}
	pass(min(there, n.timeout))
	p.arrive(sent)
	if there+back > n.timeout || oneIn(random, n.lostOneIn) {
		pass(time.Until(deadline))
		n.thaw(start)
		slot.Unanswered(deadline)
		return
	}
	pass(back)
	n.thaw(start)
	answered := time.Now()
	pass(upTo(random, n.dawdle))
	slot.Answered(sent, answered)
}

// thaw waits while the process is stopped.
func (n network) thaw(start time.Time) {
	for _, f := range n.frozen {
		if now := time.Since(start); now >= f[0] && now < f[1] {
			pass(f[1] - now)
		}
	}
}

// pass lets fake time go by.
func pass(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

func upTo(random *rand.Rand, d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(random.Int64N(int64(d) + 1))
}

func oneIn(random *rand.Rand, n int) bool { return n > 0 && random.IntN(n) == 0 }
