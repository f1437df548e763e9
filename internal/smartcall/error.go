package smartcall

import (
	"fmt"
	"strings"
	"time"
)

// Class says what one request did, and so what may be done next. There are three
// kinds: accepted; unknown, after which the phone may have rung and the request
// must not be made again; and all the others, which are a definite no.
type Class string

const (
	// ClassAccepted: the platform took the request and named the call. No Error has it.
	ClassAccepted Class = "accepted"
	// ClassThrottled: too many requests; wait, lower the pace of the whole account, try again.
	ClassThrottled Class = "throttled"
	// ClassRefused: this contact cannot be called with these values. When contact
	// after contact gets the same code, the campaign is at fault.
	ClassRefused Class = "refused"
	// ClassLater: this number was called too often; it may be called again after a
	// minute, an hour or a day. Other numbers are not concerned.
	ClassLater Class = "later"
	// ClassWindow: the platform does not permit calls at this time of day.
	ClassWindow Class = "window"
	// ClassCampaignFault: the campaign's own settings are wrong (audio, template, model).
	ClassCampaignFault Class = "campaign_fault"
	// ClassAccountFault: no call of this account can succeed until a person has mended
	// something: key, permission, balance, clock.
	ClassAccountFault Class = "account_fault"
	// ClassBug: our own request is malformed.
	ClassBug Class = "bug"
	// ClassUnsent: not one byte of the request left this machine.
	ClassUnsent Class = "unsent"
	// ClassUnknown: bytes of the request may have left, and no answer said clearly
	// what came of it. Whatever is not understood is unknown.
	ClassUnknown Class = "unknown"
)

// Classify is the one table that says what an answer of SmartCall means for the
// call. The code decides; the status only where a code is missing from the table,
// because the platform sends the same codes with HTTP 200, 400 and 500 (help
// documents 112502, 178344, "API error codes"). An empty code stands for an answer
// that has none.
//
// A code is a definite no only where the platform's pages leave no doubt that the
// request was stopped before a call was made. Every other answer, documented or
// not, is unknown: somebody's phone may be ringing.
func Classify(httpStatus int, code string) Class {
	if httpStatus != 200 && (httpStatus < 400 || httpStatus > 599) {
		return ClassUnknown // a redirect, or something that is not the platform
	}
	switch code {
	case "OK":
		if httpStatus == 200 {
			return ClassAccepted
		}
		return ClassUnknown

	// The answer does not tell whether a call was made.
	case "isv.VOICE_CALL_FAIL", // "starting the call failed": at which step is not said
		"isp.UNKNOWN", "isp.SYSTEM_ERROR", "isp.GATEWAY_ERROR", "SystemError",
		"InternalError", "ServiceUnavailable",
		// Our nonces are never used twice, so somebody repeated the request on its
		// way and the first copy may have been taken.
		"SignatureNonceUsed":
		return ClassUnknown

	case "Throttling", "Throttling.User", "Throttling.Api", "Rejected.Throttling":
		return ClassThrottled

	case "isv.BUSINESS_LIMIT_CONTROL":
		return ClassLater

	case "isv.VOICE_CALL_PERIOD_ERROR", "isv.VOICE_ROBOT_NOT_PERIOD":
		return ClassWindow

	case "isv.MOBILE_NUMBER_ILLEGAL", "Mobile.Invalid",
		"isv.DISPLAY_NUMBER_ILLEGAL", // the shown number or the called one
		"isv.COMPLAINT_REJECT", "ComplaintReject",
		"isv.BLACK_KEY_CONTROL_LIMIT",
		"isv.TEMPLATE_MISSING_PARAMETERS", "isv.TEMPLATE_PARAMS_ILLEGAL",
		"isv.PARAM_LENGTH_LIMIT", "isv.PARAM_NOT_SUPPORT_URL",
		"isv.INVALID_PARAMETERS", "InvalidParameters", "InvalidParameter":
		return ClassRefused

	case "isv.VOICE_FILE_ILLEGAL", "isv.TTS_TEMPLATE_ILLEGAL", "isv.TEMPLATE_ILLEGAL",
		"isv.ASR_MODEL_ERROR", "UserNotInWhitelist", "ContentRefused":
		return ClassCampaignFault

	case "isv.AMOUNT_NOT_ENOUGH", "isv.AMOUNT_NOT_ENOUG", // documented in both spellings
		"isv.OUT_OF_SERVICE", "isv.PRODUCT_UN_SUBSCRIPT", "isv.PRODUCT_UNSUBSCRIBE",
		"isv.ACCOUNT_NOT_EXISTS", "isv.ACCOUNT_ABNORMAL", "isv.BILLID_NOT_EXIST", "BillidNotExist",
		"isp.RAM_PERMISSION_DENY", "isp.RES_OWNER_ID_UNKNOWN", "isp.USER_NOT_EXIST", "isp.USER_ASSERT_NOT_EXIST",
		"UnauthorizedOperation", "Forbidden.RAM", "Forbidden.RiskControl", "NoPermission",
		"SignatureDoesNotMatch", "InvalidTimeStamp.Expired", "InsufficientBalance",
		"InvalidAction.NotFound", "InvalidApi.NotFound", "InvalidProduct.NotFound", "InvalidVersion",
		"InvalidProtocol.NeedSsl":
		return ClassAccountFault

	case "isv.MOBILE_COUNT_OVER_LIMIT", "isv.VOICE_ROBOT_CALLEE_LIMIT", "isv.INVALID_JSON_PARAM",
		"InvalidTimeStamp.Format", "IncompleteSignature", "MissingSecurityToken", "UnsupportedHTTPMethod",
		// These refuse a date, which only queries send.
		"InvalidParameter.date", "isv.QUERY_DATE_ILLEGAL", "100008.0":
		return ClassBug
	}

	// Families of codes of which the pages name only some.
	switch {
	case strings.HasPrefix(code, "Throttling."):
		return ClassThrottled
	case strings.HasPrefix(code, "InvalidAccessKeyId."), strings.HasPrefix(code, "InvalidSecurityToken."):
		return ClassAccountFault
	case strings.HasPrefix(code, "Missing") && httpStatus/100 == 4: // MissingCalledNumber and so on, from the gateway
		return ClassBug
	case httpStatus == 429 && code != "":
		return ClassThrottled
	}
	return ClassUnknown
}

