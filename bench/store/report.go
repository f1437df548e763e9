package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/smartcall"
)

// report is a call whose receipt the platform will push.
type report struct {
	attempt campaign.AttemptID
	callID  string
}

// callID and requestID look like the platform's.
func callID(n int64) string {
	return strconv.FormatInt(116012854210+n, 10) + "^" + strconv.FormatInt(102816214210+n, 10)
}

func requestID(n int64) string {
	return fmt.Sprintf("%08X-0B5F-5C4B-8C61-%012X", uint32(n*2654435761), uint64(n)*40503&0xffffffffffff)
}

// body is a push of the platform: an array of VoiceReports of help document 112503.
func body(key campaign.OutIDKey, reports []report) []byte {
	began := time.Now().Add(-time.Minute)
	clock := func(after time.Duration) string { return began.Add(after).Format("2006-01-02 15:04:05") }
	b := []byte{'['}
	for i, r := range reports {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"call_id":"%s","out_id":"%s","caller":"%s","callee":"138%08d","originate_time":"%s","ring_time":"%s","start_time":"%s","end_time":"%s",`+
			`"duration":"%d","status_code":"200000","smart_status_code":"200100","status_msg":"执行完成","hangup_direction":"用户","toll_type":"UNKNOWN","voice_type":"asr"}`,
			r.callID, key.OutID(r.attempt), callerID, r.attempt.Contact(), clock(0), clock(2*time.Second), clock(9*time.Second), clock(39*time.Second), 5+int(r.attempt.Contact())%55)
	}
	return append(b, ']')
}

// receipts reads a push as the engine does.
func receipts(key campaign.OutIDKey, body []byte) []campaign.Receipt {
	items, _, err := smartcall.DecodePush(body)
	if err != nil {
		return []campaign.Receipt{{Raw: body, Unreadable: err.Error()}}
	}
	all := make([]campaign.Receipt, len(items))
	for i, item := range items {
		id, _ := key.AttemptID(item.OutID)
		all[i] = campaign.Receipt{
			Attempt: id, CallID: item.CallID, Key: item.Key(), Kind: string(item.Kind), Final: item.Final,
			Outcome: campaign.OutcomeOf(campaign.Report{
				StatusCode: item.StatusCode, SmartStatusCode: item.SmartStatusCode, EarlyMediaCode: item.EarlyMediaCode,
				VoiceType: item.VoiceType, Duration: item.Duration, AnsweredAt: item.StartTime,
			}),
			StatusCode: item.StatusCode, StatusMsg: campaign.MaskNumbers(item.StatusMsg), SmartStatusCode: item.SmartStatusCode, EarlyMediaCode: item.EarlyMediaCode,
			Hangup: item.HangupDirection, TalkSeconds: item.Duration, RangAt: item.RingTime, AnsweredAt: item.StartTime, EndedAt: item.EndTime,
			Raw: json.RawMessage(item.Raw),
		}
	}
	return all
}

// times are durations of the same thing.
type times []time.Duration

// at returns the time below which a share of them lies.
func (t times) at(share float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}
