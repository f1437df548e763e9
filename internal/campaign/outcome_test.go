package campaign

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var answeredAt = time.Date(2026, 3, 2, 10, 0, 12, 0, time.UTC)

func TestOutcomeOf(t *testing.T) {
	for _, tt := range []struct {
		report Report
		want   Outcome
	}{
		// Every status code of help document 55085 and those of other products, alone.
		{Report{StatusCode: "200000"}, Answered},
		{Report{StatusCode: "200001"}, Answered},
		{Report{StatusCode: "200002"}, Busy},
		{Report{StatusCode: "200003"}, NoAnswer},
		{Report{StatusCode: "200004"}, InvalidNumber},
		{Report{StatusCode: "200005"}, Unreachable},
		{Report{StatusCode: "200006"}, ConfigError},
		{Report{StatusCode: "200007"}, Unreachable},
		{Report{StatusCode: "200008"}, Answered},
		{Report{StatusCode: "200010"}, PoweredOff},
		{Report{StatusCode: "200011"}, Suspended},
		{Report{StatusCode: "200012"}, LineFault},
		{Report{StatusCode: "200100"}, ""},
		{Report{StatusCode: "200101"}, ""},
		{Report{StatusCode: "200102"}, ""},
		{Report{StatusCode: "200103"}, ""},
		{Report{StatusCode: "200104"}, ConfigError},
		{Report{StatusCode: "200105"}, Blocked},
		{Report{StatusCode: "200111"}, Rejected},
		{Report{StatusCode: "200112"}, Busy},
		{Report{StatusCode: "200113"}, NoAnswer},
		{Report{StatusCode: "200116"}, InvalidNumber},
		{Report{StatusCode: "200117"}, ConfigError},
		{Report{StatusCode: "200118"}, Blocked},
		{Report{StatusCode: "200119"}, Blocked},
		{Report{StatusCode: "200120"}, Blocked},
		{Report{StatusCode: "200121"}, LineFault},
		{Report{StatusCode: "200130"}, UnknownReason},
		{Report{StatusCode: "200201"}, ""},
		{Report{StatusCode: "200202"}, ""},
		{Report{StatusCode: "300000"}, ""},
		{Report{StatusCode: "9996"}, LineFault},
		{Report{StatusCode: "999999"}, LineFault},
		{Report{StatusCode: "500"}, LineFault},
		{Report{StatusCode: "400"}, LineFault},
		{Report{StatusCode: "476"}, ConfigError},
		{Report{StatusCode: "482"}, Unreachable},
		{Report{StatusCode: "408"}, NoAnswer},
		{Report{StatusCode: "487"}, NoAnswer},
		{Report{StatusCode: "502"}, LineFault},
		{Report{StatusCode: "200"}, ""},
		{Report{StatusCode: "123456"}, UnknownReason},
		{Report{StatusCode: "123456", Duration: 5}, Answered},
		{Report{}, UnknownReason},
		// Every announcement of help document 112804, beside a code that says less.
		{Report{StatusCode: "200005", EarlyMediaCode: "200002"}, Busy},
		{Report{StatusCode: "200005", EarlyMediaCode: "200003"}, NoAnswer},
		{Report{StatusCode: "200005", EarlyMediaCode: "200004"}, InvalidNumber},
		{Report{StatusCode: "200003", EarlyMediaCode: "200005"}, Unreachable},
		{Report{StatusCode: "200005", EarlyMediaCode: "200007"}, Unreachable},
		{Report{StatusCode: "200005", EarlyMediaCode: "200010"}, PoweredOff},
		{Report{StatusCode: "200005", EarlyMediaCode: "200011"}, Suspended},
		{Report{StatusCode: "200005", EarlyMediaCode: "200012"}, LineFault},
		{Report{StatusCode: "200003", EarlyMediaCode: "200130"}, NoAnswer},
		{Report{StatusCode: "200003", EarlyMediaCode: "123456"}, NoAnswer},
		// Every word of smart_status_code.
		{Report{StatusCode: "200005", SmartStatusCode: "ANSWERED"}, Answered},
		{Report{StatusCode: "200005", SmartStatusCode: "CANCEL"}, LineFault},
		{Report{StatusCode: "200005", SmartStatusCode: "CALL_REJECTED"}, Rejected},
		{Report{StatusCode: "200005", SmartStatusCode: "CALL_FORWARDING"}, NoAnswer},
		{Report{StatusCode: "200005", SmartStatusCode: "CALL_FORWARDING", Duration: 3}, Answered},
		{Report{StatusCode: "200005", SmartStatusCode: "INCOMING_CALL_BARRED"}, Blocked},
		{Report{StatusCode: "200005", SmartStatusCode: "INVALID_NUMBER"}, InvalidNumber},
		{Report{StatusCode: "200005", SmartStatusCode: "NO_ANSWER"}, NoAnswer},
		{Report{StatusCode: "200005", SmartStatusCode: "NO_USER_RESPONDING"}, Unreachable},
		{Report{StatusCode: "200005", SmartStatusCode: "NETWORK_BUSY"}, LineFault},
		{Report{StatusCode: "200005", SmartStatusCode: "OPERATOR_BLOCK"}, Blocked},
		{Report{StatusCode: "200005", SmartStatusCode: "POWERED_OFF"}, PoweredOff},
		{Report{StatusCode: "200005", SmartStatusCode: "SUSPEND"}, Suspended},
		{Report{StatusCode: "200005", SmartStatusCode: "USER_BUSY"}, Busy},
		{Report{StatusCode: "200003", SmartStatusCode: "UNAVAILABLE"}, Unreachable},
		{Report{StatusCode: "200003", SmartStatusCode: "OTHER"}, NoAnswer},
		{Report{StatusCode: "200003", SmartStatusCode: "OTHERS"}, NoAnswer},
		{Report{SmartStatusCode: "OTHER"}, UnknownReason},
		{Report{StatusCode: "200005", SmartStatusCode: "INTELLIGENT_ANSWER"}, Answered},
		{Report{StatusCode: "200003", SmartStatusCode: "A_NEW_WORD"}, NoAnswer},
		// The order of trust.
		{Report{StatusCode: "200000", EarlyMediaCode: "200010", SmartStatusCode: "NO_ANSWER"}, Answered},
		{Report{StatusCode: "200003", EarlyMediaCode: "200010", Duration: 9, AnsweredAt: answeredAt}, Answered},
		{Report{StatusCode: "200003", Duration: 9}, NoAnswer},
		{Report{StatusCode: "200003", AnsweredAt: answeredAt}, NoAnswer},
		{Report{StatusCode: "200003", EarlyMediaCode: "200010", SmartStatusCode: "USER_BUSY"}, PoweredOff},
		{Report{StatusCode: "200003", EarlyMediaCode: "200005", SmartStatusCode: "CALL_REJECTED"}, Rejected},
		{Report{StatusCode: "200100", EarlyMediaCode: "200010"}, PoweredOff},
		// The kinds of voice.
		{Report{StatusCode: "200003", VoiceType: "voice"}, NoAnswer},
		{Report{StatusCode: "200000", VoiceType: "asr"}, Answered},
		{Report{StatusCode: "200000", VoiceType: "smart_transfer", Duration: 9, AnsweredAt: answeredAt}, ""},
	} {
		got := OutcomeOf(tt.report)
		if got != tt.want {
			t.Errorf("OutcomeOf(%+v) = %q, want %q", tt.report, got, tt.want)
		}
		if got != "" && !slices.Contains(Outcomes, got) {
			t.Errorf("OutcomeOf(%+v) = %q, which is not in the closed list", tt.report, got)
		}
	}
}

func TestRetryPolicyDelay(t *testing.T) {
	p := RetryPolicy{Busy: {Duration(5 * time.Minute), Duration(2 * time.Hour)}}
	for _, tt := range []struct {
		outcome Outcome
		attempt int
		want    time.Duration
		ok      bool
	}{
		{Busy, 1, 5 * time.Minute, true},
		{Busy, 2, 2 * time.Hour, true},
		{Busy, 3, 0, false},
		{Busy, 0, 0, false},
		{NoAnswer, 1, 0, false},
		{Answered, 1, 0, false},
	} {
		if got, ok := p.Delay(tt.outcome, tt.attempt); got != tt.want || ok != tt.ok {
			t.Errorf("Delay(%s, %d) = %v, %v, want %v, %v", tt.outcome, tt.attempt, got, ok, tt.want, tt.ok)
		}
	}
	if _, ok := RetryPolicy(nil).Delay(Busy, 1); ok {
		t.Error("no policy retries")
	}
	for _, o := range Outcomes {
		never := o == Answered || o == InvalidNumber || o == ConfigError
		if err := retryable(o); (err != nil) != never || never && !strings.Contains(err.Error(), "cannot be retried: ") {
			t.Errorf("retryable(%s) = %v", o, err)
		}
	}
}
