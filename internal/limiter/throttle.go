package limiter

import (
	"math"
	"time"
)

const (
	// cutEvery is the shortest time between two cuts: answers that come
	// closer together tell of the same burst, sent before the cut could work.
	cutEvery = 200 * time.Millisecond
	// cutPart is what a cut leaves of the rate.
	cutPart = 0.7
	// ceilingPart of the rate that was too high is taken to be what the platform bears.
	ceilingPart = 0.97
	// floorPart of the rate asked for is always left, to notice the end of it.
	floorPart = 0.02
	// quietTime without a throttled answer comes before the rate rises, so
	// that at the floor of a usual rate the next answer still finds it there.
	quietTime = time.Second
	// riseTime is how long the rate would take from nothing to what was asked
	// for if nothing was known of a ceiling.
	riseTime = 7 * time.Second
)

// throttle holds the rate down after the platform has said that it is too
// high, as a part of the rate asked for. Other programs may share the account, so
// what the platform bears is not known and changes; it is found again and again in
// the way of CUBIC, TCP's usual congestion control (RFC 9438): the rate at which the
// platform refused is remembered as a ceiling. After a cut the rate rises fast while
// it is far below the ceiling, lingers near it, and, if nothing was refused there,
// leaves it behind faster and faster. Time alone lets it rise, not good answers: at a
// low rate there are too few of them.
//
// In figures: of a platform that bears a constant part of the rate, nine tenths are
// used and less than 4 in 100 requests are refused, 1 in 100 from a third of the rate on
// (a rate that halves and rises evenly uses three quarters and is refused up to 16 in
// 100). For a rate of at least 20/s: while everything is throttled for a minute, less
// than 5 % of the rate is sent; 90 % of it is back within 10 s after that. The zero
// value holds nothing down.
type throttle struct {
	after   float64   // the part left by the last throttled answer
	ceiling float64   // the part near which the rate lingers; at least after
	last    time.Time // the last cut
	quiet   time.Time // the part rises from here; zero is so long ago that all has risen
}

// cut takes note of a throttled answer.
func (t *throttle) cut(now time.Time) {
	left := t.part(now)
	if now.Sub(t.last) >= cutEvery {
		t.ceiling = left * ceilingPart
		left = max(left*cutPart, floorPart)
		t.last = now
	}
	t.after, t.quiet = left, now.Add(quietTime)
	t.ceiling = max(t.ceiling, t.after)
}

// part is what is left at now of the rate asked for, from floorPart to 1.
func (t *throttle) part(now time.Time) float64 {
	// In units of riseTime: the cube of the time from the ceiling is the distance from it.
	risen := max(now.Sub(t.quiet).Seconds(), 0) / riseTime.Seconds()
	fromCeiling := risen - math.Cbrt(t.ceiling-t.after)
	return min(t.ceiling+fromCeiling*fromCeiling*fromCeiling, 1)
}
