package simulator

import (
	"strconv"
	"strings"
	"sync"
	"time"
)

// call is one call under way or ended. What is below the line changes and is guarded
// by the exchange's lock.
type call struct {
	number    uint64
	account   *account
	line      *line
	callee    string
	phone     string // the end of callee without country code
	outID     string
	dynamicID string
	dice      dice
	word      string
	fate      fate
	record    bool
	early     bool

	acceptedAt, rangAt, answeredAt time.Time

	endedAt  time.Time // planned until ended
	duration int       // seconds of talk, unscaled
	ended    bool
	hungUp   bool // by the dialogue
}

// The two halves of a CallId, "<12 digits>^<12 digits>".
const firstHalf, secondHalf = 116300000000, 102800000000

func (c *call) id() string {
	b := make([]byte, 0, 25)
	b = strconv.AppendUint(b, firstHalf+c.number, 10)
	b = append(b, '^')
	return string(strconv.AppendUint(b, secondHalf+c.number, 10))
}

// place starts the call of an accepted request and returns its CallId. What the phone
// will do is decided here and now.
func (s *Simulator) place(o order, a *account, at time.Time, d dice, e *Entry) string {
	c := &call{
		account: a, dice: d, record: o.record, early: o.earlyMedia, acceptedAt: at,
		// Cut loose from the request's URL, which they would otherwise keep in memory.
		callee: strings.Clone(o.callee), outID: strings.Clone(o.outID), dynamicID: strings.Clone(o.dynamicID),
	}
	c.phone = c.callee[len(c.callee)-len(o.phone):]
	c.word, c.fate = s.outcomes.pick(d)
	ring := s.scaled(d.within(s.config.Ring, forRing))
	if c.fate.rings {
		c.rangAt = at.Add(ring / 8)
	}
	c.endedAt = at.Add(ring)
	if c.fate.answered {
		talk := d.within(s.config.Talk, forTalk)
		if o.sessionTimeout > 0 {
			talk = min(talk, o.sessionTimeout)
		}
		c.duration = max(1, int(talk.Round(time.Second)/time.Second))
		c.answeredAt = c.endedAt
		c.endedAt = c.answeredAt.Add(s.scaled(time.Duration(c.duration) * time.Second))
	}
	overlap, repeat := s.exchange.connect(c, o.caller)
	e.Overlap, e.Repeat = e.Overlap || overlap, e.Repeat || repeat

	s.busy.begin(1)
	s.reportProgress(c)
	if c.fate.answered && s.callbackURL(a) != "" {
		s.busy.begin(1)
		s.agenda.at(c.answeredAt, func() { s.callbacks.do(func() { s.converse(c) }) })
	}
	s.agenda.at(c.endedAt, func() { s.finish(c, time.Time{}) })
	return c.id()
}

// finish ends a call: as planned, or with a time at which somebody hung up before.
func (s *Simulator) finish(c *call, hungUpAt time.Time) {
	if !s.exchange.disconnect(c, hungUpAt, s.config.TimeScale) {
		return
	}
	lost := c.dice.chance(s.config.LoseReceipts, forLoss)
	e := s.entry(KindCall, time.Now())
	e.Account, e.CallID, e.OutID, e.Callee, e.Caller = c.account.name, c.id(), c.outID, c.callee, c.line.number
	e.Outcome, e.StatusCode, e.SmartStatusCode, e.EarlyMediaCode = c.word, c.fate.status, c.fate.smart, c.earlyMedia()
	e.DurationS, e.Lost = c.duration, lost
	e.AcceptedAt, e.RangAt, e.AnsweredAt, e.EndedAt = stamp(c.acceptedAt), stamp(c.rangAt), stamp(c.answeredAt), stamp(c.endedAt)
	s.record(e)
	s.reportEnd(c, lost)
	s.busy.end(1)
}

func stamp(t time.Time) time.Time { return t.Round(0).UTC() }

// earlyMedia is the code of the recognised announcement, if recognition was asked for.
func (c *call) earlyMedia() string {
	if !c.early {
		return ""
	}
	return c.fate.early
}

// exchange knows which phones ring or talk, and the newest calls for queries.
type exchange struct {
	keep int

	mu     sync.Mutex
	last   uint64
	calls  map[uint64]*call
	phones map[string]int // open calls by bare number; absent = none
	outIDs map[outKey]struct{}
	lines  map[string]*line

	open, overlaps, repeats int64
}

// line is a number that is shown.
type line struct {
	number     string
	open, most int
}

// outKey is an OutId without a pointer, so that millions of them cost the garbage
// collector nothing.
type outKey struct {
	account uint16
	length  uint8
	text    [15]byte
}

func newExchange(keep int) *exchange {
	return &exchange{
		keep:   keep,
		calls:  make(map[uint64]*call),
		phones: make(map[string]int),
		outIDs: make(map[outKey]struct{}),
		lines:  make(map[string]*line),
	}
}

// connect numbers a call and opens it. overlap: the phone was ringing or talking
// already; repeat: the account's OutId had a call before.
func (x *exchange) connect(c *call, shown string) (overlap, repeat bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last++
	c.number = x.last
	x.calls[c.number] = c
	delete(x.calls, c.number-uint64(x.keep)) // before the first it wraps to a number that is not there

	if c.outID != "" {
		key := outKey{account: c.account.index, length: uint8(len(c.outID))}
		copy(key.text[:], c.outID)
		if _, repeat = x.outIDs[key]; repeat {
			x.repeats++
		}
		x.outIDs[key] = struct{}{}
	}
	if overlap = x.phones[c.phone] > 0; overlap {
		x.overlaps++
	}
	x.phones[c.phone]++
	x.open++
	if c.line = x.lines[shown]; c.line == nil {
		c.line = &line{number: strings.Clone(shown)}
		x.lines[c.line.number] = c.line
	}
	c.line.open++
	c.line.most = max(c.line.most, c.line.open)
	return overlap, repeat
}

// disconnect ends an open call and says whether it was open.
func (x *exchange) disconnect(c *call, hungUpAt time.Time, timeScale float64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if c.ended {
		return false
	}
	c.ended = true
	if !hungUpAt.IsZero() && hungUpAt.Before(c.endedAt) {
		c.endedAt, c.hungUp = hungUpAt, true
		talked := time.Duration(float64(hungUpAt.Sub(c.answeredAt)) * timeScale)
		c.duration = min(c.duration, max(1, int(talked.Round(time.Second)/time.Second)))
	}
	if x.phones[c.phone]--; x.phones[c.phone] == 0 {
		delete(x.phones, c.phone)
	}
	x.open--
	c.line.open--
	return true
}

// over says whether a call has ended.
func (x *exchange) over(c *call) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return c.ended
}

// find returns a copy of a call as it is now.
func (x *exchange) find(callID string) (call, bool) {
	head, _, _ := strings.Cut(callID, "^")
	n, err := strconv.ParseUint(head, 10, 64)
	if err != nil || n <= firstHalf {
		return call{}, false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.calls[n-firstHalf]
	if c == nil || c.id() != callID {
		return call{}, false
	}
	return *c, true
}
