package campaign

import (
	"slices"
	"strings"
	"testing"
	"unicode"
)

// However people name the column, it is found; and only one of them is.
func TestPhoneColumnIsFound(t *testing.T) {
	for _, name := range []string{
		"手机号", "手机号码", "手机", "电话", "联系电话", "电话号码", "号码", "被叫号码", "移动电话", "客户手机", " 手机号 ", "手 机 号", "手机号\u200b",
		"phone", "Phone", "PHONE", "ｐｈｏｎｅ", "phone_number", "Phone Number", "phone-number", "mobile", "Mobile No", "tel", "Telephone", "cell", "Cell Phone", "number", "MSISDN",
	} {
		names, phone, err := findColumns([]string{"姓名", name}, ReaderOptions{}, ',')
		if err != nil || phone != 1 || names[0] != "姓名" {
			t.Errorf("header %q: column %d of %q, %v", name, phone, names, err)
		}
		if _, _, err := findColumns([]string{"被叫", name}, ReaderOptions{}, ','); err == nil || !strings.Contains(err.Error(), `"被叫" and `) {
			t.Errorf("header %q beside another: %v", name, err)
		}
		if _, phone, err := findColumns([]string{"被叫", name}, ReaderOptions{Columns: Columns{Phone: name}}, ','); err != nil || phone != 1 {
			t.Errorf("header %q named in the campaign: column %d, %v", name, phone, err)
		}
	}
	for _, name := range []string{"姓名", "手机型号", "电话费", "编号", "phone model", "备注"} {
		if _, _, err := findColumns([]string{"x", name}, ReaderOptions{}, ','); err == nil {
			t.Errorf("header %q holds no numbers, but was taken", name)
		}
	}
}

func FuzzFindColumns(f *testing.F) {
	for _, s := range []string{"手机号\x01姓名", "Phone Number\x01\x01", "手机\x01电话", "13800000001\x01a", "\ufeff\x01\u202e手机", "a\x01ａ\x01phone", "😀\x01号 码"} {
		f.Add(s, "")
	}
	f.Add("备用\x01手机号", "备用")
	f.Fuzz(func(t *testing.T, header, wanted string) {
		o := ReaderOptions{Columns: Columns{Phone: wanted}}
		names, phone, err := findColumns(strings.Split(header, "\x01"), o, ',')
		if err != nil {
			if len(err.Error()) > 20<<10 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Fatalf("no sentence: %q", err)
			}
			return
		}
		if wanted == "" && !slices.Contains(phoneHeaders, matchName(names[phone])) {
			t.Fatalf("column %q of %q", names[phone], header)
		}
		for i, n := range names {
			if n != "" && (foldName(n) != n || slices.Index(names, n) != i) {
				t.Fatalf("column %d is named %q among %q", i, n, names)
			}
		}
		again, same, err := findColumns(names, o, ',')
		if err != nil || same != phone || !slices.Equal(again, names) {
			t.Fatalf("%q folds to %q and then to %q, %v", header, names, again, err)
		}
	})
}
