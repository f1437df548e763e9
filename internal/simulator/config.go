package simulator

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Config says what the simulated platform looks like. The zero value of every
// field but Accounts is a usable default.
type Config struct {
	// Accounts maps an AccessKey id to the account it belongs to. Several ids may
	// name one account: the limit counts the account, not the key.
	Accounts map[string]Account

	// PushURL is where receipts are POSTed; empty = nothing is pushed. An account
	// may have its own.
	PushURL string
	// PushBatch is the most reports in one pushed array; 0 = 50. The platform's own
	// largest batch is not documented.
	PushBatch int
	// PushEvery is the longest a report waits for others to fill a batch; 0 = 100 ms.
	PushEvery time.Duration
	// PushRetry is the wait before each repeat of a push that was not acknowledged;
	// nil = 1, 5 and 10 minutes (help document "HTTP batch push"). After the last the
	// platform gives up.
	PushRetry []time.Duration

	// TimeScale divides ring and talk times, receipt delays and push retries: with 60
	// an hour passes in a minute. 0 = 1. Durations in receipts and in the ledger stay
	// unscaled, points in time are those of the clock.
	TimeScale float64

	// Outcomes weighs what becomes of a call, by name; nil = a realistic mix. Names
	// are those of OutcomeNames.
	Outcomes map[string]float64
	// Ring is how long a phone rings (or an announcement plays); zero = 3 to 20 s.
	Ring Range
	// Talk is how long an answered call lasts; zero = 5 to 60 s. SessionTimeout of the
	// request caps it.
	Talk Range
	// ReceiptDelay is the time from an event to its first push; zero = 1 to 10 s (not
	// documented).
	ReceiptDelay Range

	// Duplicate, Reorder and LoseReceipts are shares (0 to 1) of the final reports that
	// are pushed a second time, held back so that later ones overtake them, or never
	// pushed at all.
	Duplicate, Reorder, LoseReceipts float64
	// ProgressReports also pushes VoiceCallReport: dialling, ringing, answered, ended.
	ProgressReports bool
	// RecordReports also pushes VoiceRecordReport for answered calls with RecordFlag.
	RecordReports bool

	// Faults are what goes wrong on purpose; SetFaults changes them in a run.
	Faults Faults

	// CallbackURL is asked once, with content_type normal, when a call is answered; the
	// answer "hangup" ends the call. Empty = no dialogue.
	CallbackURL string

	// Seed and a request's OutId decide verdict, outcome and times of a call, whatever
	// the order in which requests arrive.
	Seed uint64

	// Ledger receives the truth as JSON lines (see Entry); nil = none is kept.
	Ledger io.Writer

	// Strict makes throttled requests use up the window too.
	Strict bool

	// FixedWindow counts only the seconds that begin a whole number of seconds after New:
	// twice the limit may come around the turn of one. Which window the platform uses is
	// not documented.
	FixedWindow bool

	// Keep is how many of the newest calls QueryCallDetailByCallId knows; 0 = one million.
	// Each takes some 300 bytes.
	Keep int

	// Transport carries pushes and callbacks; nil = one of its own, without proxies.
	Transport http.RoundTripper
}

// Account is one customer of the simulated platform.
type Account struct {
	// Name joins several AccessKey ids to one account; empty = the AccessKey id.
	Name string
	// Secret is the AccessKey secret that signatures are checked with.
	Secret string
	// Limit is the most SmartCall requests in any sliding second; 0 = 1000 (help
	// document 114042). Keys of one account must agree on it.
	Limit int
	// CallerIDs are the numbers the account may show; empty = any.
	CallerIDs []string
	// PushURL and CallbackURL replace those of Config for this account: the platform
	// keeps one address per message type and account.
	PushURL, CallbackURL string
}

// Range is a span of time from Min to Max, both possible.
type Range struct{ Min, Max time.Duration }

