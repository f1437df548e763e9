package smartcall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"
)

var (
	// ErrNotReady means that the platform knows the call but not yet its outcome; ask
	// again 3 to 5 minutes after the call's end.
	ErrNotReady = errors.New("the call's outcome is not ready yet")
	// ErrNoRecord means that the platform has no record of the call on that day: it may
	// not be written yet (about 40 s after the call's end), or belong to the next day.
	ErrNoRecord = errors.New("no record of the call on that day")
)

// prodID names SmartCall among the products that QueryCallDetailByCallId serves.
const prodID = "11030000180001"

// beijing is the zone of all the platform's times, which name none. It has had no
// daylight saving since 1991, so no zone data is needed.
var beijing = time.FixedZone("+08:00", 8*60*60)

// CallDetail is the platform's record of one call: help document 393529. Times are
// in +08:00, zero when empty or odd. It prints as its CallID.
type CallDetail struct {
	CallID           string
	Caller           string
	CallerShowNumber string
	Callee           string
	CalleeShowNumber string
	State            string // a code as in the receipts
	StateDesc        string
	HangupDirection  string          // "0": the callee hung up
	Duration         int             // s; 0 = not connected
	CreatedAt        time.Time       // gmtCreate: the platform took the request
	StartDate        time.Time       // answered
	EndDate          time.Time       //
	ARingTime        time.Time       // leg A
	AEndTime         time.Time       //
	BRingTime        time.Time       // leg B, the callee
	BStartTime       time.Time       //
	BEndTime         time.Time       //
	Raw              json.RawMessage // the record as it came
}

// Format prints the CallID alone, whatever the verb.
func (d CallDetail) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "call "+d.CallID) }

// LogValue logs the CallID alone.
func (d CallDetail) LogValue() slog.Value { return slog.StringValue("call " + d.CallID) }

// QueryCallDetailByCallId asks for the record of a call that was requested on the
// given day, Beijing time. For a call just before midnight ask for the next day too.
// The platform permits 100 of these a second. The error is always an *Error; it wraps
// ErrNotReady or ErrNoRecord when that is the answer. Asking again is always harmless.
func (c *Client) QueryCallDetailByCallId(ctx context.Context, callID string, day time.Time) (*CallDetail, error) {
	const action = "QueryCallDetailByCallId"
	if callID == "" {
		return nil, &Error{action: action, Class: ClassBug, Err: errors.New("CallId is empty")}
	}
	y, m, d := day.In(beijing).Date()
	var q query
	q.text("CallId", callID)
	q.text("ProdId", prodID)
	q.text("QueryDate", strconv.FormatInt(time.Date(y, m, d, 0, 0, 0, 0, beijing).UnixMilli(), 10))
	parameters, err := q.finish()
	if err != nil {
		return nil, &Error{action: action, Class: ClassBug, Err: err}
	}
	got, failure := c.do(ctx, action, parameters, time.Now().Add(c.timeout))
	if failure != nil {
		switch failure.Code {
		case "InvalidParameter.date", "isv.QUERY_DATE_ILLEGAL", "100008.0":
			failure.Err = ErrNoRecord
		}
		return nil, failure
	}
	if got.data == "" {
		return nil, got.fail(action, ClassUnknown, ErrNoRecord)
	}
	detail, err := decodeDetail([]byte(got.data))
	if err != nil {
		return nil, got.fail(action, ClassUnknown, fmt.Errorf("the record is not understood: %w", err))
	}
	if detail.State == "200" || detail.State == "" {
		return nil, got.fail(action, ClassUnknown, ErrNotReady)
	}
	return detail, nil
}

func decodeDetail(data []byte) (*CallDetail, error) {
	fields, err := decodeObject(data)
	if err != nil {
		return nil, err
	}
	r := record{fields: fields}
	d := &CallDetail{
		CallID:           r.text("callId"),
		Caller:           r.text("caller"),
		CallerShowNumber: r.text("callerShowNumber"),
		Callee:           r.text("callee"),
		CalleeShowNumber: r.text("calleeShowNumber"),
		State:            r.text("state"),
		StateDesc:        r.text("stateDesc"),
		HangupDirection:  r.text("hangupDirection"),
		Duration:         r.seconds("duration"),
		CreatedAt:        r.time("gmtCreate"),
		StartDate:        r.time("startDate"),
		EndDate:          r.time("endDate"),
		ARingTime:        r.time("aRingTime"),
		AEndTime:         r.time("aEndTime"),
		BRingTime:        r.time("bRingTime"),
		BStartTime:       r.time("bStartTime"),
		BEndTime:         r.time("bEndTime"),
		Raw:              json.RawMessage(data),
	}
	return d, r.err
}
