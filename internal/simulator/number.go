package simulator

import "strings"

// mainland reduces the accepted forms of a number (help page "number format standards":
// 13…, 008613…, +8613…, +008613…, 0108888…) to the bare one and says whether it is a
// mainland mobile or landline number. SmartCall reaches no other.
func mainland(number string) (string, bool) {
	bare := number
	for _, prefix := range []string{"+0086", "0086", "+86"} {
		if rest, ok := strings.CutPrefix(number, prefix); ok {
			return rest, mobile(rest)
		}
	}
	return bare, mobile(bare) || landline(bare)
}

func mobile(n string) bool {
	return len(n) == 11 && digits(n) && n[0] == '1' && n[1] >= '3'
}

// landline is area code with its 0, then 7 or 8 digits: 010 and 02x have 8.
func landline(n string) bool {
	if !digits(n) || len(n) < 11 || len(n) > 12 || n[0] != '0' {
		return false
	}
	if strings.HasPrefix(n, "010") || n[1] == '2' {
		return len(n) == 11
	}
	return n[1] >= '3'
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
