package campaign

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParsePhone(t *testing.T) {
	const mobile, landline, beijing = "13800000001", "057100000000", "01000000000"
	for _, tt := range []struct{ cell, want string }{
		// Mobiles as people write them.
		{"13800000001", mobile},
		{" 13800000001 ", mobile},
		{"138 0000 0001", mobile},
		{"138-0000-0001", mobile},
		{"138.0000.0001", mobile},
		{"(138)00000001", mobile},
		{"（138）0000 0001", mobile},
		{"138–0000—0001", mobile},
		{"１３８０００００００１", mobile},
		{"１３８ ００００ ０００１", mobile},
		{"138\u30000000\u30000001", mobile},
		{"138\u00a00000\u00a00001", mobile},
		{"\t13800000001", mobile},
		{"13800000001\r\n", mobile},
		{"\ufeff13800000001", mobile},
		{"\u202d13800000001\u202c", mobile},
		{"138\u200b00000001", mobile},
		{"'13800000001", mobile},
		{"’13800000001", mobile},
		{`="13800000001"`, mobile},
		{`'="13800000001"`, mobile},
		{`"13800000001"`, mobile},
		{"13800000001.0", mobile},
		{"13800000001.00", mobile},
		{"013800000001", mobile},
		{"0138 0000 0001", mobile},
		{"+8613800000001", mobile},
		{"'+8613800000001", mobile},
		{"+86 138 0000 0001", mobile},
		{"＋８６ 13800000001", mobile},
		{"+86-138-0000-0001", mobile},
		{"(+86)13800000001", mobile},
		{"008613800000001", mobile},
		{"0086 138 0000 0001", mobile},
		{"+008613800000001", mobile},
		{"8613800000001", mobile},
		{"86 13800000001", mobile},
		{"+86013800000001", mobile},
		{"14700000001", "14700000001"},
		{"16600000001", "16600000001"},
		{"19900000001", "19900000001"},
		// Landlines.
		{"057100000000", landline},
		{"0571-00000000", landline},
		{"0571 0000 0000", landline},
		{"(0571)0000-0000", landline},
		{"（0571）00000000", landline},
		{"+86 571 0000 0000", landline},
		{"+86 (0)571 0000 0000", landline},
		{"0086-571-00000000", landline},
		{"010-0000 0000", beijing},
		{"+861000000000", beijing},
		{"02100000000", "02100000000"},
		{"0310-0000000", "03100000000"},
		// Refused.
		{"", "empty"},
		{"   ", "empty"},
		{"\u3000", "empty"},
		{`=""`, "empty"},
		{"1.38E+10", "scientific_notation"},
		{"1.38e10", "scientific_notation"},
		{"1.380000001E+10", "scientific_notation"},
		{"１.３８E＋１０", "scientific_notation"},
		{"合计", "not_a_number"},
		{"合计：12", "not_a_number"},
		{"total", "not_a_number"},
		{"无", "not_a_number"},
		{"-", "not_a_number"},
		{"+", "not_a_number"},
		{"1380000000l", "not_a_number"},
		{"138OOOO0001", "not_a_number"},
		{"张三13800000001", "not_a_number"},
		{"13800000001;", "not_a_number"},
		{"#N/A", "not_a_number"},
		{"1,234", "not_a_number"},
		{"138++00000001", "not_a_number"},
		{"1380000000", "too_short"},
		{"1380000000.0", "too_short"},
		{"138", "too_short"},
		{"0571000", "too_short"},
		{"138000000011", "too_long"},
		{"１３８０００００００１１", "too_long"},
		{"13800000001999", "too_long"},
		{"0100000000001", "too_long"},
		{"10000000001", "no_such_range"},
		{"12000000001", "no_such_range"},
		{"00000000001", "foreign"},
		{"+1 202 555 0100", "foreign"},
		{"+13800000001", "foreign"},
		{"0044 20 7946 0000", "foreign"},
		{"+852 0000 0000", "foreign"},
		{"8818000000000", "foreign"},
		{"8819000000", "foreign"},
		{"110", "emergency"},
		{"119", "emergency"},
		{"120", "emergency"},
		{"0571110", "emergency"},
		{"10086", "service_number"},
		{"12345", "service_number"},
		{"114", "service_number"},
		{"95588", "service_number"},
		{"96110", "service_number"},
		{"9501234567", "service_number"},
		{"4000000000", "hotline_400_800"},
		{"400-000-0000", "hotline_400_800"},
		{"8000000000", "hotline_400_800"},
		{"1440000000001", "iot"},
		{"1064900000001", "iot"},
		{"13800000001/13900000001", "several_numbers"},
		{"13800000001、13900000001", "several_numbers"},
		{"13800000001；13900000001", "several_numbers"},
		{"13800000001,13900000001", "several_numbers"},
		{"13800000001 13900000001", "several_numbers"},
		{"13800000001\n13900000001", "several_numbers"},
		{"13800000001或13900000001", "several_numbers"},
		{"0571-00000000-801", "extension"},
		{"0571-0000000-8", "extension"},
		{"0571-00000000转801", "extension"},
		{"0571-00000000 ext. 801", "extension"},
		{"0571-00000000#801", "extension"},
		{"13800000001-1", "extension"},
		{"00000000", "foreign"},
		{"50000000", "no_area_code"},
		{"57100000000", "no_leading_zero"},
		{"2100000000", "no_leading_zero"},
	} {
		p, err := ParsePhone(tt.cell)
		got := p.Digits()
		if bad, ok := errors.AsType[*PhoneError](err); ok {
			got = string(bad.Reason)
			if bad.Hint() == "" || err.Error() != got+": "+bad.Hint() {
				t.Errorf("ParsePhone(%q): error %q has no hint", tt.cell, err)
			}
		}
		if got != tt.want {
			t.Errorf("ParsePhone(%q) = %s, want %s", tt.cell, got, tt.want)
		}
	}
}

