// Package phonetest holds this repository's rule for numbers against libphonenumber,
// which is the witness that the rule refuses nobody who has a number. It is a module
// of its own, so that the library stays out of the dialer.
package phonetest

import (
	"testing"

	"github.com/nyaruka/phonenumbers"
	"pgregory.net/rapid"

	"dialer/internal/campaign"
)

// mainland says what the library takes a national number for.
func mainland(digits string) (phonenumbers.PhoneNumberType, bool) {
	n, err := phonenumbers.Parse(digits, "CN")
	if err != nil {
		return phonenumbers.UNKNOWN, false
	}
	return phonenumbers.GetNumberType(n), phonenumbers.IsValidNumberForRegion(n, "CN") && n.GetCountryCode() == 86
}

// Each mobile that the library knows is accepted. Ours is wider by the ranges that it
// does not know yet, and by none outside 13 to 19.
func TestMobiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`1[0-9]{10}`).Draw(t, "digits")
		kind, valid := mainland(digits)
		p, err := campaign.ParsePhone(digits)
		if valid && kind == phonenumbers.MOBILE && err != nil {
			t.Fatalf("%s is a mobile, but %v", digits, err)
		}
		if err == nil && (p.Digits() != digits || digits[1] < '3') {
			t.Fatalf("%s was read as %s", digits, p.Digits())
		}
		if err != nil && digits[1] >= '3' {
			t.Fatalf("%s: %v", digits, err)
		}
	})
}

// Each landline that the library knows is accepted when it is written with its area
// code and leading 0.
func TestLandlines(t *testing.T) {
	known := 0
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`0(10[2-8]|2[0-9][2-8]|[3-9][0-9]{2}[2-8][0-9]?)[0-9]{6,7}`).Draw(t, "digits")
		kind, valid := mainland(digits)
		if !valid || kind != phonenumbers.FIXED_LINE {
			return
		}
		p, err := campaign.ParsePhone(digits)
		if err != nil || p.Digits() != digits {
			t.Fatalf("%s is a landline, but is read as %s, %v", digits, p.Digits(), err)
		}
		known++
	})
	if known == 0 {
		t.Error("the library knew none of the landlines")
	}
}

// What the library knows as another kind of number is never accepted.
func TestOthers(t *testing.T) {
	for _, digits := range []string{"4001234567", "8001234567", "110", "119", "120", "122", "12345", "12306", "95588", "10086", "96110", "+14155550100", "0085212345678", "+886912345678"} {
		if _, err := campaign.ParsePhone(digits); err == nil {
			t.Errorf("%s was accepted", digits)
		}
	}
}

// Every spelling that the library writes is read as the same number.
func TestLibrarySpellings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`(1(3[0-9]|5[0-35-9]|8[0-9])[0-9]{8}|0(10|21|571|755)[2-8][0-9]{7})`).Draw(t, "digits")
		n, err := phonenumbers.Parse(digits, "CN")
		if err != nil {
			t.Fatal(err)
		}
		if !phonenumbers.IsValidNumber(n) {
			return
		}
		for _, form := range []phonenumbers.PhoneNumberFormat{phonenumbers.E164, phonenumbers.INTERNATIONAL, phonenumbers.NATIONAL} {
			cell := phonenumbers.Format(n, form)
			if p, err := campaign.ParsePhone(cell); err != nil || p.Digits() != digits {
				t.Fatalf("%s as %q is read as %s, %v", digits, cell, p.Digits(), err)
			}
		}
	})
}
