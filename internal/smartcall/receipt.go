package smartcall

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind tells the message types of receipts apart. They carry no name of their own;
// the fields tell. The zero Kind is a message of another type or product.
type Kind string

const (
	VoiceReport       Kind = "VoiceReport"       // the call's record
	VoiceCallReport   Kind = "VoiceCallReport"   // the call's progress
	VoiceRecordReport Kind = "VoiceRecordReport" // where the recording is
)

// Item is one receipt: help document 112503. Texts are as the platform gave them,
// numbers turned into texts; times are in +08:00 and zero when empty or odd. Caller
// and Callee may be masked. Raw is the receipt as it came and holds phone numbers and
// the address of a recording: keep it from logs. An Item prints as its ids.
type Item struct {
	Kind            Kind
	CallID          string
	OutID           string
	StatusCode      string
	StatusMsg       string
	SmartStatusCode string
	EarlyMediaCode  string
	VoiceType       string // voice, asr, or smart_transfer for a transferred leg
	HangupDirection string
	Caller, Callee  string
	Duration        int       // s; 0 when not connected
	StartTime       time.Time // answered
	EndTime         time.Time
	RingTime        time.Time
	StatusTime      time.Time // of progress
	// Final says that the receipt tells the outcome of the call. Progress and
	// recordings do not, nor does the record of a transferred leg.
	Final bool
	Raw   json.RawMessage
	// Err says why the receipt cannot be used. Nothing but Raw is set then.
	Err error

	moment string // the time that makes the receipt what it is, as given
}

// Format prints kind and ids alone, whatever the verb.
func (i Item) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, i.name()) }

// LogValue logs kind and ids alone.
func (i Item) LogValue() slog.Value { return slog.StringValue(i.name()) }

func (i Item) name() string { return fmt.Sprintf("receipt %s %q of %q", i.Kind, i.CallID, i.OutID) }

// Key is the same for two copies of one receipt and, but for chance in 2^64, for
// nothing else.
func (i Item) Key() [16]byte {
	h := sha256.New()
	part := func(s string) {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s)))) // so that "a"+"bc" is not "ab"+"c"
		_, _ = io.WriteString(h, s)
	}
	if i.Err != nil {
		part("unusable")
		part(string(i.Raw))
	} else {
		for _, s := range []string{string(i.Kind), i.CallID, i.OutID, i.VoiceType, i.StatusCode, i.moment} {
			part(s)
		}
	}
	return [16]byte(h.Sum(nil))
}

const (
	maxItems = 10_000
	maxDepth = 16 // brackets within brackets; receipts have 2
)

// DecodePush reads the body of a receipts' push: a JSON array of receipts, or one
// receipt alone as the queue has it. test is true, and items empty, for the message
// of the console's test button. A receipt that cannot be used becomes an Item with
// Err, so that it does not take the others along. An error means that the body as a
// whole is not what the platform sends, and says so without quoting it.
func DecodePush(body []byte) (items []Item, test bool, err error) {
	if isGBK(body) {
		return nil, false, errors.New("the push is not UTF-8 but looks like GBK")
	}
	if err := checkDepth(body); err != nil {
		return nil, false, err
	}
	if !json.Valid(body) {
		return nil, false, errors.New("the push is not one whole JSON value")
	}
	switch body = bytes.TrimSpace(body); body[0] {
	case '{':
		if o, err := splitObject(body); err == nil && len(o) == 1 && string(o["json"]) == `"test-content"` {
			return nil, true, nil
		}
		return []Item{decodeItem(bytes.Clone(body))}, false, nil
	case '[':
	default:
		return nil, false, errors.New("the push is neither a JSON array nor an object")
	}
	splitArray(body, func(raw []byte) bool {
		items = append(items, decodeItem(bytes.Clone(raw))) // or one kept Item would keep the whole push
		return len(items) <= maxItems
	})
	if len(items) > maxItems {
		return nil, false, fmt.Errorf("the push has more than %d receipts", maxItems)
	}
	return items, false, nil
}

