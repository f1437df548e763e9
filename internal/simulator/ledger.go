package simulator

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
)

// Kinds of ledger entries.
const (
	KindRequest  = "request"  // a SmartCall request, or one that was not understood, arrived
	KindQuery    = "query"    // a QueryCallDetailByCallId request arrived
	KindCall     = "call"     // a call ended; written at its end
	KindPush     = "push"     // an array of reports was pushed, or given up
	KindCallback = "callback" // the dialogue callback was asked
)

// Verdicts on a request.
const (
	VerdictAccepted  = "accepted"  // a call was placed, whatever was answered
	VerdictThrottled = "throttled" // no call: Throttling.User
	VerdictRefused   = "refused"   // no call, and the answer says so
	VerdictDropped   = "dropped"   // no call, but the answer does not say so, or there was none
)

// Entry is one line of the ledger: what truly happened, in the simulator's own words.
// Which fields are set depends on Kind. For a request, Wall and MonoUS are the moment
// at which it had been read whole.
type Entry struct {
	Kind    string    `json:"kind"`
	Wall    time.Time `json:"wall"`
	MonoUS  int64     `json:"mono_us"` // microseconds since New, monotonic
	Account string    `json:"account,omitempty"`
	CallID  string    `json:"call_id,omitempty"`
	OutID   string    `json:"out_id,omitempty"`
	Callee  string    `json:"callee,omitempty"` // as sent
	Caller  string    `json:"caller,omitempty"` // as sent

	// Of a request or query.
	Action   string `json:"action,omitempty"`
	Verdict  string `json:"verdict,omitempty"`
	Code     string `json:"code,omitempty"`      // Code of the answer, if it has one
	Fault    string `json:"fault,omitempty"`     // what was done on purpose
	Answered bool   `json:"answered,omitempty"`  // an answer was written
	Overlap  bool   `json:"overlap,omitempty"`   // that phone was ringing or talking already
	Repeat   bool   `json:"repeat,omitempty"`    // that OutId had a call already
	SecondID string `json:"second_id,omitempty"` // CallId of the other call of a ring_twice fault

	// Status is the HTTP status that was answered (request, query) or received (push,
	// callback); 0 = none.
	Status int `json:"status,omitempty"`

	// Of a call. AnsweredAt and DurationS are zero when nobody answered.
	// Outcome is the dialer's word for it; names of OutcomeNames that share a word
	// (blocked_time is blocked) are told apart by StatusCode.
	Outcome         string    `json:"outcome,omitempty"`
	StatusCode      string    `json:"status_code,omitempty"`
	SmartStatusCode string    `json:"smart_status_code,omitempty"`
	EarlyMediaCode  string    `json:"early_media_code,omitempty"`
	DurationS       int       `json:"duration_s,omitempty"` // seconds of talk, not scaled
	AcceptedAt      time.Time `json:"accepted_at,omitzero"`
	RangAt          time.Time `json:"rang_at,omitzero"`
	AnsweredAt      time.Time `json:"answered_at,omitzero"`
	EndedAt         time.Time `json:"ended_at,omitzero"`
	Lost            bool      `json:"lost,omitempty"` // its final report is never pushed

	// Of a push.
	PushID  int64  `json:"push_id,omitempty"`
	Try     int    `json:"try,omitempty"`    // 1 = the first
	Report  string `json:"report,omitempty"` // VoiceReport, VoiceCallReport, VoiceRecordReport
	Items   []Item `json:"items,omitempty"`
	Acked   bool   `json:"acked,omitempty"`
	GivenUp bool   `json:"given_up,omitempty"` // it was the last try

	// TookUS is how long a push or callback took until its answer was read, in
	// microseconds.
	TookUS int64 `json:"took_us,omitempty"`

	// Of a callback: the action that was answered, if one could be understood.
	Reply string `json:"reply,omitempty"`
}

// Item names one report in a push.
type Item struct {
	CallID string `json:"call_id"`
	OutID  string `json:"out_id,omitempty"`
}

// ReadLedger yields the entries of a ledger in the order in which they were written.
// A line that is not an entry ends it with an error that names the line; so does a
// last line without its end, the mark of a writer that was killed.
func ReadLedger(r io.Reader) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		lines := bufio.NewReaderSize(r, 64<<10)
		for n := 1; ; n++ {
			line, err := lines.ReadBytes('\n')
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			var entry Entry
			if err == nil {
				err = json.Unmarshal(bytes.TrimSpace(line), &entry)
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("read ledger: line %d: %w", n, err))
				return
			}
			if !yield(entry, nil) {
				return
			}
		}
	}
}

const flushEvery = 100 * time.Millisecond

// ledger writes entries in one goroutine. A nil ledger keeps nothing.
type ledger struct {
	entries chan *Entry
	syncs   chan chan struct{}
	stop    chan struct{}
	done    chan struct{}
	err     error // first write error; to be read after done
}

func newLedger(w io.Writer) *ledger {
	if w == nil {
		return nil
	}
	l := &ledger{
		entries: make(chan *Entry, 4096),
		syncs:   make(chan chan struct{}),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	go l.run(w)
	return l
}

// put hands over an entry, which the caller must not touch again. It blocks while the
// writer is behind: the truth is not thinned out.
func (l *ledger) put(e *Entry) {
	if l == nil {
		return
	}
	select {
	case l.entries <- e:
	case <-l.stop:
	}
}

// sync returns when everything put before is with the io.Writer.
func (l *ledger) sync() {
	if l == nil {
		return
	}
	written := make(chan struct{})
	select {
	case l.syncs <- written:
		<-written
	case <-l.done:
	}
}

func (l *ledger) close() error {
	if l == nil {
		return nil
	}
	close(l.stop)
	<-l.done
	return l.err
}

func (l *ledger) run(w io.Writer) {
	defer close(l.done)
	out := bufio.NewWriterSize(w, 64<<10)
	lines := json.NewEncoder(out)
	// bufio.Writer keeps its first error and returns it from every later call.
	write := func(e *Entry) { l.keep(lines.Encode(e)) }
	drain := func() {
		for {
			select {
			case e := <-l.entries:
				write(e)
			default:
				l.keep(out.Flush())
				return
			}
		}
	}
	timer := time.NewTimer(flushEvery)
	timer.Stop() // it runs only while something is unwritten
	defer timer.Stop()
	due := false
	for {
		select {
		case e := <-l.entries:
			write(e)
			if !due {
				due = true
				timer.Reset(flushEvery)
			}
		case <-timer.C:
			due = false
			l.keep(out.Flush())
		case written := <-l.syncs:
			drain()
			close(written)
		case <-l.stop:
			drain()
			return
		}
	}
}

func (l *ledger) keep(err error) {
	if l.err == nil && err != nil {
		l.err = fmt.Errorf("write ledger: %w", err)
	}
}
