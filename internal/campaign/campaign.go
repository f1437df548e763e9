// Package campaign holds the domain: what a campaign, a contact, an attempt and
// an outcome are, and what may follow what. It does no I/O beyond the io.Reader
// it is given and the secret files that an account names, so that its rules can be
// tested as tables.
//
// A campaign is a list of contacts to call, with a schedule, calling windows, a
// pace and retry rules. A contact is one person of one campaign. An attempt is one
// intent to call one contact, written down before the request, and is at most one
// request on the wire. A call is what the platform makes of an accepted attempt; its
// outcome comes back in a receipt.
package campaign

import "encoding/json"

// ID numbers a campaign over all accounts of a database. IDs start at 1.
type ID int32

// AccountID numbers an account. IDs start at 1.
type AccountID int32

// RunID numbers one firing of a campaign's schedule, or one manual start.
type RunID int64

// NodeID numbers one start of a process that may dial; a restarted process gets
// a new one, so its running totals begin at zero.
type NodeID int32

// Campaign is a campaign as its file describes it. A zero Campaign is not valid;
// ParseCampaign fills in the defaults and checks every field. A Campaign is not
// changed after it was parsed, so it may be read concurrently.
type Campaign struct {
	Name    string `yaml:"campaign" json:"campaign"`
	Account string `yaml:"account" json:"account"`
	// CallerIDs are the numbers shown to the people called, taken in turn; each
	// must be one of the account's.
	CallerIDs []string `yaml:"caller_ids" json:"caller_ids"`
	// Columns says which column of the contact file holds what. Empty: found by
	// the usual names.
	Columns  Columns   `yaml:"columns" json:"columns"`
	Call     Call      `yaml:"call" json:"call"`
	Schedule *Schedule `yaml:"schedule" json:"schedule,omitempty"`
	// Zone is the IANA name of the time zone of Windows; default Asia/Shanghai.
	Zone    string  `yaml:"zone" json:"zone"`
	Windows Windows `yaml:"windows" json:"windows"`
	// Pace is the number of calls started per second; 0 means the account's limit.
	Pace float64 `yaml:"pace" json:"pace"`
	// MaxAttempts bounds how often a contact is called. Throttled and unsent
	// attempts do not count. Default 1.
	MaxAttempts int         `yaml:"max_attempts" json:"max_attempts"`
	Retry       RetryPolicy `yaml:"retry" json:"retry,omitempty"`
	Caps        Caps        `yaml:"caps" json:"caps"`
	// Lost says what becomes of a contact whose attempt nobody can account for.
	Lost LostPolicy `yaml:"lost" json:"lost"`
	// Sample marks made-up numbers, which are never dialled on a live account.
	Sample bool `yaml:"sample" json:"sample,omitempty"`
}

// Columns maps the columns of a contact file.
type Columns struct {
	Phone string `yaml:"phone" json:"phone,omitempty"`
}

// Caps bound how many calls one number may get, counted over all campaigns of an
// account. Everything that may have rung counts.
type Caps struct {
	PerMinute int `yaml:"per_minute" json:"per_minute"`   // within 60 s; default 1
	PerDay    int `yaml:"per_day" json:"per_day"`         // within 24 h; default 2
	Per30Days int `yaml:"per_30_days" json:"per_30_days"` // within 30 days; default 6
}

// LostPolicy says what happens to a contact whose attempt is lost.
type LostPolicy string

const (
	// LostHold leaves the contact to a person: it is never called again by itself.
	LostHold LostPolicy = "hold"
	// LostRedial calls the contact again, within max_attempts: an explicit choice of
	// the campaign's owner that a second ring is better than none.
	LostRedial LostPolicy = "redial"
)

// State is what a campaign is doing.
type State string

const (
	Idle      State = "idle"      // no run is open
	Running   State = "running"   // a run is open
	Paused    State = "paused"    // a run is open but held by a person or a guard
	Cancelled State = "cancelled" // never to be dialled again; what was pending is cancelled
)

// Contact is one person of one campaign, as read from a file.
type Contact struct {
	// N numbers the contacts of a campaign from 1, in file order.
	N int32
	// Line is the line of the file on which the contact's record begins.
	Line  int
	Phone Phone
	// Vars are the other columns, by header: the values for VoiceCodeParam.
	Vars map[string]string
}

// JSON renders the campaign as it is stored.
func (c *Campaign) JSON() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // a Campaign holds nothing that JSON cannot hold
	}
	return b
}