// decodeItem reads a value that is known to be valid JSON.
func decodeItem(raw json.RawMessage) Item {
	unusable := func(err error) Item { return Item{Raw: raw, Err: err} }
	fields, err := splitObject(raw)
	if err != nil {
		return unusable(err)
	}
	if !storable(raw) {
		return unusable(errors.New("a text holds a NUL or half a surrogate pair"))
	}
	r := record{fields: fields}
	item := Item{
		Kind:            kindOf(&r),
		CallID:          r.text("call_id"),
		OutID:           r.text("out_id"),
		StatusCode:      r.text("status_code"),
		StatusMsg:       r.text("status_msg"),
		SmartStatusCode: r.text("smart_status_code"),
		EarlyMediaCode:  r.text("early_media_code"),
		VoiceType:       r.text("voice_type"),
		HangupDirection: r.text("hangup_direction"),
		Caller:          r.text("caller"),
		Callee:          r.text("callee"),
		Duration:        r.seconds("duration"),
		StartTime:       r.time("start_time"),
		EndTime:         r.time("end_time"),
		RingTime:        r.time("ring_time"),
		StatusTime:      r.time("status_time"),
		Raw:             raw,
		moment:          r.text("end_time"),
	}
	if item.Kind == VoiceCallReport {
		item.moment = r.text("status_time")
	}
	if !r.has("ring_time") {
		item.RingTime = r.time("b_ring_time") // the callee's leg, in reports by leg
	}
	if r.err != nil {
		return unusable(r.err)
	}
	item.Final = item.Kind == VoiceReport && item.VoiceType != "smart_transfer" &&
		(item.StatusCode != "" || item.SmartStatusCode != "") && !isProgress(item.StatusCode)
	return item
}

// kindOf tells the type of a message by the fields that only it has (help pages
// VoiceReport, VoiceCallReport, VoiceRecordReport), then by its code.
func kindOf(r *record) Kind {
	switch {
	case r.has("record_file") || r.has("record_begin_time"):
		return VoiceRecordReport
	case r.has("status_time"):
		return VoiceCallReport
	case r.has("duration") || r.has("end_time"):
		return VoiceReport
	case r.has("status_code") && isProgress(r.text("status_code")):
		return VoiceCallReport
	case r.has("status_code") || r.has("smart_status_code"):
		return VoiceReport
	}
	return ""
}

// isProgress reports whether a status code (help document 112804) says how far a
// call is, and not how it ended.
func isProgress(code string) bool {
	switch code {
	case "200100", "200101", "200102", "200103", "200201", "200202", "300000",
		"200": // queries only: the final code is not ready
		return true
	}
	return false
}

// checkDepth refuses a document with too many brackets within brackets before a
// parser spends memory on it.
func checkDepth(b []byte) error {
	depth, inText := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '[' || c == '{':
			if depth++; depth > maxDepth {
				return fmt.Errorf("the push has more than %d brackets within brackets", maxDepth)
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return nil
}

// storable reports whether the texts of a valid JSON document can be kept in a
// database, which takes neither NUL nor half of a surrogate pair.
func storable(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if i++; raw[i] != 'u' {
			continue
		}
		switch escape := strings.ToLower(string(raw[i+1 : i+5])); {
		case escape == "0000", escape >= "dc00" && escape <= "dfff":
			return false
		case escape >= "d800" && escape <= "dbff":
			low := ""
			if i+11 <= len(raw) && raw[i+5] == '\\' && raw[i+6] == 'u' {
				low = strings.ToLower(string(raw[i+7 : i+11]))
			}
			if low < "dc00" || low > "dfff" {
				return false
			}
			i += 6
		}
		i += 4
	}
	return true
}

// isGBK reports whether b is a text in GBK: not UTF-8, while all its high bytes pair
// up as GBK has them. A receipt damaged on its way does not, and nor does an array
// of which only one receipt is in GBK, as long as another one has Chinese in UTF-8:
// these are for decodeItem to refuse one by one.
func isGBK(b []byte) bool {
	if utf8.Valid(b) {
		return false
	}
	for i := 0; i < len(b); i++ {
		if b[i] < utf8.RuneSelf {
			continue
		}
		if r, size := utf8.DecodeRune(b[i:]); size == 3 && r != utf8.RuneError {
			return false
		}
		if b[i] == 0x80 || b[i] == 0xff || i+1 == len(b) || b[i+1] < 0x40 || b[i+1] == 0x7f || b[i+1] == 0xff {
			return false
		}
		i++
	}
	return true
}
