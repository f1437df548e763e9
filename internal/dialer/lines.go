package dialer

import (
	"sync"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/limiter"
)

// lines counts the calls that each caller ID of an account may be carrying, so that
// no number is given more than its lines, and holds each number to its pace. A line is
// taken by an intent and free again by a definite no, an outcome, or when no call can
// last that long. All methods may be called concurrently; choose and spend are for the
// one dispenser of the account.
type lines struct {
	mu    sync.Mutex
	most  map[string]int
	paces map[string]*limiter.Pace // of the numbers that have one
	taken map[string]int
	calls map[campaign.AttemptID]line
}

type line struct {
	caller string
	until  time.Time
}

func newLines(ids []campaign.CallerID) *lines {
	l := &lines{calls: make(map[campaign.AttemptID]line), taken: make(map[string]int), paces: make(map[string]*limiter.Pace)}
	l.set(ids)
	return l
}

func (l *lines) set(ids []campaign.CallerID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = make(map[string]int, len(ids))
	before := l.paces
	l.paces = make(map[string]*limiter.Pace)
	for _, id := range ids {
		l.most[id.Number] = id.Lines
		if id.Pace == 0 {
			continue
		}
		pace := before[id.Number]
		if pace == nil {
			pace = limiter.NewPace(id.Pace)
		}
		pace.Set(id.Pace)
		l.paces[id.Number] = pace
	}
}

// choose returns the caller ID that can start the most calls now, and how many.
func (l *lines) choose(ids []string) (caller string, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		n := l.most[id] - l.taken[id]
		if pace := l.paces[id]; pace != nil {
			n = pace.Has(n)
		}
		if n > most {
			caller, most = id, n
		}
	}
	return caller, most
}

// spend takes so many calls, of those that choose returned, off the number's pace.
func (l *lines) spend(caller string, calls int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pace := l.paces[caller]; pace != nil {
		pace.TryTake(calls)
	}
}

// anyFree tells whether one of the numbers has a free line.
func (l *lines) anyFree(ids []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		if l.most[id] > l.taken[id] {
			return true
		}
	}
	return false
}

func (l *lines) take(id campaign.AttemptID, caller string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.calls[id]; !ok {
		l.calls[id] = line{caller, until}
		l.taken[caller]++
	}
}

func (l *lines) free(ids ...campaign.AttemptID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.drop(id)
	}
}

func (l *lines) drop(id campaign.AttemptID) {
	if c, ok := l.calls[id]; ok {
		delete(l.calls, id)
		l.taken[c.caller]--
	}
}

// expire frees the lines of calls that must be over, and returns the attempts of the
// others.
func (l *lines) expire(now time.Time) []campaign.AttemptID {
	l.mu.Lock()
	defer l.mu.Unlock()
	open := make([]campaign.AttemptID, 0, len(l.calls))
	for id, c := range l.calls {
		if now.After(c.until) {
			l.drop(id)
		} else {
			open = append(open, id)
		}
	}
	return open
}

// reset forgets every call: a new holder reads them from the ledger.
func (l *lines) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.calls)
	clear(l.taken)
}
