package limiter

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestTakeAtExactTimes(t *testing.T) {
	for _, c := range []struct {
		name      string
		perSecond float64
		most      int
		n         int           // in each batch
		every     time.Duration // a batch
	}{
		{"twenty milliseconds' worth", 1000, 100, 20, 20 * time.Millisecond},
		{"no more than asked for", 1000, 3, 3, 3 * time.Millisecond},
		{"fewer than one is one", 1000, 0, 1, time.Millisecond},
		{"many", 20_000, 1000, 400, 20 * time.Millisecond},
		{"few", 2, 100, 1, 500 * time.Millisecond},
		{"very few", 1.0 / 3600, 100, 1, time.Hour},
		{"next to none", 1.0 / 86400, 100, 1, 24 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pace, start := NewPace(c.perSecond), time.Now()
				for i := range 1000 {
					n := mustTake(t, pace, c.most)
					late := time.Since(start) - c.every*time.Duration(i+1)
					if n != c.n || late.Abs() > time.Microsecond {
						t.Fatalf("batch %d: %d tokens after %v, want %d after %v", i, n, time.Since(start), c.n, c.every*time.Duration(i+1))
					}
				}
			})
		})
	}
}

// The dispenser's transaction takes time, and now and then a lot of it.
func TestTakeLosesNoTokenToASlowDispenser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace, start, tokens := NewPace(1000), time.Now(), 0
		for time.Since(start) < time.Minute {
			tokens += mustTake(t, pace, 100)
			pass(time.Duration(tokens%41) * time.Millisecond)
		}
		if want := int(1000 * time.Since(start).Seconds()); tokens < want-50 || tokens > want {
			t.Errorf("%d tokens in %v, want %d less what is in the bucket", tokens, time.Since(start), want)
		}
	})
}

func TestNoBurstAfterAStall(t *testing.T) {
	for perSecond, burst := range map[float64]int{1000: 50, 20_000: 1000, 200: 10, 20: 2, 1: 2} {
		synctest.Test(t, func(t *testing.T) {
			pace := NewPace(perSecond)
			pass(time.Hour)
			if got := mustTake(t, pace, math.MaxInt); got != burst {
				t.Errorf("%v/s: %d tokens after a stall, want %d", perSecond, got, burst)
			}
			again := time.Now()
			mustTake(t, pace, 1)
			if got, want := time.Since(again).Seconds(), 1/perSecond; math.Abs(got-want) > 1e-6 {
				t.Errorf("%v/s: the next token after %v s, want %v", perSecond, got, want)
			}
		})
	}
}

// Whatever the dispenser does, no stretch of time holds more tokens than it
// brings plus a burst.
func TestTokensInAnyStretchOfTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		perSecond := rapid.Float64Range(0.1, 5000).Draw(rt, "per second")
		away := rapid.SliceOfN(millis(0, 300), 1, 50).Draw(rt, "away")
		most := rapid.IntRange(1, 100).Draw(rt, "most")
		type taken struct {
			at time.Time
			n  int
		}
		var all []taken
		synctest.Test(t, func(t *testing.T) {
			pace := NewPace(perSecond)
			for _, d := range away {
				n := mustTake(t, pace, most)
				all = append(all, taken{time.Now(), n})
				pass(d)
			}
		})
		for i := range all {
			sum := 0
			for _, b := range all[i:] {
				sum += b.n
				most := float64(burst(perSecond)) + perSecond*b.at.Sub(all[i].at).Seconds() + 1e-3
				if float64(sum) > most {
					rt.Fatalf("%d tokens in %v, want at most %v", sum, b.at.Sub(all[i].at), most)
				}
			}
		}
	})
}

func TestSetWakesASleeper(t *testing.T) {
	for _, before := range []float64{0, -5, math.NaN(), 0.001} {
		synctest.Test(t, func(t *testing.T) {
			pace, start := NewPace(before), time.Now()
			took := make(chan time.Duration)
			go func() { mustTake(t, pace, 10); took <- time.Since(start) }()
			pass(24 * time.Second)
			pace.Set(1000)
			got := <-took
			if got < 24*time.Second+9*time.Millisecond || got > 24*time.Second+10*time.Millisecond {
				t.Errorf("from %v/s: tokens after %v, want 10 ms after the rate was raised at 24s", before, got)
			}
		})
	}
}

func TestSetHoldsASleeperBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace, start := NewPace(1000), time.Now()
		took := make(chan time.Duration)
		go func() { mustTake(t, pace, 10); took <- time.Since(start) }()
		pass(5 * time.Millisecond)
		pace.Set(0)
		pass(time.Hour)
		select {
		case at := <-took:
			t.Fatalf("tokens after %v during a pause", at)
		default:
		}
		pace.Set(1000)
		if got, want := <-took, time.Hour+15*time.Millisecond; (got - want).Abs() > time.Microsecond {
			t.Errorf("tokens after %v, want a whole new batch after %v", got, want)
		}
	})
}

func TestTakeEndsWithItsContext(t *testing.T) {
	for _, perSecond := range []float64{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			pace, start := NewPace(perSecond), time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
			defer cancel()
			n, err := pace.Take(ctx, 1)
			if n != 0 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("at %v/s: took %d, %v; want an error that wraps the context's", perSecond, n, err)
			}
			wantSince(t, "end of Take", start, 700*time.Millisecond)
			pace.Set(1)
			mustTake(t, pace, 1) // what had come in was not lost
			if got, want := time.Since(start).Seconds(), 1+0.7*(1-perSecond); math.Abs(got-want) > 1e-6 {
				t.Errorf("at %v/s: a token after %v s, want %v", perSecond, got, want)
			}
		})
	}
}

func TestRateOutOfRange(t *testing.T) {
	for perSecond, want := range map[float64]float64{-1: 0, 0: 0, 1e9: 1e6, math.Inf(1): 1e6, 0.5: 0.5} {
		if got := NewPace(perSecond).Rate(); got != want {
			t.Errorf("rate %v of %v, want %v", got, perSecond, want)
		}
	}
}

// One row is one moment in the life of a pace of 1000/s.
func TestThrottledProfile(t *testing.T) {
	type row struct {
		at        time.Duration
		throttled int // answers at this moment
		want      float64
	}
	const ms, s = time.Millisecond, time.Second
	for name, rows := range map[string][]row{
		"one burst counts once": {
			{0, 0, 1000},
			{1 * s, 1, 700},
			{1*s + 20*ms, 30, 700},
			{1*s + 199*ms, 1, 700},
			{1*s + 200*ms, 1, 490},
			{1*s + 400*ms, 1, 343},
		},
		"a second of quiet, then fast, then slow near what was refused, then fast again": {
			{0, 1, 700},
			{1 * s, 0, 700},
			{2 * s, 0, 842.377},
			{3 * s, 0, 923.104},
			{5 * s, 0, 969.58},
			{6 * s, 0, 970.314},
			{8 * s, 0, 1000},
			{8*s + 500*ms, 0, 1000},
			{time.Hour, 0, 1000},
		},
		"never below the floor": {
			{0, 1, 700},
			{200 * ms, 1, 490},
			{400 * ms, 1, 343},
			{600 * ms, 1, 240.1},
			{800 * ms, 1, 168.07},
			{1 * s, 1, 117.649},
			{1*s + 200*ms, 1, 82.354},
			{1*s + 400*ms, 1, 57.648},
			{1*s + 600*ms, 1, 40.354},
			{1*s + 800*ms, 1, 28.248},
			{2 * s, 1, 20},
			{2*s + 200*ms, 1, 20},
			{2*s + 400*ms, 1, 20},
			{3*s + 400*ms, 0, 20},
			{4*s + 400*ms, 0, 22.915},
			{9 * s, 0, 532},
			{11*s + 300*ms, 0, 1000},
			{11*s + 800*ms, 0, 1000},
		},
		"again while it rises": {
			{0, 1, 700},
			{3 * s, 0, 923.104},
			{3*s + 1, 1, 646.173},
			{4 * s, 0, 646.173},
			{5*s + 1, 0, 780.291},
			{9 * s, 0, 896.024},
			{12 * s, 0, 1000},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pace, start := NewPace(1000), time.Now()
				for _, r := range rows {
					pass(time.Until(start.Add(r.at)))
					for range r.throttled {
						pace.Throttled()
					}
					if got := pace.Rate(); math.Abs(got-r.want) > 1e-3 {
						t.Errorf("after %v: rate %v, want %v", r.at, got, r.want)
					}
				}
			})
		})
	}
}

func TestThrottledTakesEffectOnTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := NewPace(1000)
		pass(time.Second) // the bucket is full
		for range 15 {
			pace.Throttled()
			pass(cutEvery)
		}
		if got := mustTake(t, pace, 100); got != 2 {
			t.Errorf("%d tokens at the floor, want the burst of 20/s, which is 2", got)
		}
	})
}