// Error is why a request was not accepted, or why nobody knows. Its text holds no
// number, no URL and no secret, so it may be logged; Message may hold numbers and
// may not.
type Error struct {
	Class      Class
	Code       string    // the platform's code; "" when no answer was understood
	Message    string    // the platform's text for people, often Chinese; may hold numbers
	RequestID  string    // the platform's name for the request; "" when it did not answer
	HTTPStatus int       // 0 when there was no answer
	Written    int64     // bytes of the request that left; over TLS, of its encrypted form
	SentAt     time.Time // just before the first byte left; zero if none did
	Err        error     // the cause, when it was not a plain refusal by the platform

	action string
}

// Error tells the class, the code and the cause in one line.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", e.action, e.Class)
	if e.Code != "" {
		fmt.Fprintf(&b, ", code %s", printableCode(e.Code))
	}
	if e.HTTPStatus != 0 {
		fmt.Fprintf(&b, ", HTTP %d", e.HTTPStatus)
	}
	if looksLikeUUID(e.RequestID) {
		fmt.Fprintf(&b, ", request %s", e.RequestID)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// printableCode returns a code of the shape that the platform's codes have, and no
// other: whoever answers in the platform's place may have put a phone number there.
func printableCode(code string) string {
	digits := 0
	for i := range len(code) {
		switch c := code[i]; {
		case c >= '0' && c <= '9':
			if digits++; digits > 6 { // 100008.0 is the longest number in a documented code
				return "withheld (it holds a long number)"
			}
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '.', c == '_', c == '-':
			digits = 0
		default:
			return "withheld (it holds odd characters)"
		}
	}
	return code
}

// looksLikeUUID reports whether s has the shape of the platform's request ids. Any
// other text could be a phone number that somebody sent back to us.
func looksLikeUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9', c >= 'A' && c <= 'F', c >= 'a' && c <= 'f':
		default:
			return false
		}
	}
	return true
}