func drawPhone(t *rapid.T) Phone {
	if rapid.Bool().Draw(t, "mobile") {
		return Phone(rapid.Int64Range(firstMobile, lastMobile).Draw(t, "number"))
	}
	area := rapid.SampledFrom([]string{"10", "21", "28", "571", "755", "898", "310"}).Draw(t, "area")
	local := rapid.StringMatching(`[2-8][0-9]{7}`).Draw(t, "local")
	if len(area) == 3 && rapid.Bool().Draw(t, "seven") {
		local = local[:7]
	}
	return phoneOf(area + local)
}

// Whatever the spelling, the same person is found: otherwise one number would be
// two contacts and ring twice.
func TestParsePhoneSpellings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawPhone(t)
		d := want.Digits()
		prefix := rapid.SampledFrom([]string{"", "+86", "0086", "+0086", "+86 ", "(+86)"}).Draw(t, "prefix")
		if d[0] == '1' {
			prefix = rapid.SampledFrom([]string{prefix, "86", "0"}).Draw(t, "mobile prefix")
		} else if prefix != "" && rapid.Bool().Draw(t, "no trunk 0") {
			d = d[1:]
		}
		// Separators between groups, the last of which has at least two digits: a lone
		// last digit may be an extension and is refused on purpose.
		var b strings.Builder
		b.WriteString(prefix)
		for i, c := range d {
			if i > 0 && i < len(d)-2 {
				b.WriteString(rapid.SampledFrom([]string{"", "", "", " ", "-", ".", "\u3000"}).Draw(t, "separator"))
			}
			b.WriteRune(c)
		}
		s := b.String()
		if rapid.Bool().Draw(t, "full width") {
			s = strings.Map(func(r rune) rune {
				if r >= '0' && r <= '9' {
					return r - '0' + '０'
				}
				return r
			}, s)
		}
		s = rapid.SampledFrom([]string{s, " " + s + "\t", "'" + s, `="` + s + `"`}).Draw(t, "wrapping")
		got, err := ParsePhone(s)
		if err != nil || got != want {
			t.Fatalf("ParsePhone(%q) = %q, %v, want %q", s, got.Digits(), err, want.Digits())
		}
	})
}