// A Take that began to wait for a rare token sees the rate rise.
func TestTakeFollowsTheRisingRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := NewPace(10)
		for range 15 {
			pass(cutEvery)
			pace.Throttled()
		}
		mustTake(t, pace, 100) // what was saved
		start := time.Now()
		mustTake(t, pace, 1)
		// At the floor of 0.2/s a token takes five seconds.
		if got := time.Since(start); got < time.Second || got > 4*time.Second {
			t.Errorf("the next token after %v, want it in 1 to 4 s", got)
		}
	})
}

func TestPauseDoesNotForgetThrottling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := NewPace(1000)
		pace.Throttled()
		pace.Set(0)
		pass(cutEvery)
		pace.Throttled() // an answer that was under way when the pause came
		if got := pace.Rate(); got != 0 {
			t.Errorf("rate %v in a pause, want 0", got)
		}
		pace.Set(100)
		if got := pace.Rate(); math.Abs(got-49) > 1e-9 {
			t.Errorf("rate %v after the pause, want 49, twice seven tenths of 100", got)
		}
	})
}

// A storm: for a minute the platform refuses everything.
func TestThrottlingStorm(t *testing.T) {
	const storm = time.Minute
	for _, limit := range []float64{20, 100, 1000, 20_000} {
		for _, trip := range []time.Duration{time.Millisecond, 150 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				pace, start := NewPace(limit), time.Now()
				sent := 0
				for {
					n := mustTake(t, pace, 100)
					if time.Since(start) >= storm {
						break
					}
					sent += n
					time.AfterFunc(trip, func() {
						for range n {
							pace.Throttled()
						}
					})
				}
				if part := float64(sent) / (limit * storm.Seconds()); part > 0.05 {
					t.Errorf("limit %v, answers after %v: sent %.1f %% of the limit in the storm, want at most 5 %%", limit, trip, 100*part)
				}
				for pace.Rate() < 0.9*limit {
					pass(10 * time.Millisecond)
				}
				if took := time.Since(start) - storm; took > 10*time.Second {
					t.Errorf("limit %v, answers after %v: 90 %% of the rate %v after the storm, want at most 10s", limit, trip, took)
				}
			})
		}
	}
}

// A platform that bears less than was asked for, because others use the account, too:
// the pace finds what is left, also after it has changed, and does not hammer.
func TestPaceFindsWhatThePlatformBears(t *testing.T) {
	for _, c := range []struct {
		name    string
		bears   func(time.Duration) int // requests in a second
		sliding bool                    // any second, and not those of the platform's clock
		used    float64                 // at least
		refused float64                 // at most
	}{
		{"six tenths of it", func(time.Duration) int { return 600 }, false, 0.87, 0.01},
		{"six tenths in any second", func(time.Duration) int { return 600 }, true, 0.87, 0.01},
		{"a third", func(time.Duration) int { return 333 }, false, 0.87, 0.015},
		{"a tenth", func(time.Duration) int { return 100 }, false, 0.85, 0.04},
		{"now a third and now all of it, a minute each", func(at time.Duration) int { return 333 + int(at.Minutes())%2*667 }, true, 0.85, 0.01},
		{"all of it", func(time.Duration) int { return 1000 }, false, 0.98, 0.001},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pace, start := NewPace(1000), time.Now()
				accepted, refused, borne := 0, 0, 0.0
				var window []time.Time // when the requests of this second were accepted
				for last := start; time.Since(start) < 6*time.Minute; {
					n := mustTake(t, pace, 100)
					now := time.Now()
					bears := c.bears(now.Sub(start))
					borne += float64(bears) * now.Sub(last).Seconds()
					last = now
					for len(window) > 0 && (c.sliding && now.Sub(window[0]) >= time.Second ||
						!c.sliding && now.Truncate(time.Second).After(window[0])) {
						window = window[1:]
					}
					for range n {
						if len(window) < bears {
							window = append(window, now)
							accepted++
						} else {
							refused++
							time.AfterFunc(20*time.Millisecond, pace.Throttled)
						}
					}
				}
				used, part := float64(accepted)/borne, float64(refused)/float64(accepted+refused)
				t.Logf("%.1f %% used, %.2f %% refused", 100*used, 100*part)
				if used < c.used {
					t.Errorf("%.1f %% of what the platform bears was used, want at least %.1f %%", 100*used, 100*c.used)
				}
				if part > c.refused {
					t.Errorf("%.2f %% refused, want at most %.2f %%", 100*part, 100*c.refused)
				}
			})
		})
	}
}

func mustTake(t *testing.T, pace *Pace, most int) int {
	t.Helper()
	n, err := pace.Take(t.Context(), most)
	if err != nil || n < 1 || n > max(most, 1) {
		t.Errorf("took %d tokens of at most %d, error %v", n, most, err)
	}
	return n
}
