package limiter

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// batchTime is how long tokens are gathered before they are handed out,
	// so that one transaction turns about twenty attempts per 1000/s into rows.
	batchTime = 20 * time.Millisecond
	// slackTime is how long the dispenser may be late, by its transaction or
	// by the machine, before tokens are lost.
	slackTime = 30 * time.Millisecond
	// recoveryStep is how often a waiting Take looks at a rate that is rising.
	recoveryStep = 100 * time.Millisecond
	// longestSleep keeps the arithmetic of very low rates within a Duration.
	longestSleep = time.Hour
	// fastest is the highest rate there is, in tokens per second.
	fastest = 1e6
)

// Pace deals out tokens, one per attempt, at the rate that a person asked for
// or, after the platform has said that this is too fast, at a lower one. It
// starts with no tokens. All methods may be called concurrently, but it is
// made for one dispenser: several share the rate, in no order. Make one with
// NewPace.
type Pace struct {
	mu       sync.Mutex
	bucket   *rate.Limiter // its limit and burst are those of the rate now in force
	asked    float64
	throttle throttle
	changed  chan struct{} // closed and replaced by Set
}

// NewPace returns a pace of perSecond tokens per second. See Set for its range.
func NewPace(perSecond float64) *Pace {
	p := &Pace{bucket: rate.NewLimiter(0, 0), changed: make(chan struct{})}
	p.Set(perSecond)
	return p
}

// Take waits for a batch of tokens, which is what twenty milliseconds bring but at
// least one, and returns how many it took: the batch, and what has come in
// since it was due, together at most most. If most is less than a batch it
// waits for that many only; less than 1 counts as 1. A dispenser that was away
// finds what 50 ms bring, rounded up, and never more. While the rate is 0 it
// waits for Set. If ctx ends first, the error wraps its error and no token is
// used up.
func (p *Pace) Take(ctx context.Context, most int) (int, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("wait for the pace: %w", err)
		}
		n, wait, changed := p.try(max(most, 1))
		if n > 0 {
			return n, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// try takes at most most tokens, or returns how long to wait and what to
// listen to before it is worth trying again. No token is reserved ahead, as
// rate.Limiter.Wait does it: a reservation keeps the rate at which it was made.
func (p *Pace) try(most int) (n int, wait time.Duration, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	n, wait = p.due(now, most)
	if n > 0 {
		if p.bucket.AllowN(now, n) {
			return n, 0, nil
		}
		// What is missing is less than a nanosecond's worth.
		wait = time.Nanosecond
	}
	return 0, wait, p.changed
}

// due is how many of most tokens could be taken at now, or how long to wait until it
// is worth looking again. mu is held.
func (p *Pace) due(now time.Time, most int) (n int, wait time.Duration) {
	inForce := p.apply(now)
	if inForce == 0 {
		return 0, longestSleep
	}
	tokens := p.bucket.TokensAt(now)
	least := min(batch(inForce), most)
	wait = time.Duration(min((float64(least)-tokens)/inForce*1e9, float64(longestSleep)))
	if wait <= 0 {
		return min(max(least, int(tokens)), most), 0
	}
	if inForce < p.asked {
		wait = min(wait, recoveryStep)
	}
	return 0, wait
}

// Set changes the rate that is asked for, at once, also for a Take that
// waits. 0 is a pause, which also drops the tokens that were saved; less than 0
// and NaN count as 0, more than a million as a million. What Throttled took off
// stays off, in proportion.
func (p *Pace) Set(perSecond float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = inRange(perSecond)
	p.apply(time.Now())
	close(p.changed)
	p.changed = make(chan struct{})
}

// Throttled says that the platform refused a request because there were too
// many. The rate is cut by three tenths at once, but only once for all that is heard
// within 200 ms, and to no less than a fiftieth of the rate asked for; tokens saved
// at the higher rate are dropped. A second after the last such answer the rate
// begins to rise, lingers a little below the rate that was refused, and is whole
// again within ten seconds if nothing is refused any more.
func (p *Pace) Throttled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.throttle.cut(now)
	p.apply(now)
}

// Rate returns the tokens per second now in force.
func (p *Pace) Rate() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked * p.throttle.part(time.Now())
}

// apply makes the bucket follow the rate in force at now, and returns it. mu
// is held.
func (p *Pace) apply(now time.Time) float64 {
	inForce := p.asked * p.throttle.part(now)
	if inForce != float64(p.bucket.Limit()) {
		p.bucket.SetLimitAt(now, rate.Limit(inForce))
		p.bucket.SetBurstAt(now, burst(inForce))
	}
	return inForce
}

// batch is how many tokens are worth a transaction at a rate.
func batch(perSecond float64) int {
	return max(int(perSecond*batchTime.Seconds()), 1)
}

// burst is how many tokens are kept for a dispenser that comes late.
func burst(perSecond float64) int {
	if perSecond == 0 {
		return 0 // a pause drops what was saved
	}
	return batch(perSecond) + int(math.Ceil(perSecond*slackTime.Seconds()))
}

// inRange returns the rate that is meant by a number.
func inRange(perSecond float64) float64 {
	if math.IsNaN(perSecond) {
		return 0
	}
	return min(max(perSecond, 0), fastest)
}

// TryTake takes up to most tokens if a batch has come in, and returns how many it
// took; it does not wait. It is for a second pace within the first: that of one
// campaign, which its account's dispenser asks when it is the campaign's turn.
func (p *Pace) TryTake(most int) int {
	if most < 1 {
		return 0
	}
	n, _, _ := p.try(most)
	return n
}

// Has returns how many tokens TryTake would take now: for a dispenser that must know
// what several paces allow before it takes from any of them.
func (p *Pace) Has(most int) int {
	if most < 1 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n, _ := p.due(time.Now(), most)
	return n
}