func TestPhoneMasksItself(t *testing.T) {
	for _, tt := range []struct {
		digits, masked string
	}{
		{"13800138000", "138****8000"},
		{"057188888888", "0571****8888"},
		{"03107777777", "0310****7777"},
		{"01088888888", "010****8888"},
		{"02188888888", "021****8888"},
	} {
		p, err := ParsePhone(tt.digits)
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Info("call", "phone", p, "contact", Contact{Phone: p})
		text, _ := json.Marshal(map[string]any{"phone": p, "contact": Contact{Phone: p}, "key": map[Phone]int{p: 1}})
		var all strings.Builder
		all.WriteString(string(text) + log.String() + fmt.Sprint(p, []Phone{p}, Contact{Phone: p}, &Contact{Phone: p}, errors.New(p.String())))
		for _, verb := range []string{"v", "+v", "#v", "d", "s", "q", "x", "X", "o", "b", "c", "e", "U", "t", "20d", "-20v", "+d"} {
			fmt.Fprintf(&all, "%"+verb+" %"+verb+"\n", p, struct{ P Phone }{p})
		}
		if national := strings.TrimPrefix(tt.digits, "0"); strings.Contains(all.String(), national) || strings.Contains(all.String(), fmt.Sprintf("%x", int64(p))) {
			t.Errorf("the whole number of %s came out in %s", tt.masked, all.String())
		}
		if got := p.Masked(); got != tt.masked {
			t.Errorf("Masked() = %s, want %s", got, tt.masked)
		}
		if got := fmt.Sprintf("%d", p); got != tt.masked {
			t.Errorf("%%d gives %s, want %s", got, tt.masked)
		}
		if p.Digits() != tt.digits {
			t.Errorf("Digits() = %s, want %s", p.Digits(), tt.digits)
		}
	}
	if got := fmt.Sprintf("%s|%s|%s", Phone(0), Phone(5), Phone(-1)); got != "|****|****" {
		t.Errorf("what is no number prints as %q", got)
	}
}

func FuzzParsePhone(f *testing.F) {
	for _, s := range []string{"13800000001", "+86 138", `="0571-00000000"`, "1.38E+10", "１３８０００００００１", "0571-00000000转8", "a、b", "12000000001", "1380000000a", "1/800000001", "138000000010"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, cell string) {
		if isMobile(cell) != mobileForm.MatchString(cell) {
			t.Fatalf("isMobile(%q) is %t, not what the form says", cell, isMobile(cell))
		}
		p, err := ParsePhone(cell)
		if err != nil {
			bad, ok := errors.AsType[*PhoneError](err)
			if !ok || bad.Hint() == "" || p != 0 {
				t.Fatalf("ParsePhone(%q) = %d, %v", cell, int64(p), err)
			}
			return
		}
		if d := p.Digits(); !mobileForm.MatchString(d) && !landlineForm.MatchString(d) {
			t.Fatalf("ParsePhone(%q) lets %s through", cell, d)
		}
		if again, err := ParsePhone(p.Digits()); err != nil || again != p {
			t.Fatalf("ParsePhone(%q) = %s, which parses to %s, %v", cell, p.Digits(), again.Digits(), err)
		}
	})
}

func BenchmarkParsePhone(b *testing.B) {
	for _, cell := range []string{"13800000001", "+86 138-0000-0001"} {
		b.Run(cell, func(b *testing.B) {
			for b.Loop() {
				if _, err := ParsePhone(cell); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestMaskNumbers(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "",
		"系统错误":                "系统错误",
		"被叫号码13800138000呼叫失败": "被叫号码138****8000呼叫失败",
		"+8613800138000":      "+861****8000",
		"057188888888 and 1":  "057****8888 and 1",
		"1234567":             "1****4567",
		"123456 200002":       "123456 200002",
	} {
		if got := MaskNumbers(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
