package smartcall

import (
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

const (
	maxHeader    = 16 << 10 // bytes of a response's headers
	maxBody      = 64 << 10 // bytes of a response's body
	maxCallID    = 64       // bytes; documented ones have 25
	maxRequestID = 64
	maxCode      = 128
	maxMessage   = 1024
)

// answer is a response that was understood.
type answer struct {
	code, message, requestID, callID string
	data                             string // QueryCallDetailByCallId: JSON in a text
}

var errLongBody = fmt.Errorf("the answer is longer than %d bytes", maxBody)

// readBody reads a whole body. Reading to its end is what lets the connection be
// used again; after an error the transport closes it.
func readBody(body io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	if err == nil && len(b) > maxBody {
		err = errLongBody
	}
	return b, err
}

// decodeAnswer understands a body or says why it does not. An answer is understood
// only as a whole: a document cut short, followed by something, with a field given
// twice, or with a field of another type may mean anything. Errors do not quote the
// body, which may repeat the number called.
func decodeAnswer(body []byte) (*answer, error) {
	fields, err := decodeObject(body)
	if err != nil {
		return nil, err
	}
	var a answer
	for _, f := range []struct {
		name  string
		into  *string
		limit int
	}{
		{"Code", &a.code, maxCode},
		{"CallId", &a.callID, maxCallID},
		{"Message", &a.message, 0},
		{"RequestId", &a.requestID, 0},
		{"Data", &a.data, 0},
	} {
		raw := fields[f.name]
		if len(raw) == 0 || string(raw) == "null" {
			continue
		}
		if raw[0] != '"' {
			return nil, fmt.Errorf("%s is not a text", f.name)
		}
		if *f.into = unquote(raw); f.limit > 0 && len(*f.into) > f.limit {
			return nil, fmt.Errorf("%s has %d bytes, more than %d", f.name, len(*f.into), f.limit)
		}
	}
	if a.code == "" {
		return nil, errors.New("the answer has no Code")
	}
	if !printable(a.callID) {
		return nil, errors.New("CallId holds control characters")
	}
	a.message = tidy(a.message, maxMessage)
	a.requestID = tidy(a.requestID, maxRequestID)
	return &a, nil
}

func printable(s string) bool {
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return false
		}
	}
	return true
}

// tidy cuts s to at most limit bytes and drops control characters, so that it can
// be stored and shown.
func tidy(s string, limit int) string {
	b := make([]byte, 0, min(len(s), limit))
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			continue
		}
		if len(b)+utf8.RuneLen(r) > limit {
			break
		}
		b = utf8.AppendRune(b, r)
	}
	return string(b)
}
