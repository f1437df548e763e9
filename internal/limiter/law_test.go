package limiter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
	"pgregory.net/rapid"
)

// The law: at the platform no sliding second ever holds more than limit
// requests. These tests look at it from the platform's side of a network that
// delays, reorders and loses. They run in fake time.

// Without a credit the guard assumes nothing about the network, so here the
// network may be as mad as it likes. Fewer than settleAnswers answers come in.
func TestLawHoldsOnAnyNetworkBeforeThereIsCredit(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 60).Draw(rt, "limit")
		lasts := time.Duration(rapid.IntRange(2, min(900/limit, 30)).Draw(rt, "lasts")) * time.Second
		n := network{
			there:         millis(0, 300).Draw(rt, "there"),
			work:          millis(0, 300).Draw(rt, "work"),
			back:          millis(0, 300).Draw(rt, "back"),
			jitter:        millis(0, 1500).Draw(rt, "jitter"),
			straightOneIn: rapid.IntRange(0, 50).Draw(rt, "straight one in"),
			lostOneIn:     rapid.IntRange(0, 20).Draw(rt, "lost one in"),
			unsentOneIn:   rapid.IntRange(2, 20).Draw(rt, "unsent one in"),
			dawdle:        millis(0, 100).Draw(rt, "dawdle"),
			timeout:       millis(500, 3000).Draw(rt, "timeout"),
			frozen:        freezes(lasts).Draw(rt, "frozen"),
		}
		seed := rapid.Uint64().Draw(rt, "seed")
		senders := rapid.IntRange(1, 3*limit).Draw(rt, "senders")
		worst := 0
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), lasts)
			defer cancel()
			worst = n.run(t, ctx, senders, seed, NewGuard(limit).Acquire).worst()
		})
		if worst > limit {
			rt.Fatalf("worst second at the platform holds %d requests, limit %d", worst, limit)
		}
	})
}

// With a credit the guard assumes that the quickest way through the network
// does not get quicker. Everything else is free.
func TestLawHoldsWithCredit(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(300, 600).Draw(rt, "limit")
		lasts := time.Duration(rapid.IntRange(5, 7).Draw(rt, "lasts")) * time.Second
		n := network{
			there:         millis(0, 60).Draw(rt, "there"),
			work:          millis(0, 60).Draw(rt, "work"),
			back:          millis(0, 60).Draw(rt, "back"),
			jitter:        millis(0, 100).Draw(rt, "jitter"),
			straightOneIn: rapid.IntRange(1, 20).Draw(rt, "straight one in"),
			lostOneIn:     rapid.SampledFrom([]int{0, 50, 500}).Draw(rt, "lost one in"),
			unsentOneIn:   rapid.SampledFrom([]int{0, 10, 100}).Draw(rt, "unsent one in"),
			dawdle:        micros(0, 20_000).Draw(rt, "dawdle"),
			timeout:       millis(500, 2000).Draw(rt, "timeout"),
			frozen:        freezes(lasts).Draw(rt, "frozen"),
		}
		seed := rapid.Uint64().Draw(rt, "seed")
		worst, credit := 0, time.Duration(0)
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), lasts)
			defer cancel()
			guard := NewGuard(limit)
			worst = n.run(t, ctx, 2*limit, seed, guard.Acquire).worst()
			credit = guard.trip.credit
		})
		if worst > limit {
			rt.Fatalf("worst second at the platform holds %d requests, limit %d (credit %v)", worst, limit, credit)
		}
		if floor := n.there + n.work + n.back; credit > floor {
			rt.Fatalf("credit %v, but a request can be through in %v", credit, floor)
		}
	})
}

// The limit goes up and down while senders give up waiting.
func TestLawHoldsWhileTheLimitChanges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := network{
			there:       millis(0, 30).Draw(rt, "there"),
			back:        millis(0, 30).Draw(rt, "back"),
			jitter:      millis(0, 200).Draw(rt, "jitter"),
			lostOneIn:   rapid.IntRange(0, 30).Draw(rt, "lost one in"),
			unsentOneIn: rapid.IntRange(3, 30).Draw(rt, "unsent one in"),
			timeout:     millis(400, 1200).Draw(rt, "timeout"),
		}
		limits := rapid.SliceOfN(rapid.IntRange(0, 60), 2, 8).Draw(rt, "limits")
		every := millis(50, 1500).Draw(rt, "every")
		patience := millis(20, 800).Draw(rt, "patience")
		seed := rapid.Uint64().Draw(rt, "seed")
		var broken string
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), every*time.Duration(len(limits)))
			defer cancel()
			guard := NewGuard(limits[0])
			go func() {
				for i := range limits {
					guard.SetLimit(limits[i])
					pass(time.Until(start.Add(every * time.Duration(i+1))))
				}
			}()
			p := n.run(t, ctx, 40, seed, func(ctx context.Context) (Slot, error) {
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				return guard.Acquire(ctx)
			})
			p.windows(func(last arrival, n int) {
				// The limit that this request was sent under, or one that came while it travelled.
				allowed := 0
				for i, limit := range limits {
					from, to := start.Add(every*time.Duration(i)), start.Add(every*time.Duration(i+1))
					if !last.sent.After(to) && !last.at.Before(from) {
						allowed = max(allowed, limit)
					}
				}
				if n > allowed {
					broken = fmt.Sprintf("%d requests in the second before %v, allowed %d", n, last.at.Sub(start), allowed)
				}
			})
		})
		if broken != "" {
			rt.Fatal(broken)
		}
	})
}

