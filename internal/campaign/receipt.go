package campaign

import "time"

// Report is what the platform says about a call, in a receipt or in the answer to
// a query: the parts that decide the outcome, as it wrote them (help document 112503).
type Report struct {
	StatusCode      string
	SmartStatusCode string
	EarlyMediaCode  string
	// VoiceType is "voice" or "asr" for the call itself, "smart_transfer" for a leg
	// to which it was transferred.
	VoiceType  string
	Duration   int       // seconds
	AnsweredAt time.Time // zero: not answered
}

// statusOutcomes are the status codes of receipts (help document 55085, and SIP
// codes seen beside them). Codes that only tell progress map to no outcome.
var statusOutcomes = map[string]Outcome{
	"200000": Answered, // heard to the end
	"200001": Answered, // hung up early
	"200002": Busy,
	"200003": NoAnswer,
	"200004": InvalidNumber,
	"200005": Unreachable, // rejected, marked or out of order: the code does not say which
	"200006": ConfigError, // the voice file could not be played
	"200007": Unreachable,
	"200008": Answered, // no key pressed
	"200010": PoweredOff,
	"200011": Suspended,
	"200012": LineFault,
	"200100": "",
	"200101": "",
	"200102": "",
	"200103": "",
	"200104": ConfigError, // the caller is restricted
	"200105": Blocked,
	"200111": Rejected,
	"200112": Busy,
	"200113": NoAnswer,
	"200116": InvalidNumber,
	"200117": ConfigError, // the number shown is not allowed
	"200118": Blocked,     // not at this time of day
	"200119": Blocked,     // too often
	"200120": Blocked,     // outside the permitted area
	"200121": LineFault,   // over the concurrency of the line
	"200130": UnknownReason,
	"200201": "",
	"200202": "",
	"300000": "",
	"9996":   LineFault,
	"999999": LineFault,
	"500":    LineFault,
	"400":    LineFault,
	"476":    ConfigError, // the number shown was taken back
	"482":    Unreachable,
	"408":    NoAnswer,
	"487":    NoAnswer,
	"502":    LineFault,
	"200":    "", // a query's way to say: not ready yet
}

// earlyMediaOutcomes are the announcements heard before an answer (help document
// 112804). 200130, another announcement, says nothing.
var earlyMediaOutcomes = map[string]Outcome{
	"200002": Busy,
	"200003": NoAnswer,
	"200004": InvalidNumber,
	"200005": Unreachable,
	"200007": Unreachable,
	"200010": PoweredOff,
	"200011": Suspended,
	"200012": LineFault,
}

// smartOutcomes are the words of smart_status_code (help page "smart status
// code"). OTHER and
// OTHERS say nothing; CALL_FORWARDING depends on the duration.
var smartOutcomes = map[string]Outcome{
	"ANSWERED":             Answered,
	"CANCEL":               LineFault,
	"CALL_REJECTED":        Rejected,
	"INCOMING_CALL_BARRED": Blocked,
	"INVALID_NUMBER":       InvalidNumber,
	"NO_ANSWER":            NoAnswer,
	"NO_USER_RESPONDING":   Unreachable,
	"NETWORK_BUSY":         LineFault,
	"OPERATOR_BLOCK":       Blocked,
	"POWERED_OFF":          PoweredOff,
	"SUSPEND":              Suspended,
	"USER_BUSY":            Busy,
	"UNAVAILABLE":          Unreachable,
	"INTELLIGENT_ANSWER":   Answered,
}

// vague is the code of a call that failed for one of many reasons: anything that
// names one is better.
const vague = "200005"

// OutcomeOf derives the outcome by an order of trust that is ours: answered
// by its code or by its length, then the announcement heard, then the smart status,
// then the status code. It returns "" for a report that tells progress only, or that
// is about a leg to which the call was transferred: it says nothing of the contact.
func OutcomeOf(r Report) Outcome {
	if r.VoiceType == "smart_transfer" {
		return ""
	}
	status, documented := statusOutcomes[r.StatusCode]
	if status == Answered || r.Duration > 0 && !r.AnsweredAt.IsZero() {
		return Answered
	}
	early := earlyMediaOutcomes[r.EarlyMediaCode]
	if early != "" && r.EarlyMediaCode != vague {
		return early
	}
	if smart := smartOutcome(r); smart != "" {
		return smart
	}
	switch {
	case early != "":
		return early
	case documented:
		return status
	case r.Duration > 0:
		return Answered
	}
	return UnknownReason
}

func smartOutcome(r Report) Outcome {
	if r.SmartStatusCode != "CALL_FORWARDING" {
		return smartOutcomes[r.SmartStatusCode]
	}
	if r.Duration > 0 {
		return Answered
	}
	return NoAnswer
}
