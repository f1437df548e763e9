package campaign

import (
	"fmt"
	"slices"
	"time"
)

// Outcome is what became of a call. The list is closed; the platform's own codes
// and texts are kept beside it.
type Outcome string

const (
	Answered      Outcome = "answered"
	Busy          Outcome = "busy"
	NoAnswer      Outcome = "no_answer"
	PoweredOff    Outcome = "powered_off"
	Unreachable   Outcome = "unreachable"
	Rejected      Outcome = "rejected"
	Blocked       Outcome = "blocked"
	Suspended     Outcome = "suspended"
	InvalidNumber Outcome = "invalid_number"
	LineFault     Outcome = "line_fault"
	ConfigError   Outcome = "config_error"
	UnknownReason Outcome = "unknown"
)

// Outcomes lists every outcome in the order in which tables show them.
var Outcomes = []Outcome{Answered, Busy, NoAnswer, PoweredOff, Unreachable, Rejected, Blocked, Suspended, InvalidNumber, LineFault, ConfigError, UnknownReason}

// RetryPolicy says, per outcome, how long to wait before the contact is called
// again: the n-th delay applies after the contact's n-th attempt. An outcome that
// is not in it is final.
type RetryPolicy map[Outcome][]Duration

const (
	// minRetryDelay is the shortest delay a file may ask for: the platform takes one
	// call per minute to one number, as does the default frequency cap.
	minRetryDelay = Duration(time.Minute)
	maxRetryDelay = Duration(30 * 24 * time.Hour)
)

// Delay returns how long to wait before the contact is called again after its
// attempt-th attempt (from 1) had an outcome, and false if the outcome is final.
// A nil policy makes every outcome final.
func (p RetryPolicy) Delay(o Outcome, attempt int) (time.Duration, bool) {
	ladder := p[o]
	if attempt < 1 || attempt > len(ladder) {
		return 0, false
	}
	return time.Duration(ladder[attempt-1]), true
}

// retryable says in a sentence why a call with this outcome must not be repeated.
func retryable(o Outcome) error {
	switch {
	case !slices.Contains(Outcomes, o):
		return fmt.Errorf("unknown outcome %q%s", short(string(o)), didYouMean(string(o), Outcomes))
	case o == Answered:
		return fmt.Errorf("outcome %q cannot be retried: the person was reached", o)
	case o == InvalidNumber:
		return fmt.Errorf("outcome %q cannot be retried: the number does not exist", o)
	case o == ConfigError:
		return fmt.Errorf("outcome %q cannot be retried: every further call would fail alike; mend the campaign and clone it", o)
	}
	return nil
}
