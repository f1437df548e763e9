package simulator

import (
	"maps"
	"sync"
)

// Stats are the figures of a simulator since New. Counts of requests are of SmartCall
// and of what was not understood; queries are counted apart.
type Stats struct {
	Requests  int64
	Accepted  int64 // a call was placed
	Throttled int64 // Throttling.User, by the limit or as a fault
	Refused   int64 // no call, and the answer said so
	Dropped   int64 // no call, and the answer did not say so
	// Unanswered requests got no answer, placed or not.
	Unanswered int64
	Queries    int64

	// Overlaps are calls to a phone that was ringing or talking; Repeats are calls for
	// an OutId that had one before. Both must stay 0.
	Overlaps, Repeats int64

	Open     int64            // calls that ring or talk now
	Ended    int64            // calls that are over
	Outcomes map[string]int64 // ended calls by the dialer's word
	MostOpen map[string]int   // most calls at one time, by number shown

	Reports     int64 // reports to be pushed, duplicates included
	Pushes      int64 // tries, of arrays
	Acked       int64 // reports acknowledged
	GivenUp     int64 // reports given up after the last try
	Unaddressed int64 // reports for which there was no address
	Callbacks   int64

	Accounts map[string]AccountStats
}

// AccountStats are the figures of one account.
type AccountStats struct {
	// WorstSecond is the largest number of SmartCall requests, let in or not, that
	// arrived within one sliding second.
	WorstSecond int
	// Admitted and Throttled are how many of them the limit let in, whatever became of
	// them, and how many it did not.
	Admitted, Throttled int64
	// WorstQuerySecond and QueriesThrottled are the same of QueryCallDetailByCallId.
	WorstQuerySecond int
	QueriesThrottled int64
}

// Stats returns the figures as they are now.
func (s *Simulator) Stats() Stats {
	s.tally.mu.Lock()
	st := s.tally.stats
	st.Outcomes = maps.Clone(st.Outcomes)
	s.tally.mu.Unlock()

	s.exchange.mu.Lock()
	st.Open, st.Overlaps, st.Repeats = s.exchange.open, s.exchange.overlaps, s.exchange.repeats
	st.MostOpen = make(map[string]int, len(s.exchange.lines))
	for number, line := range s.exchange.lines {
		st.MostOpen[number] = line.most
	}
	s.exchange.mu.Unlock()

	st.Accounts = make(map[string]AccountStats, len(s.accounts))
	for _, a := range s.accounts {
		var as AccountStats
		as.WorstSecond, as.Admitted, as.Throttled = a.calls.stats()
		as.WorstQuerySecond, _, as.QueriesThrottled = a.queries.stats()
		st.Accounts[a.name] = as
	}
	return st
}

// tally counts ledger entries. Its zero value is ready.
type tally struct {
	mu    sync.Mutex
	stats Stats
}

func (t *tally) count(e *Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := &t.stats
	switch e.Kind {
	case KindRequest:
		st.Requests++
		switch e.Verdict {
		case VerdictAccepted:
			st.Accepted++
		case VerdictThrottled:
			st.Throttled++
		case VerdictRefused:
			st.Refused++
		case VerdictDropped:
			st.Dropped++
		}
		if !e.Answered {
			st.Unanswered++
		}
	case KindQuery:
		st.Queries++
	case KindCall:
		st.Ended++
		if st.Outcomes == nil {
			st.Outcomes = make(map[string]int64)
		}
		st.Outcomes[e.Outcome]++
	case KindPush:
		st.Pushes++
		if e.Acked {
			st.Acked += int64(len(e.Items))
		}
		if e.GivenUp {
			st.GivenUp += int64(len(e.Items))
		}
	case KindCallback:
		st.Callbacks++
	}
}

func (t *tally) reported() {
	t.mu.Lock()
	t.stats.Reports++
	t.mu.Unlock()
}

func (t *tally) unaddressed(n int) {
	t.mu.Lock()
	t.stats.Unaddressed += int64(n)
	t.mu.Unlock()
}
