package simulator

import (
	"strconv"
	"time"
)

// Message types of receipts (help directory of SmartCall).
const (
	voiceReport       = "VoiceReport"
	voiceCallReport   = "VoiceCallReport"
	voiceRecordReport = "VoiceRecordReport"
)

// china is the zone of all times in receipts: they are written without one.
var china = time.FixedZone("CST", 8*60*60)

func clockText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(china).Format("2006-01-02 15:04:05")
}

// outcomeReport is a VoiceReport, with the fields of a one-leg call. Numbers are
// strings on most pages and numbers on some, hence any.
type outcomeReport struct {
	CallID          string `json:"call_id"`
	OutID           string `json:"out_id"`
	Caller          string `json:"caller"`
	Callee          string `json:"callee"`
	OriginateTime   string `json:"originate_time"`
	RingTime        string `json:"ring_time,omitempty"`
	StartTime       string `json:"start_time"`
	EndTime         string `json:"end_time"`
	Duration        any    `json:"duration"`
	StatusCode      string `json:"status_code"`
	EarlyMediaCode  string `json:"early_media_code,omitempty"`
	SmartStatusCode string `json:"smart_status_code"`
	StatusMsg       string `json:"status_msg"`
	HangupDirection string `json:"hangup_direction"`
	TollType        string `json:"toll_type"`
	VoiceType       string `json:"voice_type"`
	DTMF            string `json:"dtmf,omitempty"`
}

// outcome makes the VoiceReport of an ended call. The dice choose between the forms
// that the pages show.
func (c *call) outcome() outcomeReport {
	r := outcomeReport{
		CallID: c.id(), OutID: c.outID, Caller: c.line.number, Callee: c.callee,
		OriginateTime: clockText(c.acceptedAt), RingTime: clockText(c.rangAt),
		StartTime: clockText(c.answeredAt), EndTime: clockText(c.endedAt),
		Duration:   strconv.Itoa(c.duration),
		StatusCode: c.fate.status, EarlyMediaCode: c.earlyMedia(), SmartStatusCode: c.fate.smart,
		StatusMsg: "执行完成", HangupDirection: "机器", TollType: "UNKNOWN", VoiceType: "asr",
	}
	if c.dice.chance(0.25, forShape) {
		r.Duration, r.VoiceType = c.duration, "voice"
	}
	switch {
	case !c.fate.answered && c.dice.chance(0.125, forHangup):
		r.EndTime = "" // as the page of 2019 says; newer samples fill it
	case c.fate.answered && !c.hungUp && (c.fate.status == "200001" || c.dice.chance(0.5, forHangup)):
		r.HangupDirection = "用户"
	}
	return r
}

// progressReport is a VoiceCallReport.
type progressReport struct {
	CallID     string `json:"call_id"`
	OutID      string `json:"out_id"`
	StatusCode string `json:"status_code"`
	Smart      string `json:"smart_status_code,omitempty"`
	StatusTime string `json:"status_time"`
}

// Progress codes of a one-leg call (help document 112804).
const (
	codeDialling = "200101"
	codeRinging  = "200201"
	codeAnswered = "200102"
	codeEnded    = "200100"
)

// recordReport is a VoiceRecordReport.
type recordReport struct {
	CallID     string `json:"call_id"`
	OutID      string `json:"out_id"`
	StartTime  string `json:"start_time"`
	EndTime    string `json:"end_time"`
	Duration   string `json:"duration"`
	StatusCode string `json:"status_code"`
	Smart      string `json:"smart_status_code"`
	BeginTime  string `json:"record_begin_time"`
	File       string `json:"record_file"`
}

// reportProgress plans the reports on a call that has just begun.
func (s *Simulator) reportProgress(c *call) {
	if !s.config.ProgressReports {
		return
	}
	s.progress(c, codeDialling, "", c.acceptedAt, forProgress)
	if !c.rangAt.IsZero() {
		s.progress(c, codeRinging, "", c.rangAt, forProgress+1)
	}
	if !c.answeredAt.IsZero() {
		s.progress(c, codeAnswered, "", c.answeredAt, forProgress+2)
	}
}

// reportEnd plans the reports on a call that has just ended.
func (s *Simulator) reportEnd(c *call, lost bool) {
	if s.config.ProgressReports {
		s.progress(c, codeEnded, c.fate.smart, c.endedAt, forProgress+3)
	}
	delay := c.dice.within(s.config.ReceiptDelay, forReceipt)
	if s.config.RecordReports && c.record && c.fate.answered {
		s.report(c, voiceRecordReport, c.recording(), c.endedAt, c.dice.within(s.config.ReceiptDelay, forRecord))
	}
	if lost {
		return
	}
	if c.dice.chance(s.config.Reorder, forReorder) {
		delay += 3 * s.config.ReceiptDelay.Max
	}
	s.report(c, voiceReport, c.outcome(), c.endedAt, delay)
	if c.dice.chance(s.config.Duplicate, forDuplicate) {
		s.report(c, voiceReport, c.outcome(), c.endedAt, delay+s.config.ReceiptDelay.Max)
	}
}

func (c *call) recording() recordReport {
	return recordReport{
		CallID: c.id(), OutID: c.outID, StartTime: clockText(c.answeredAt), EndTime: clockText(c.endedAt),
		Duration: strconv.Itoa(c.duration), StatusCode: c.fate.status, Smart: c.fate.smart, BeginTime: clockText(c.answeredAt),
		File: "https://example.com/record/" + strconv.Itoa(int(c.number)) + ".wav?Expires=0&Signature=x",
	}
}

func (s *Simulator) progress(c *call, code, smart string, at time.Time, p purpose) {
	r := progressReport{CallID: c.id(), OutID: c.outID, StatusCode: code, Smart: smart, StatusTime: clockText(at)}
	s.report(c, voiceCallReport, r, at, c.dice.within(s.config.ReceiptDelay, p))
}

// report hands a report to the pusher after its delay.
func (s *Simulator) report(c *call, kind string, body any, at time.Time, delay time.Duration) {
	s.busy.begin(1)
	s.tally.reported()
	item, text := Item{CallID: c.id(), OutID: c.outID}, marshal(body)
	s.agenda.at(at.Add(s.scaled(delay)), func() { s.pusher.add(batchKey{c.account, kind}, item, text) })
}
