package limiter

import "time"

const (
	// cutEvery is the shortest time between two cuts: answers that come
	// closer together tell of the same burst, sent before the cut could work.
	cutEvery = 200 * time.Millisecond
	// floorPart of the rate asked for is always left, to notice the end of it.
	floorPart = 0.02
	// quietTime without a throttled answer comes before the rate rises, so
	// that at the floor of a usual rate the next answer still finds it there.
	quietTime = time.Second
	// riseTime is how long the rate takes from nothing to what was asked for.
	riseTime = 8 * time.Second
)

// throttle holds the rate down after the platform has said that it is too
// high, as a part of the rate asked for. It halves and rises evenly, as TCP
// does: that finds the rate that the platform bears, whatever it is, and shares
// it fairly with other programs on the account that do the same. Time alone
// lets it rise, not good answers: at a low rate there are too few of them.
//
// In figures, for a rate of at least 20/s: while everything is throttled for a
// minute, less than 5 % of the rate is sent; 90 % of it is back within 10 s
// after that. At 10/s it is 7 %, since a token is then so rare that the rate
// rises while it is waited for. The zero value holds nothing down.
type throttle struct {
	after float64   // the part left by the last throttled answer
	last  time.Time // the last cut
	quiet time.Time // the part rises from here; zero is so long ago that all has risen
}

// cut takes note of a throttled answer.
func (t *throttle) cut(now time.Time) {
	left := t.part(now)
	if now.Sub(t.last) >= cutEvery {
		left = max(left/2, floorPart)
		t.last = now
	}
	t.after, t.quiet = left, now.Add(quietTime)
}

// part is what is left at now of the rate asked for, from floorPart to 1.
func (t *throttle) part(now time.Time) float64 {
	risen := max(now.Sub(t.quiet).Seconds(), 0) / riseTime.Seconds()
	return min(t.after+risen, 1)
}
