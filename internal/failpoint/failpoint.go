// Package failpoint names the moments between two steps at which a crash would do the
// most harm, so that a test can crash a process exactly there. In an ordinary build Hit
// does nothing and costs nothing. Built with the tag "failpoint", a process reads from
// the environment variable DIALER_FAILPOINTS what to do where.
package failpoint

// Name is one moment. The words say between which two steps it lies.
type Name string

// Around the request of an attempt, in the order in which they are passed.
const (
	BeforeIntent Name = "before_intent" // contacts chosen, nothing written yet
	AfterIntent  Name = "after_intent"  // the intents are committed, no request has begun
	BeforeWrite  Name = "before_write"  // the next steps look at the clock and write the first byte of a request
	AfterWrite   Name = "after_write"   // bytes of a request left, no answer was read
	AfterReply   Name = "after_reply"   // the answer was read and is in no table yet
	AfterRecord  Name = "after_record"  // the response is committed
)

// Around a pushed receipt.
const (
	AfterStore  Name = "after_store"  // the push is committed and not answered yet
	AfterSpool  Name = "after_spool"  // the push is synced to disk and not answered yet
	BeforeApply Name = "before_apply" // the next step applies stored pushes
)

// Of an import: passed once for each contact.
const DuringImport Name = "during_import"
