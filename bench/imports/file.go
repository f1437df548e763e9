package imports

import (
	"bufio"
	"errors"
	"fmt"
	"os"
)

// file is a contact file as offices send them: 2 rows in 100 repeat a number, 1 cannot
// be called, 10 are spelt in other ways.
type file struct {
	rows     int
	contacts int // what is left when doubles and bad rows are taken out
}

// names are what a row holds beside its number.
var names = []string{"王小明", "李芳", "张伟", "刘静", "陈建国", "杨秀英"}

// number is the k-th number: 3^18 and 10^9 have no common factor, so all are different
// and in no order.
func number(k int) int64 { return 13_000_000_000 + int64(k)*387_420_489%1_000_000_000 }

// cell is how row k spells its number.
func cell(k int) (text string, stored bool) {
	phone := fmt.Sprint(number(k))
	switch k % 100 {
	case 40, 90:
		return fmt.Sprint(number(k - 7)), false
	case 60:
		return phone[:9], false
	}
	switch k % 50 {
	case 1:
		return "+86" + phone, true
	case 11:
		return phone[:3] + " " + phone[3:7] + " " + phone[7:], true
	case 21:
		return phone[:3] + "-" + phone[3:7] + "-" + phone[7:], true
	case 31:
		return `"=""` + phone + `"""`, true
	case 41:
		return "0086 " + phone, true
	}
	return phone, true
}

// write writes the file as it is sent.
func (f *file) write(path string) error {
	return fill(path, func(w *bufio.Writer) {
		fmt.Fprintln(w, "手机号,姓名,门店")
		f.contacts = 0
		for k := range f.rows {
			text, stored := cell(k)
			if stored {
				f.contacts++
			}
			fmt.Fprintf(w, "%s,%s,西湖店\n", text, names[k%len(names)])
		}
	})
}

// writeClean writes the rows that the import makes of the file, for \copy.
func (f *file) writeClean(path string, account, campaign int32) error {
	return fill(path, func(w *bufio.Writer) {
		n := 0
		for k := range f.rows {
			if _, stored := cell(k); !stored {
				continue
			}
			n++
			fmt.Fprintf(w, "%d\t%d\t%d\t%d\t{\"姓名\":\"%s\",\"门店\":\"西湖店\"}\t%d\n", account, campaign, n, number(k), names[k%len(names)], k+2)
		}
	})
}

func fill(path string, write func(*bufio.Writer)) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	write(w)
	return errors.Join(w.Flush(), f.Close())
}
