package campaign

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Phone is a number of mainland China: the national number without the trunk 0,
// 13800138000 for a mobile and 57188888888 for the landline 0571 8888 8888. Zero
// is no number. A Phone masks itself wherever it is printed, logged or marshalled;
// the whole number is had only by asking for it with Digits. Package fmt cannot
// mask a Phone in an unexported field: it does not call methods there.
type Phone int64

// PhoneReason says why a cell is not a number that a campaign may call.
type PhoneReason string

const (
	PhoneEmpty         PhoneReason = "empty"
	PhoneScientific    PhoneReason = "scientific_notation" // 1.38E+10: the digits are lost
	PhoneNotANumber    PhoneReason = "not_a_number"
	PhoneTooShort      PhoneReason = "too_short"
	PhoneTooLong       PhoneReason = "too_long"
	PhoneForeign       PhoneReason = "foreign" // SmartCall reaches mainland numbers only (help document 114042)
	PhoneEmergency     PhoneReason = "emergency"
	PhoneService       PhoneReason = "service_number" // 95xxx, 96xxx, 100xx, 12xxx and the like
	PhoneHotline       PhoneReason = "hotline_400_800"
	PhoneIoT           PhoneReason = "iot" // 13 digits: a card in a machine
	PhoneSeveral       PhoneReason = "several_numbers"
	PhoneExtension     PhoneReason = "extension"
	PhoneNoAreaCode    PhoneReason = "no_area_code"
	PhoneNoLeadingZero PhoneReason = "no_leading_zero"
	PhoneNoSuchRange   PhoneReason = "no_such_range"
)

var phoneHints = map[PhoneReason]string{
	PhoneEmpty:         "the cell is empty; fill in the number",
	PhoneScientific:    "the spreadsheet shortened the number and its digits are lost; set the column's format to text, enter the numbers again and export again",
	PhoneNotANumber:    "the cell holds something that is not part of a phone number; write the number only",
	PhoneTooShort:      "digits are missing; a mobile has 11 digits, a landline 10 to 12 with its area code and leading 0",
	PhoneTooLong:       "there are too many digits; a mobile has 11 digits, a landline 10 to 12 with its area code and leading 0",
	PhoneForeign:       "the number is outside mainland China, where the platform does not call",
	PhoneEmergency:     "emergency numbers are never called",
	PhoneService:       "service numbers (95xxx, 96xxx, 100xx, 12xxx, ...) are never called",
	PhoneHotline:       "400 and 800 hotlines are never called",
	PhoneIoT:           "13-digit numbers belong to machines and cannot be called",
	PhoneSeveral:       "the cell holds several numbers; give each its own row",
	PhoneExtension:     "an extension cannot be dialled; write the number without it, or a mobile",
	PhoneNoAreaCode:    "the area code is missing; write it in front, as in 0571",
	PhoneNoLeadingZero: "the leading 0 of the area code is missing; set the column's format to text and write the 0",
	PhoneNoSuchRange:   "no mobile or landline begins like this",
}

// PhoneError says why ParsePhone refused a cell. Its text never holds the digits.
type PhoneError struct {
	Reason PhoneReason
}

// Error returns the reason and what to do about it.
func (e *PhoneError) Error() string { return string(e.Reason) + ": " + e.Hint() }

// Hint is a sentence for the person who mends the file.
func (e *PhoneError) Hint() string { return phoneHints[e.Reason] }

var (
	mobileForm   = regexp.MustCompile(`^1[3-9]\d{9}$`)
	landlineForm = regexp.MustCompile(`^0(?:(?:10|2\d)\d{8}|[3-9]\d{2}\d{7,8})$`)
	// A wide rule for mobiles does not go stale when a range is opened; the narrow
	// table of ranges is for the platform to know.
	scientificForm = regexp.MustCompile(`^[+-]?\d+(?:\.\d*)?[eE][+-]?\d+$`)
	floatForm      = regexp.MustCompile(`^(\d{10,13})\.0+$`) // a spreadsheet's number column
	listForm       = regexp.MustCompile(`[、，/;,|&\\\n\r或和]`)
	extensionForm  = regexp.MustCompile(`(?i)\d[-\s(]*(?:转|轉|分机|ext\.?|x|#|\*|p|w)[-\s:]*\d{1,6}\)?$`)
	emergencyForm  = regexp.MustCompile(`^(?:0\d{2,3})?(?:110|112|119|120|122)$`)
	hotlineForm    = regexp.MustCompile(`^0?[48]00\d{7}$`)
	iotForm        = regexp.MustCompile(`^(?:14\d|106)\d{10}$`)
	serviceForm    = regexp.MustCompile(`^(?:10\d{3}|11\d{1,3}|12\d{1,4}|9[56]\d{3,6}|950\d{7,8})$`)
	satelliteForm  = regexp.MustCompile(`^(?:8703|8818|8819)\d{6,}$`)
	noZeroForm     = regexp.MustCompile(`^(?:10\d{8}|2\d{9}|[3-9]\d{9,10})$`)
)

