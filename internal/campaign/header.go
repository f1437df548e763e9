package campaign

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// phoneHeaders are the usual names of the column that holds the numbers, in the
// form of matchName.
var phoneHeaders = []string{
	"手机号", "手机号码", "手机", "电话", "联系电话", "电话号码", "号码", "被叫号码", "被叫", "移动电话", "联系手机",
	"手机电话", "客户手机", "客户手机号", "客户电话", "联系方式",
	"phone", "phonenumber", "phoneno", "mobile", "mobilephone", "mobilenumber", "mobileno", "tel", "telephone",
	"telephonenumber", "telno", "cell", "number", "cellphone", "callee", "callednumber", "msisdn",
}

// foldName brings the name of a column to one form: NFKC, without marks one cannot
// see, and without space around it.
func foldName(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, norm.NFKC.String(s))
	return strings.Join(strings.Fields(s), " ")
}

// matchName folds further, to compare with the usual names.
func matchName(s string) string {
	return strings.NewReplacer(" ", "", "_", "", "-", "").Replace(strings.ToLower(s))
}

// findColumns checks a header and returns its folded names and which of them holds
// the numbers.
func findColumns(header []string, o ReaderOptions, delimiter rune) (names []string, phone int, err error) {
	names = make([]string, len(header))
	at := map[string]int{}
	for i, h := range header {
		names[i] = foldName(h)
		if names[i] == "" {
			continue // spreadsheets export columns without a name
		}
		if strings.ContainsFunc(names[i], func(r rune) bool { return r == unicode.ReplacementChar || unicode.IsControl(r) }) {
			return nil, 0, fmt.Errorf("the name of column %d cannot be read; save the file as CSV UTF-8", i+1)
		}
		if first, twice := at[names[i]]; twice {
			return nil, 0, fmt.Errorf("columns %d and %d are both named %q; rename one", first+1, i+1, short(names[i]))
		}
		at[names[i]] = i
	}
	if slices.ContainsFunc(names, func(n string) bool { _, err := ParsePhone(n); return err == nil }) {
		return nil, 0, fmt.Errorf("the first line holds a phone number where the names of the columns belong; put a line such as 手机号,姓名 above it")
	}
	if phone, err = findPhone(names, o.Columns.Phone, delimiter); err != nil {
		return nil, 0, err
	}
	for _, need := range o.Need {
		i, ok := at[foldName(need)]
		if !ok {
			return nil, 0, fmt.Errorf("the campaign speaks {%s}, but the file has no such column; it has %s", short(need), listed(names))
		}
		if i == phone {
			return nil, 0, fmt.Errorf("the campaign speaks {%s}, which is the column of the numbers; a number is not spoken", short(need))
		}
	}
	return names, phone, nil
}

func findPhone(names []string, wanted string, delimiter rune) (int, error) {
	if wanted != "" {
		if i := slices.Index(names, foldName(wanted)); i >= 0 {
			return i, nil
		}
		return 0, fmt.Errorf("the campaign names the column %q for the numbers, but the file has %s; mend columns.phone or the file%s", short(wanted), listed(names), otherDelimiter(names, delimiter))
	}
	var found []int
	for i, n := range names {
		if slices.Contains(phoneHeaders, matchName(n)) {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, fmt.Errorf("no column for the numbers was found among %s; name it 手机号, or set columns.phone in the campaign%s", listed(names), otherDelimiter(names, delimiter))
	}
	return 0, fmt.Errorf("columns %q and %q may both hold the numbers; set columns.phone in the campaign to the one to call", names[found[0]], names[found[1]])
}

// otherDelimiter adds a hint when the only column looks like several. A comma in
// it was full width, or it would have been one that splits.
func otherDelimiter(names []string, delimiter rune) string {
	if len(names) != 1 {
		return ""
	}
	for _, d := range ",;\t|" {
		if strings.ContainsRune(names[0], d) {
			return fmt.Sprintf(" (the line was split at %q, but holds %q, perhaps in full width: the delimiter may be wrong)", delimiter, d)
		}
	}
	return ""
}

// listed names columns for a person, at most twenty, and hides what looks like
// somebody's number.
func listed(names []string) string {
	const most = 20
	var b strings.Builder
	for i, n := range names {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(names)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		digits := 0
		for _, r := range n {
			if unicode.IsDigit(r) {
				digits++
			}
		}
		if digits >= 7 {
			n = "(digits)"
		}
		fmt.Fprintf(&b, "%q", short(n))
	}
	return b.String()
}