// Faults are shares (0 to 1) of the valid SmartCall requests to which something
// happens on purpose. They exclude one another, so their sum is at most 1. Whether
// an ambiguous one placed its call is decided apart, by halves.
type Faults struct {
	Throttle        float64 // answers Throttling.User below the limit too; no call
	NeverAnswer     float64 // places the call, keeps the connection open, says nothing
	Cut             float64 // places the call, closes the connection without an answer
	CutBefore       float64 // closes the connection without call or answer
	HTML            float64 // answers 200 with a web page; half of them placed
	Status503       float64 // answers ServiceUnavailable; half of them placed
	Redirect302     float64 // answers 302 to another path; half of them placed
	OKWithoutCallID float64 // places the call, answers OK without CallId
	SystemError     float64 // answers isp.SYSTEM_ERROR with HTTP 500; half of them placed
	RingTwice       float64 // places two calls for the one request
	// Business answers with these codes instead of placing a call, as HTTP 200 or 400 in
	// turn, or as the gateway's documented status. Half of those whose code does not say
	// whether a phone rang (isp.*, isv.VOICE_CALL_FAIL, InternalError) are placed all the
	// same.
	Business map[string]float64

	// Delay is added before every SmartCall answer; it is not scaled. With Delay longer
	// than ring, talk and receipt delay, the receipt comes before the answer.
	Delay Range
}

const (
	defaultLimit      = 1000 // help document 114042
	defaultQueryLimit = 100  // QueryCallDetailByCallId, SDK comment
	maxBody           = 1 << 20
)

var defaultPushRetry = []time.Duration{time.Minute, 5 * time.Minute, 10 * time.Minute}

// withDefaults returns a checked copy of c in which nothing is left open.
func (c Config) withDefaults() (Config, error) {
	if len(c.Accounts) == 0 {
		return c, errors.New("simulator: no account: give at least one AccessKey id in Accounts")
	}
	c.Accounts = maps.Clone(c.Accounts)
	for id, account := range c.Accounts {
		checked, err := account.withDefaults(id)
		if err != nil {
			return c, err
		}
		c.Accounts[id] = checked
	}
	if c.PushBatch == 0 {
		c.PushBatch = 50
	}
	if c.PushEvery == 0 {
		c.PushEvery = 100 * time.Millisecond
	}
	if c.PushRetry == nil {
		c.PushRetry = defaultPushRetry
	}
	if c.TimeScale == 0 {
		c.TimeScale = 1
	}
	if c.Keep == 0 {
		c.Keep = 1_000_000
	}
	if c.PushBatch < 1 || c.PushEvery < 0 || c.Keep < 1 {
		return c, errors.New("simulator: PushBatch, PushEvery and Keep must not be negative")
	}
	if !(c.TimeScale > 0) || math.IsInf(c.TimeScale, 0) {
		return c, fmt.Errorf("simulator: TimeScale %v: must be above 0", c.TimeScale)
	}
	if slices.ContainsFunc(c.PushRetry, func(d time.Duration) bool { return d < 0 }) {
		return c, errors.New("simulator: PushRetry: a wait is negative")
	}
	for _, r := range []struct {
		name  string
		value *Range
		unset Range
	}{
		{"Ring", &c.Ring, Range{3 * time.Second, 20 * time.Second}},
		{"Talk", &c.Talk, Range{5 * time.Second, 60 * time.Second}},
		{"ReceiptDelay", &c.ReceiptDelay, Range{time.Second, 10 * time.Second}},
	} {
		if *r.value == (Range{}) {
			*r.value = r.unset
		}
		if err := r.value.check(r.name); err != nil {
			return c, err
		}
	}
	for name, share := range map[string]float64{
		"Duplicate": c.Duplicate, "Reorder": c.Reorder, "LoseReceipts": c.LoseReceipts,
	} {
		if !(share >= 0 && share <= 1) {
			return c, fmt.Errorf("simulator: %s %v: a share is between 0 and 1", name, share)
		}
	}
	return c, errors.Join(checkAddress("PushURL", c.PushURL), checkAddress("CallbackURL", c.CallbackURL))
}

func (a Account) withDefaults(id string) (Account, error) {
	if id == "" || a.Secret == "" {
		return a, errors.New("simulator: an account needs an AccessKey id and a secret")
	}
	if a.Name == "" {
		a.Name = id
	}
	if a.Limit == 0 {
		a.Limit = defaultLimit
	}
	if a.Limit < 0 {
		return a, fmt.Errorf("simulator: account %s: limit %d is negative", a.Name, a.Limit)
	}
	return a, errors.Join(
		checkAddress("PushURL of account "+a.Name, a.PushURL),
		checkAddress("CallbackURL of account "+a.Name, a.CallbackURL))
}

func (r Range) check(name string) error {
	if r.Min < 0 || r.Max < r.Min {
		return fmt.Errorf("simulator: %s from %s to %s: must not be negative or upside down", name, r.Min, r.Max)
	}
	return nil
}

// checkAddress does not repeat the address in its error: its path may hold a secret.
func checkAddress(what, address string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("simulator: %s is not an http or https address", what)
	}
	return nil
}
