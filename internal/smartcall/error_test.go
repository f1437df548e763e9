package smartcall

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Every code of the pages, with the class it must have whatever the status.
func TestClassifyDocumentedCodes(t *testing.T) {
	for class, codes := range map[Class][]string{
		ClassLater:  {"isv.BUSINESS_LIMIT_CONTROL"},
		ClassWindow: {"isv.VOICE_CALL_PERIOD_ERROR", "isv.VOICE_ROBOT_NOT_PERIOD"},
		ClassThrottled: {
			"Throttling", "Throttling.User", "Throttling.Api", "Throttling.Product", "Rejected.Throttling",
		},
		ClassRefused: {
			"isv.MOBILE_NUMBER_ILLEGAL", "isv.DISPLAY_NUMBER_ILLEGAL", "isv.COMPLAINT_REJECT", "ComplaintReject",
			"isv.BLACK_KEY_CONTROL_LIMIT", "isv.TEMPLATE_MISSING_PARAMETERS", "isv.TEMPLATE_PARAMS_ILLEGAL",
			"isv.PARAM_LENGTH_LIMIT", "isv.PARAM_NOT_SUPPORT_URL", "isv.INVALID_PARAMETERS", "InvalidParameters",
			"InvalidParameter", "Mobile.Invalid",
		},
		ClassCampaignFault: {
			"isv.VOICE_FILE_ILLEGAL", "isv.TTS_TEMPLATE_ILLEGAL", "isv.TEMPLATE_ILLEGAL", "isv.ASR_MODEL_ERROR",
			"UserNotInWhitelist", "ContentRefused",
		},
		ClassAccountFault: {
			"isv.AMOUNT_NOT_ENOUGH", "isv.AMOUNT_NOT_ENOUG", "isv.OUT_OF_SERVICE", "isv.PRODUCT_UN_SUBSCRIPT",
			"isv.PRODUCT_UNSUBSCRIBE", "isv.ACCOUNT_NOT_EXISTS", "isv.ACCOUNT_ABNORMAL", "isv.BILLID_NOT_EXIST",
			"BillidNotExist", "isp.RAM_PERMISSION_DENY", "isp.RES_OWNER_ID_UNKNOWN", "isp.USER_NOT_EXIST",
			"isp.USER_ASSERT_NOT_EXIST", "UnauthorizedOperation", "InvalidTimeStamp.Expired", "SignatureDoesNotMatch",
			"InvalidAccessKeyId.NotFound", "InvalidAccessKeyId.Inactive", "InvalidSecurityToken.Expired",
			"InvalidSecurityToken.Malformed", "Forbidden.RAM", "Forbidden.RiskControl", "NoPermission",
			"InsufficientBalance", "InvalidAction.NotFound", "InvalidApi.NotFound", "InvalidProduct.NotFound",
			"InvalidVersion", "InvalidProtocol.NeedSsl",
		},
		ClassBug: {
			"isv.MOBILE_COUNT_OVER_LIMIT", "isv.VOICE_ROBOT_CALLEE_LIMIT", "isv.INVALID_JSON_PARAM",
			"InvalidTimeStamp.Format", "IncompleteSignature", "MissingSecurityToken", "UnsupportedHTTPMethod",
			"InvalidParameter.date", "isv.QUERY_DATE_ILLEGAL", "100008.0",
		},
		ClassUnknown: {
			"isv.VOICE_CALL_FAIL", "isp.UNKNOWN", "isp.SYSTEM_ERROR", "isp.GATEWAY_ERROR", "SystemError",
			"ServiceUnavailable", "InternalError", "SignatureNonceUsed",
		},
	} {
		for _, code := range codes {
			for _, status := range []int{200, 400, 403, 404, 429, 500, 503} {
				if got := Classify(status, code); got != class {
					t.Errorf("Classify(%d, %q) = %s, want %s", status, code, got, class)
				}
			}
			for _, status := range []int{0, 100, 204, 301, 302, 307, 308, 600} {
				if got := Classify(status, code); got != ClassUnknown {
					t.Errorf("Classify(%d, %q) = %s, want unknown: the platform does not answer so", status, code, got)
				}
			}
		}
	}
}

func TestClassifyByStatus(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		want   Class
	}{
		{200, "OK", ClassAccepted},
		{202, "OK", ClassUnknown},
		{400, "OK", ClassUnknown},
		{500, "OK", ClassUnknown},
		{200, "ok", ClassUnknown},
		{200, "", ClassUnknown},
		{400, "", ClassUnknown},
		{429, "", ClassUnknown},
		{429, "TooManyRequests", ClassThrottled},
		{429, "isp.SYSTEM_ERROR", ClassUnknown}, // the code is known, and says nothing clear
		{400, "MissingCalledNumber", ClassBug},
		{404, "MissingVoiceCode", ClassBug},
		{500, "MissingCalledNumber", ClassUnknown},
		{200, "isv.NEVER_HEARD_OF", ClassUnknown},
		{400, "isv.NEVER_HEARD_OF", ClassUnknown},
		{400, "throttling.user", ClassUnknown},
		{400, "ThrottlingX", ClassUnknown},
		{400, "Permission.NotAuthorized", ClassUnknown}, // of another product
		{502, "BadGateway", ClassUnknown},
		{504, "", ClassUnknown},
	} {
		if got := Classify(c.status, c.code); got != c.want {
			t.Errorf("Classify(%d, %q) = %s, want %s", c.status, c.code, got, c.want)
		}
	}
}

func TestErrorTextHoldsNothingSecret(t *testing.T) {
	cause := errors.New("cause")
	for _, c := range []struct {
		err  *Error
		want string
	}{
		{
			&Error{action: "SmartCall", Class: ClassLater, Code: "isv.BUSINESS_LIMIT_CONTROL", HTTPStatus: 200,
				Message: "触发号码天级流控13800000000", RequestID: "5E0C6F9B-1F0A-4E6E-9A51-0C9B7A1D2E3F"},
			"SmartCall: later, code isv.BUSINESS_LIMIT_CONTROL, HTTP 200, request 5E0C6F9B-1F0A-4E6E-9A51-0C9B7A1D2E3F",
		},
		{
			&Error{action: "SmartCall", Class: ClassUnknown, Code: "for-13800000000", RequestID: "13800000000", HTTPStatus: 400},
			"SmartCall: unknown, code withheld (it holds a long number), HTTP 400",
		},
		{
			&Error{action: "SmartCall", Class: ClassUnknown, Code: "a b", Err: cause},
			"SmartCall: unknown, code withheld (it holds odd characters): cause",
		},
		{
			&Error{action: "QueryCallDetailByCallId", Class: ClassBug, Code: "100008.0"},
			"QueryCallDetailByCallId: bug, code 100008.0",
		},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		for _, verb := range []string{"%v", "%+v", "%s", "%q"} {
			if strings.Contains(fmt.Sprintf(verb, c.err), "138") {
				t.Errorf("%s prints the number", verb)
			}
		}
	}
	if !errors.Is(&Error{Err: cause}, cause) {
		t.Error("the cause is not to be found")
	}
}
