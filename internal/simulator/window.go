package simulator

import (
	"slices"
	"sync"
	"time"
)

// window counts the arrivals of one account against its limit: never more than limit
// in any second, wherever that second begins. Two arrivals exactly one second apart
// are not in the same second.
//
// A request's arrival is the moment at which it was read whole, but it is registered
// here only after its signature was checked, so another one may overtake it. Late
// registrations are put where they belong, and every second they fall into is counted
// again.
type window struct {
	limit  int
	strict bool // refused arrivals use up the window too
	fixed  bool // only the seconds that begin with a whole second since the start count

	mu       sync.Mutex
	all      arrivals
	admitted arrivals
	worst    int
	let      int64 // let in since the start
	refused  int64
}

// admit registers an arrival at the given time since the start and says whether the
// limit lets it in. With refuse it is turned away whatever the limit says.
func (w *window) admit(at time.Duration, refuse bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.all.countWith(at)
	w.all.add(at)
	w.worst = max(w.worst, n)
	counted := &w.all
	if !w.strict {
		counted = &w.admitted
		n = counted.countWith(at)
	}
	if w.fixed {
		n = counted.countIn(at.Truncate(time.Second))
		if !w.strict {
			n++ // this one, which all holds already
		}
	}
	if refuse || n > w.limit {
		w.refused++
		return false
	}
	w.let++
	if !w.strict {
		w.admitted.add(at)
	}
	return true
}

func (w *window) stats() (worst int, let, refused int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.worst, w.let, w.refused
}

// arrivals holds the arrivals of the last two seconds in order of time: one second to
// count, one for registrations that come late. The zero value is empty.
type arrivals struct {
	at   []time.Duration
	head int // what is before it is forgotten
}

// countWith is the size of the fullest second around t if t were added.
func (a *arrivals) countWith(t time.Duration) int {
	live := a.at[a.head:]
	i := position(live, t)
	n := i - position(live[:i], t-time.Second) + 1
	for j := i; j < len(live) && live[j]-t < time.Second; j++ {
		n = max(n, j-position(live[:j], live[j]-time.Second)+2)
	}
	return n
}

// countIn is the number of arrivals in the second that begins with from.
func (a *arrivals) countIn(from time.Duration) int {
	live := a.at[a.head:]
	return position(live, from+time.Second-1) - position(live, from-1)
}

func (a *arrivals) add(t time.Duration) {
	i := a.head + position(a.at[a.head:], t)
	a.at = slices.Insert(a.at, i, t)
	newest := a.at[len(a.at)-1]
	for a.at[a.head] <= newest-2*time.Second {
		a.head++
	}
	if a.head > len(a.at)/2 {
		a.at = append(a.at[:0], a.at[a.head:]...)
		a.head = 0
	}
}

// position is the index of the first element after t. New arrivals belong at the end,
// so that is looked at first.
func position(sorted []time.Duration, t time.Duration) int {
	if n := len(sorted); n == 0 || sorted[n-1] <= t {
		return n
	}
	i, _ := slices.BinarySearch(sorted, t+1)
	return i
}