// The same platform sees what a token bucket does: the tests above can fail.
func TestATokenBucketBreaksTheLaw(t *testing.T) {
	const limit = 1000
	near := network{there: 10 * time.Millisecond, back: 10 * time.Millisecond, timeout: time.Second}
	jittery := near
	jittery.jitter = 5 * time.Millisecond
	for _, c := range []struct {
		name    string
		network network
		burst   int
		atLeast int
	}{
		{"burst of the whole limit", near, limit, 2*limit - 1},
		{"burst 10", near, 10, limit + 9},
		{"burst 1 and jitter of 5 ms", jittery, 1, limit + 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				bucket := rate.NewLimiter(limit, c.burst)
				p := c.network.run(t, ctx, 200, 1, func(ctx context.Context) (Slot, error) {
					err := bucket.Wait(ctx)
					if err != nil {
						<-ctx.Done() // Wait says so before the end when its turn would come after it
					}
					return Slot{}, err
				})
				if got := p.worst(); got < c.atLeast {
					t.Errorf("worst second of a bucket holds %d requests, want at least %d", got, c.atLeast)
				}
			})
		})
	}
}

// Safe is easy: send nothing. This is the other half, with the tokens of a pace
// that is set to the limit itself.
func TestGuardLosesHardlyAnything(t *testing.T) {
	const limit, lasts = 1000, 30 * time.Second
	for _, c := range []struct {
		name    string
		network network
		atLeast float64
	}{
		{"answers take 20 to 30 ms", network{work: 20 * time.Millisecond, jitter: 5 * time.Millisecond, timeout: time.Second}, 0.985},
		{"the way takes 20 to 30 ms", network{there: 10 * time.Millisecond, back: 10 * time.Millisecond, jitter: 10 * time.Millisecond / 3, timeout: time.Second}, 0.985},
		{"loopback", network{there: 50 * time.Microsecond, back: 50 * time.Microsecond, jitter: 50 * time.Microsecond, timeout: time.Second}, 0.998},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), lasts)
				defer cancel()
				guard := NewGuard(limit)
				p := c.network.run(t, ctx, 200, 1, paced(ctx, NewPace(limit), guard))
				got := float64(p.between(start, start.Add(lasts))) / (limit * lasts.Seconds())
				if got < c.atLeast || got > 1 {
					t.Errorf("sent %.2f %% of the limit, want at least %.1f %% and no more than 100 %%", 100*got, 100*c.atLeast)
				}
				if worst := p.worst(); worst > limit {
					t.Errorf("worst second at the platform holds %d requests, limit %d", worst, limit)
				}
			})
		})
	}
}

// paced puts a pace with its one dispenser in front of a guard, as the engine does.
func paced(ctx context.Context, pace *Pace, guard *Guard) func(context.Context) (Slot, error) {
	tokens := make(chan struct{})
	go func() {
		for {
			n, err := pace.Take(ctx, 100)
			if err != nil {
				return
			}
			for range n {
				select {
				case tokens <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return func(ctx context.Context) (Slot, error) {
		select {
		case <-tokens:
			return guard.Acquire(ctx)
		case <-ctx.Done():
			return Slot{}, ctx.Err()
		}
	}
}

// freezes are times in which the process is stopped.
func freezes(lasts time.Duration) *rapid.Generator[[][2]time.Duration] {
	return rapid.Custom(func(t *rapid.T) [][2]time.Duration {
		var frozen [][2]time.Duration
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "freezes"), 0))
		for range rapid.IntRange(0, 3).Draw(t, "number of freezes") {
			from := upTo(random, lasts)
			frozen = append(frozen, [2]time.Duration{from, from + upTo(random, 2*time.Second)})
		}
		return frozen
	})
}

func millis(low, high int64) *rapid.Generator[time.Duration] { return micros(1000*low, 1000*high) }

func micros(low, high int64) *rapid.Generator[time.Duration] {
	return rapid.Map(rapid.Int64Range(low, high), func(n int64) time.Duration { return time.Duration(n) * time.Microsecond })
}