// ParsePhone reads the number in a cell as people and spreadsheets write it: full
// width digits, spaces, dashes, parentheses, dots, +86, 0086, 86, a mobile with a
// leading 0, a leading ', ="…", a trailing .0. What is
// not surely one mainland mobile or landline is refused with a *PhoneError: a
// guess would ring somebody else.
func ParsePhone(cell string) (Phone, error) {
	if isMobile(cell) {
		return phoneOf(cell), nil
	}
	d, reason := phoneDigits(cell)
	if reason != "" {
		return 0, &PhoneError{reason}
	}
	return phoneOf(d), nil
}

// isMobile is mobileForm for the many cells that hold nothing else, without the cost
// of a regular expression.
func isMobile(s string) bool {
	if len(s) != 11 || s[0] != '1' || s[1] < '3' {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// phoneDigits returns the number as dialled, or why there is none.
func phoneDigits(cell string) (string, PhoneReason) {
	s := unwrapCell(cell)
	switch {
	case s == "":
		return "", PhoneEmpty
	case scientificForm.MatchString(s):
		return "", PhoneScientific
	}
	if m := floatForm.FindStringSubmatch(s); m != nil {
		s = m[1]
	}
	if listForm.MatchString(s) {
		return "", listReason(listForm.Split(s, -1))
	}
	if extensionForm.MatchString(s) {
		return "", PhoneExtension
	}
	groups := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" -.()", r) })
	joined := strings.Join(groups, "")
	if joined == "" || strings.Trim(strings.TrimPrefix(joined, "+"), "0123456789") != "" || joined == "+" {
		return "", PhoneNotANumber
	}
	d, reason := nationalDigits(joined)
	if len(groups) < 2 {
		return d, reason
	}
	// What stands before the last group may already be a whole number: then the
	// last group is an extension (0571-8888888-8), or a second number.
	rest, last := strings.Join(groups[:len(groups)-1], ""), groups[len(groups)-1]
	if _, r := nationalDigits(rest); r == "" && len(last) <= 6 {
		return "", PhoneExtension
	}
	if reason != "" && severalNumbers(groups) {
		return "", PhoneSeveral
	}
	return d, reason
}

// unwrapCell folds a cell to plain characters and takes off what spreadsheets put
// around a number to keep its digits.
func unwrapCell(cell string) string {
	s := strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r':
			return '\n'
		case unicode.IsSpace(r):
			return ' '
		case unicode.Is(unicode.Pd, r) || r == '−': // every dash, and the minus sign
			return '-'
		case unicode.Is(unicode.Cf, r): // marks that one cannot see, as copied from chat programs
			return -1
		}
		return r
	}, norm.NFKC.String(cell))
	for {
		t := strings.TrimSpace(s)
		t = strings.TrimLeft(t, "'’‘`")
		if len(t) >= 3 && strings.HasPrefix(t, `="`) && strings.HasSuffix(t, `"`) {
			t = t[2 : len(t)-1]
		} else if len(t) >= 2 && t[0] == '"' && t[len(t)-1] == '"' {
			t = t[1 : len(t)-1]
		}
		if t == s {
			return s
		}
		s = t
	}
}

func listReason(parts []string) PhoneReason {
	if severalNumbers(parts) {
		return PhoneSeveral
	}
	return PhoneNotANumber
}

// severalNumbers reports whether at least two of the parts are numbers by their
// length; a total like 1,234 is not.
func severalNumbers(parts []string) bool {
	n := 0
	for _, p := range parts {
		digits := 0
		for _, r := range p {
			if r >= '0' && r <= '9' {
				digits++
			}
		}
		if digits >= 7 {
			n++
		}
	}
	return n >= 2
}

