package smartcall

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

const (
	maxText    = 1024  // bytes of one value; call ids have 25, other products' out ids about 100
	maxSeconds = 86400 // a call takes an hour at most (SessionTimeout)
)

// record reads the values of one JSON object that the platform writes loosely: the
// same value is a text here and a number there, times have no zone, and what did not
// happen is "", null or missing. err is the first value that is none of that.
type record struct {
	fields object
	err    error
}

func (r *record) has(name string) bool {
	_, ok := r.fields[name]
	return ok
}

// text returns a text, or a number as it was written.
func (r *record) text(name string) string {
	raw := r.fields[name]
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return ""
	case raw[0] == '"':
		s := unquote(raw)
		if len(s) > maxText {
			r.fail(name, fmt.Sprintf("has %d bytes, more than %d", len(s), maxText))
			return ""
		}
		return s
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		if len(raw) > maxText {
			r.fail(name, fmt.Sprintf("has %d digits, more than %d", len(raw), maxText))
			return ""
		}
		return string(raw)
	}
	r.fail(name, "is neither a text nor a number")
	return ""
}

// seconds returns a whole number of seconds, 0 for what is odd: an outcome is worth
// more than its duration.
func (r *record) seconds(name string) int {
	v, err := strconv.ParseFloat(r.text(name), 64)
	if err != nil || math.IsNaN(v) || v < 0 || v > maxSeconds {
		return 0
	}
	return int(v)
}

// time returns a time in +08:00, the zero time for what is empty or odd.
func (r *record) time(name string) time.Time {
	t, err := time.ParseInLocation(time.DateTime, r.text(name), beijing)
	if err != nil || t.Year() < 2010 || t.Year() > 2100 {
		return time.Time{}
	}
	return t
}

func (r *record) fail(name, what string) {
	if r.err == nil {
		r.err = errors.New(name + " " + what)
	}
}
