package simulator

import (
	"net/http"
	"strconv"
	"time"
)

const (
	// prodSmartCall is the product id of intelligent outbound calls (public metadata).
	prodSmartCall = "11030000180001"
	// recordAfter is how long after its end a call's record appears: about 40 s were seen.
	recordAfter = 40 * time.Second
	// finalAfter is when every record has its final code; until then some say 200.
	finalAfter = 3 * time.Minute
)

// callDetail is the JSON inside Data of QueryCallDetailByCallId.
type callDetail struct {
	CallID           string `json:"callId"`
	Caller           string `json:"caller"`
	Callee           string `json:"callee"`
	CalleeShowNumber string `json:"calleeShowNumber"`
	GmtCreate        string `json:"gmtCreate"`
	BRingTime        string `json:"bRingTime,omitempty"`
	BStartTime       string `json:"bStartTime,omitempty"`
	BEndTime         string `json:"bEndTime,omitempty"`
	StartDate        string `json:"startDate"`
	EndDate          string `json:"endDate"`
	Duration         int    `json:"duration"`
	State            string `json:"state"`
	StateDesc        string `json:"stateDesc"`
	HangupDirection  int    `json:"hangupDirection"`
}

// query answers QueryCallDetailByCallId. A call that is not known, is not over, has
// another product or was not made on that day gives OK without Data.
func (s *Simulator) query(env *envelope, who caller, arrival time.Time, e *Entry) (answer, *Entry) {
	e.CallID = env.all.get("CallId")
	refuse := func(verdict string, no *refusal) (answer, *Entry) {
		e.Verdict, e.Code = verdict, no.code
		return no.answer(env.host), e
	}
	if !who.account.queries.admit(arrival.Sub(s.began), false) {
		return refuse(VerdictThrottled, throttled)
	}
	for _, name := range []string{"CallId", "ProdId", "QueryDate"} {
		if env.all.get(name) == "" {
			return refuse(VerdictRefused, missing(name))
		}
	}
	millis, err := strconv.ParseInt(env.all.get("QueryDate"), 10, 64)
	if err != nil {
		return refuse(VerdictRefused, gateway(400, "InvalidParameter.date", "QueryDate is not a number of milliseconds."))
	}
	e.Verdict, e.Code = VerdictAccepted, "OK"
	body := struct {
		Code, Message, RequestId string
		Data                     string `json:",omitempty"`
	}{"OK", "OK", requestID(), ""}
	c, known := s.exchange.find(e.CallID)
	if known && c.account == who.account && env.all.get("ProdId") == prodSmartCall && coversDay(time.UnixMilli(millis), c.acceptedAt) {
		if detail, ready := s.detail(&c, arrival); ready {
			e.OutID = c.outID
			body.Data = string(marshal(detail))
		}
	}
	return answer{status: http.StatusOK, body: marshal(body)}, e
}

// coversDay is the stricter reading of QueryDate: the call was on the same day, and
// within the 24 hours after the instant.
func coversDay(from, at time.Time) bool {
	y1, m1, d1 := from.In(china).Date()
	y2, m2, d2 := at.In(china).Date()
	return y1 == y2 && m1 == m2 && d1 == d2 && !at.Before(from)
}

func (s *Simulator) detail(c *call, now time.Time) (callDetail, bool) {
	if !c.ended || now.Before(c.endedAt.Add(s.scaled(recordAfter))) {
		return callDetail{}, false
	}
	d := callDetail{
		CallID: c.id(), Caller: c.line.number, Callee: c.callee, CalleeShowNumber: c.line.number,
		GmtCreate: clockText(c.acceptedAt), BRingTime: clockText(c.rangAt),
		BStartTime: clockText(c.answeredAt), BEndTime: clockText(c.endedAt),
		Duration: c.duration, State: c.fate.status, StateDesc: "用户未接听",
	}
	if c.fate.answered {
		d.StartDate, d.EndDate, d.StateDesc = clockText(c.answeredAt), clockText(c.endedAt), "用户接听"
	}
	if c.dice.chance(0.1, forQuery) && now.Before(c.endedAt.Add(s.scaled(finalAfter))) {
		d.State = "200" // final code not assembled yet
	}
	return d, true
}