// nationalDigits takes the country code off a string of digits with an optional
// leading + and says what number it is.
func nationalDigits(s string) (string, PhoneReason) {
	d, china := s, false
	switch {
	case strings.HasPrefix(s, "+0086"):
		d, china = s[5:], true
	case strings.HasPrefix(s, "+86"):
		d, china = s[3:], true
	case strings.HasPrefix(s, "0086"):
		d, china = s[4:], true
	case strings.HasPrefix(s, "+"), strings.HasPrefix(s, "00"):
		return "", PhoneForeign
	case len(s) == 13 && strings.HasPrefix(s, "861"):
		d = s[2:]
	}
	if strings.HasPrefix(d, "+") {
		return "", PhoneNotANumber
	}
	if len(d) == 12 && d[0] == '0' && mobileForm.MatchString(d[1:]) {
		d = d[1:] // the 0 once dialled before a mobile of another city
	}
	if china && noZeroForm.MatchString(d) {
		d = "0" + d // after the country code the trunk 0 is left out by right
	}
	return d, refusal(d)
}

// refusal says why a national number is not to be called, or "" if it may be.
func refusal(d string) PhoneReason {
	switch {
	case hotlineForm.MatchString(d):
		return PhoneHotline
	case mobileForm.MatchString(d), landlineForm.MatchString(d):
		return ""
	case emergencyForm.MatchString(d):
		return PhoneEmergency
	case iotForm.MatchString(d):
		return PhoneIoT
	case serviceForm.MatchString(d):
		return PhoneService
	case satelliteForm.MatchString(d):
		return PhoneForeign
	case noZeroForm.MatchString(d):
		return PhoneNoLeadingZero
	case d == "":
		return PhoneTooShort
	case d[0] != '0' && d[0] != '1' && (len(d) == 7 || len(d) == 8):
		return PhoneNoAreaCode
	case len(d) > 12, len(d) == 12 && d[0] != '0', len(d) == 12 && (strings.HasPrefix(d, "010") || d[1] == '2'):
		return PhoneTooLong
	case len(d) >= 11:
		return PhoneNoSuchRange
	}
	return PhoneTooShort
}

// phoneOf turns digits that were checked into a Phone.
func phoneOf(digits string) Phone {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		panic("phoneOf: not digits") // the forms above let only digits through
	}
	return Phone(n)
}

const (
	firstMobile   = 13_000_000_000
	lastMobile    = 19_999_999_999
	firstLandline = 1_000_000_000
	lastLandline  = 99_999_999_999
)

// Digits returns the number as it is dialled, "13800138000" or "057188888888", and
// "" for no number. It is the only way to the whole number.
func (p Phone) Digits() string {
	switch {
	case p == 0:
		return ""
	case p >= firstMobile && p <= lastMobile:
		return strconv.FormatInt(int64(p), 10)
	}
	return "0" + strconv.FormatInt(int64(p), 10)
}

// Masked returns the number as it may be shown to anybody: 138****8000 or
// 0571****8888, "" for no number, **** for what is none.
func (p Phone) Masked() string {
	d := p.Digits()
	switch {
	case p == 0:
		return ""
	case p < firstLandline || p > lastLandline:
		return "****"
	case d[0] != '0', d[1] == '1', d[1] == '2': // mobile, or an area code of three digits
		return d[:3] + "****" + d[len(d)-4:]
	}
	return d[:4] + "****" + d[len(d)-4:]
}

// String returns Masked.
func (p Phone) String() string { return p.Masked() }

// Format writes the masked number under every verb, %d and %#v too.
func (p Phone) Format(f fmt.State, verb rune) {
	if verb == 'q' {
		fmt.Fprintf(f, fmt.FormatString(f, 'q'), p.Masked())
		return
	}
	if f.Flag('#') {
		io.WriteString(f, p.Masked())
		return
	}
	fmt.Fprintf(f, fmt.FormatString(f, 's'), p.Masked())
}

// LogValue masks the number in logs.
func (p Phone) LogValue() slog.Value { return slog.StringValue(p.Masked()) }

// MarshalJSON writes the masked number: a Phone does not survive a round trip.
func (p Phone) MarshalJSON() ([]byte, error) { return json.Marshal(p.Masked()) }

// MarshalText writes the masked number.
func (p Phone) MarshalText() ([]byte, error) { return []byte(p.Masked()), nil }

// MaskNumbers returns a text of the platform with everything in it that may be a phone
// number masked: seven digits in a row or more.
func MaskNumbers(text string) string {
	return longNumber.ReplaceAllStringFunc(text, func(digits string) string {
		return digits[:min(3, len(digits)-6)] + "****" + digits[len(digits)-4:]
	})
}

var longNumber = regexp.MustCompile(`[0-9]{7,}`)
