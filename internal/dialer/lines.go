package dialer

import (
	"sync"
	"time"

	"dialer/internal/campaign"
)

// lines counts the calls that each caller ID of an account may be carrying, so that
// no number is given more than its lines. A line is taken by an intent and free again
// by a definite no, an outcome, or when no call can last that long. All methods may be
// called concurrently.
type lines struct {
	mu    sync.Mutex
	most  map[string]int
	taken map[string]int
	calls map[campaign.AttemptID]line
}

type line struct {
	caller string
	until  time.Time
}

func newLines(ids []campaign.CallerID) *lines {
	l := &lines{calls: make(map[campaign.AttemptID]line), taken: make(map[string]int)}
	l.set(ids)
	return l
}

func (l *lines) set(ids []campaign.CallerID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = make(map[string]int, len(ids))
	for _, id := range ids {
		l.most[id.Number] = id.Lines
	}
}

// choose returns the caller ID with the most free lines, and how many they are.
func (l *lines) choose(ids []string) (caller string, free int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		if f := l.most[id] - l.taken[id]; f > free {
			caller, free = id, f
		}
	}
	return caller, free
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
