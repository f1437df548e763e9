package campaign

import (
	"errors"
	"time"
)

// Errors by which callers decide. Every other error of the store is a fault.
var (
	ErrNotFound = errors.New("not found")
	// ErrLeaseLost: another node holds the account, or this one's lease ran out.
	ErrLeaseLost = errors.New("this node no longer holds the account")
	// ErrAccountPaused: no intent is written for any campaign of the account.
	ErrAccountPaused = errors.New("the account is paused")
	// ErrNotRunning: the campaign is idle, paused or cancelled.
	ErrNotRunning = errors.New("the campaign is not running")
	// ErrWindowClosed: by the database's clock the calling window is not open.
	ErrWindowClosed = errors.New("the calling window is closed")
	// ErrClockSkew: the node's clock and the database's differ too much to trust either.
	ErrClockSkew = errors.New("the clocks of this machine and the database differ")
	// ErrStale: a contact of the batch was dialled since it was read.
	ErrStale = errors.New("a contact was dialled since it was read")
	// ErrServerChanged: the database server was restarted, restored or replaced since the
	// account was last dialled.
	ErrServerChanged = errors.New("the database server is not the one on which the account was dialled last")
	// ErrNodeForgotten: the database does not know the node any more.
	ErrNodeForgotten = errors.New("the database has forgotten that this node registered: it was restored or replaced")
	// ErrOutOfOrder: the database's last intent is not the one this node wrote last.
	ErrOutOfOrder = errors.New("the database's last intent is not the one this node knows")
)

// Lease is a node's hold on an account. The zero Lease holds nothing.
type Lease struct {
	Account AccountID
	Node    NodeID
	// Term counts the holders of the account; an intent with an old term is refused.
	Term int32
	// TakenOver says that nobody knows what the last holder sent last: it did not give
	// the account back, and its last requests may be less than a second old.
	TakenOver bool
	// Rest is what the last holder said when it gave the account back.
	Rest Rest
	// Server is the database server as it was when the lease was acquired, and Vouched
	// the one on which the account may be dialled: see Trust.
	Server, Vouched string
	// Synchronous says that commits on the server vouched for waited for a standby when
	// the account was dialled there last.
	Synchronous bool
}

// Rest is how many requests of an account still count at the platform, by steps of
// RestStep: Rest[i] of them for no longer than i+1 steps. Nil: nobody knows.
type Rest []int32

// RestStep keeps a Rest short. It is a fiftieth of the time for which a request that was
// answered is held to count (package limiter), so that rounding up adds nothing to that.
const RestStep = 20004 * time.Microsecond

// NewRest counts requests by how long they still count.
func NewRest(left []time.Duration) Rest {
	r := Rest{}
	for _, d := range left {
		step := int((d - 1) / RestStep)
		for len(r) <= step {
			r = append(r, 0)
		}
		r[step]++
	}
	return r
}

// Left returns for each request how long it still counts at most.
func (r Rest) Left() []time.Duration {
	var left []time.Duration
	for i, n := range r {
		for range n {
			left = append(left, time.Duration(i+1)*RestStep)
		}
	}
	return left
}

// LastBatch is the newest intent batch of an account. The zero value: there is none.
type LastBatch struct {
	Seq int64
	At  time.Time
}

// Pending is a contact that can be dialled next.
type Pending struct {
	Contact
	// Try and Chance are what its next attempt will have.
	Try, Chance int
	// Due says that it waits in the due table; otherwise it is fresh.
	Due bool
}

// IntentBatch asks for a small batch of contacts of one campaign to become attempts.
type IntentBatch struct {
	Lease    Lease
	Seq      int64 // one more than the account's last batch
	Campaign ID
	CallerID string
	At       time.Time
	SendBy   time.Time
	// Window must be open by the database's clock, which must agree with At to
	// within MaxSkew.
	Window   Span
	MaxSkew  time.Duration
	Caps     Caps
	Contacts []Pending
}

// Verdict says what became of one contact of an IntentBatch: exactly one of an
// attempt, a suppression or a hold.
type Verdict struct {
	Attempt    AttemptID // 0: none was made
	Suppressed bool
	// HeldUntil is when a frequency cap or another open attempt to the number lets
	// the contact through.
	HeldUntil time.Time
}

// Response is what came of the request of one attempt.
type Response struct {
	Attempt    AttemptID
	State      AttemptState // Accepted, Throttled, Refused, Unsent or Unknown
	Counts     bool         // counts against the frequency caps
	SentAt     time.Time    // when its first byte was written; zero if none was
	AnsweredAt time.Time
	Code       string
	Message    string
	CallID     string
	RequestID  string
	// Again, if its At is set, makes the contact pending again.
	Again Again
}

// Again says when and as what a contact is dialled next.
type Again struct {
	At     time.Time
	Reason DueReason
	Chance int
}

// DueReason says why a contact waits.
type DueReason string

const (
	DueThrottled DueReason = "throttled" // the platform said too fast
	DueUnsent    DueReason = "unsent"    // not a byte was written
	DueHold      DueReason = "hold"      // the platform refused account or campaign, not the contact
	DueRetry     DueReason = "retry"     // the campaign's rule for the last outcome
	DueCap       DueReason = "cap"       // a frequency cap
	DueTooOften  DueReason = "too_often" // the platform's own cap on the number
	DueLost      DueReason = "lost"      // the last attempt is lost and the campaign redials those
	DueSettled   DueReason = "settled"   // a person settled the last attempt and wants the next
)

// Receipt is one report of the platform in our words.
type Receipt struct {
	// Attempt is the attempt its OutId names; 0 if it named none of ours.
	Attempt AttemptID
	CallID  string
	Key     [16]byte
	Kind    string
	// Final says that it tells the outcome.
	Final   bool
	Outcome Outcome
	// The platform's own words, kept beside the outcome.
	StatusCode, StatusMsg, SmartStatusCode, EarlyMediaCode, Hangup string
	TalkSeconds                                                    int
	RangAt, AnsweredAt, EndedAt                                    time.Time
	Raw                                                            []byte
	// Unreadable says why the report could not be understood; "" if it could.
	Unreadable string
}

// Progress is how far a campaign has come, from its running totals.
// Imported = Pending + Open + Done + Suppressed + Cancelled + Expired + Unknown.
type Progress struct {
	Account, Campaign                                            string
	State                                                        State
	Reason                                                       string
	Imported, Rejects, Duplicates                                int64
	Pending, Open, Done, Suppressed, Cancelled, Expired, Unknown int64
	Attempts, Accepted, Throttled, Refused, Unsent, Doubtful     int64
	Answered                                                     int64
}
