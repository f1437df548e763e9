package simulator

import "time"

// dice decides everything about one request. It is a hash of seed and OutId and not
// a shared random stream, so that neither the order of arrival nor what happens to
// other requests changes the fate of this one.
type dice uint64

// purpose keeps the rolls for one request independent of each other. Add new ones at
// the end: the order is part of what a seed means.
type purpose uint64

const (
	forFault purpose = iota
	forPlacing
	forStatus
	forDelay
	forOutcome
	forVariant
	forRing
	forTalk
	forReceipt
	forLoss
	forDuplicate
	forReorder
	forHangup
	forShape
	forProgress // and the three after it, one per step
	_
	_
	_
	forRecord
	forQuery
)

func newDice(seed uint64, key string) dice {
	h := uint64(14695981039346656037) // FNV-1a, then mixed: FNV alone moves its high bits too little
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return dice(mix(h ^ mix(seed)))
}

// mix is the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// roll is evenly spread over [0, 1).
func (d dice) roll(p purpose) float64 {
	return float64(mix(uint64(d)+uint64(p)*0x9E3779B97F4A7C15)>>11) / (1 << 53)
}

func (d dice) chance(share float64, p purpose) bool { return d.roll(p) < share }

func (d dice) within(r Range, p purpose) time.Duration {
	return r.Min + time.Duration(d.roll(p)*float64(r.Max-r.Min))
}
