package simulator

import "strings"

// refusal is an answer that says no: Code, Message and HTTP status as the platform's
// error pages document them. The package's own are never changed after they are made.
type refusal struct {
	status        int
	code, message string
	business      bool // answered by the service behind the gateway: no HostId
}

func gateway(status int, code, message string) *refusal {
	return &refusal{status: status, code: code, message: message}
}

func missing(name string) *refusal {
	return gateway(400, "Missing"+name, name+" is mandatory for this action.")
}

// The refusals that need no detail.
var (
	unknownKey   = gateway(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
	badSignature = gateway(400, "SignatureDoesNotMatch", "Specified signature is not matched with our calculation.")
	throttled    = gateway(400, "Throttling.User", "Request was denied due to user flow control.")
)

// documentedStatus lists the codes whose HTTP status the pages name and which do not
// come from the service behind the gateway (errors of common gateway, help documents
// 48054 and 434846).
var documentedStatus = map[string]int{
	"InternalError":               500,
	"ServiceUnavailable":          503,
	"InvalidAccessKeyId.NotFound": 404,
	"InvalidAction.NotFound":      404,
	"InvalidApi.NotFound":         404,
	"InvalidProduct.NotFound":     404,
	"InvalidVersion":              404,
	"Forbidden.RAM":               403,
	"Forbidden.RiskControl":       403,
	"NoPermission":                403,
	"UnsupportedHTTPMethod":       403,
	"isp.SYSTEM_ERROR":            500,
	"isp.GATEWAY_ERROR":           500,
	"SystemError":                 500,
	"isp.UNKNOWN":                 400,
}

// business makes a refusal of the service. Where no status is documented both forms
// occur, so the dice choose between HTTP 200 and 400. The message may hold the number:
// the platform's own do.
func business(code, message string, d dice) *refusal {
	status, documented := documentedStatus[code]
	switch {
	case documented:
	case strings.HasPrefix(code, "Throttling"):
		status = 400
	case d.chance(0.5, forStatus):
		status = 200
	default:
		status = 400
	}
	return &refusal{status: status, code: code, message: message, business: true}
}

// mayHaveRung says whether a code leaves open that a call was placed: the service broke
// down somewhere behind the gateway.
func mayHaveRung(code string) bool {
	switch code {
	case "InternalError", "ServiceUnavailable", "SystemError", "isv.VOICE_CALL_FAIL":
		return true
	}
	return strings.HasPrefix(code, "isp.") && code != "isp.RAM_PERMISSION_DENY" &&
		code != "isp.USER_NOT_EXIST" && code != "isp.USER_ASSERT_NOT_EXIST" && code != "isp.RES_OWNER_ID_UNKNOWN"
}
