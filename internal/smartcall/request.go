package smartcall

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"unicode/utf8"
)

// Request is one SmartCall: help documents 114042 and 393526. CalledShowNumber,
// CalledNumber and VoiceCode are required; an empty text and a nil pointer are not
// sent. Ranges are the platform's promise and are checked where a campaign is made,
// not here. A Request prints as its OutID, so that no number gets into a log.
type Request struct {
	CalledShowNumber    string // the bought number that is shown to the callee
	CalledNumber        string // the callee, one mainland number
	VoiceCode           string // what is played first: voice ids, $variables$, URLs, comma-separated
	VoiceCodeParam      string // JSON object with the variables of VoiceCode
	RecordFlag          *bool
	Volume              *int // -4..4
	AsrModelID          string
	AsrBaseID           string // customer_service_8k or dialect_customer_service_8k
	PauseTime           *int   // ms, 300..1200: the pause that ends a sentence
	MuteTime            *int   // ms, 1000..20000: the silence after which the platform acts
	ActionCodeBreak     *bool  // may the callee interrupt the audio
	ActionCodeTimeBreak *int   // ms of speech that interrupt the audio
	OutID               string // 1..15 bytes, comes back in the receipts
	DynamicID           string // comes back in the callbacks
	EarlyMediaAsr       *bool  // recognise the announcement before the answer
	SessionTimeout      *int   // s, at most 3600
	TtsStyle            string
	TtsVolume           *int  // 0..100
	TtsSpeed            *int  // -200..200
	TtsConf             *bool // do the three Tts values above count
	StreamAsr           *int  // 0 or 1
	BackgroundFileCode  string
	EnableITN           *bool // digits instead of spoken numerals in the callback's text
}

// Format prints the OutID alone, whatever the verb.
func (r Request) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "SmartCall "+r.OutID) }

// LogValue logs the OutID alone.
func (r Request) LogValue() slog.Value { return slog.StringValue("SmartCall " + r.OutID) }

// maxQuery is the longest query we send. It goes out in one write together with
// its headers (see Transport.WriteBufferSize), which keeps the time between the
// check of send-by and the last byte short.
const maxQuery = 16 << 10

// complete names a required parameter that is missing, whoever forgot it.
func (r *Request) complete() error {
	switch "" {
	case r.CalledShowNumber:
		return errors.New("CalledShowNumber is empty")
	case r.CalledNumber:
		return errors.New("CalledNumber is empty")
	case r.VoiceCode:
		return errors.New("VoiceCode is empty")
	}
	return nil
}

// query returns the parameters as they are signed and sent, or says what about this
// contact's values cannot be sent.
func (r *Request) query() (string, error) {
	q := query{buf: make([]byte, 0, 512)}
	q.flag("ActionCodeBreak", r.ActionCodeBreak)
	q.number("ActionCodeTimeBreak", r.ActionCodeTimeBreak)
	q.text("AsrBaseId", r.AsrBaseID)
	q.text("AsrModelId", r.AsrModelID)
	q.text("BackgroundFileCode", r.BackgroundFileCode)
	q.text("CalledNumber", r.CalledNumber)
	q.text("CalledShowNumber", r.CalledShowNumber)
	q.text("DynamicId", r.DynamicID)
	q.flag("EarlyMediaAsr", r.EarlyMediaAsr)
	q.flag("EnableITN", r.EnableITN)
	q.number("MuteTime", r.MuteTime)
	q.text("OutId", r.OutID)
	q.number("PauseTime", r.PauseTime)
	q.flag("RecordFlag", r.RecordFlag)
	q.number("SessionTimeout", r.SessionTimeout)
	q.number("StreamAsr", r.StreamAsr)
	q.flag("TtsConf", r.TtsConf)
	q.number("TtsSpeed", r.TtsSpeed)
	q.text("TtsStyle", r.TtsStyle)
	q.number("TtsVolume", r.TtsVolume)
	q.text("VoiceCode", r.VoiceCode)
	q.text("VoiceCodeParam", r.VoiceCodeParam)
	q.number("Volume", r.Volume)
	return q.finish()
}

// query is a query string in the making. It is written once, in the percent-encoding
// of the signature, and that same text goes into the URL, so what is signed is what
// is sent. Names must be added in byte order, as the signature wants them.
type query struct {
	buf []byte
	bad string // the first parameter that is not UTF-8
}

func (q *query) text(name, value string) {
	if value == "" {
		return
	}
	if q.bad == "" && !utf8.ValidString(value) {
		q.bad = name
	}
	if len(q.buf) > 0 {
		q.buf = append(q.buf, '&')
	}
	q.buf = append(q.buf, name...)
	q.buf = append(q.buf, '=')
	q.buf = appendEncoded(q.buf, value)
}

func (q *query) flag(name string, value *bool) {
	if value != nil {
		q.text(name, strconv.FormatBool(*value))
	}
}

func (q *query) number(name string, value *int) {
	if value != nil {
		q.text(name, strconv.Itoa(*value))
	}
}

func (q *query) finish() (string, error) {
	switch {
	case q.bad != "":
		return "", fmt.Errorf("%s is not valid UTF-8", q.bad)
	case len(q.buf) > maxQuery:
		return "", fmt.Errorf("the parameters make a query of %d bytes, more than %d: shorten VoiceCodeParam", len(q.buf), maxQuery)
	}
	return string(q.buf), nil
}

// appendEncoded appends s percent-encoded as the signature wants it (help document
// 2593177): letters, digits and -_.~ stay, every other byte becomes %XX.
func appendEncoded(buf []byte, s string) []byte {
	const hexDigits = "0123456789ABCDEF"
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == '~':
			buf = append(buf, c)
		default:
			buf = append(buf, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return buf
}
