// Gen writes the contact files of the sample campaigns. Their numbers are made up:
// a mobile's prefix, 0000 or 0001, and a counter; no number stands in two samples,
// since frequency caps count over all campaigns. Run it by go generate.
package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/text/encoding/simplifiedchinese"
)

//go:generate go run . ..

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("give the folder to write to")
	}
	files, err := generate()
	if err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(args[0], name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the contact files by name, the same ones every time.
func generate() (map[string][]byte, error) {
	office, err := simplifiedchinese.GB18030.NewEncoder().Bytes(renewal())
	if err != nil {
		return nil, fmt.Errorf("encode renewal.csv: %w", err)
	}
	return map[string][]byte{"welcome.csv": welcome(), "renewal.csv": office, "survey.csv": survey()}, nil
}

var (
	surnames = strings.Fields("王 李 张 刘 陈 杨 黄 赵 吴 周 徐 孙 马 朱 胡 郭 何 林 高 罗")
	given    = strings.Fields("伟 芳 娜 敏 静 丽 强 磊 军 洋 勇 艳 杰 娟 涛 明 超 秀英 霞 平 建国 晓明 雨桐 子涵 浩然 思远")
	prefixes = strings.Fields("130 131 132 133 135 136 137 138 139 150 151 152 155 157 158 159 166 176 177 178 180 181 182 185 186 187 188 189 191 199")
	stores   = strings.Fields("西湖店 滨江店 拱墅店 萧山店 余杭店 钱塘店")
	policies = strings.Fields("车险 家财险 意外险 医疗险 旅行险")
)

func pick(r *rand.Rand, from []string) string { return from[r.IntN(len(from))] }

func person(r *rand.Rand) string { return pick(r, surnames) + pick(r, given) }

// number is the n-th made-up number of a block: the blocks of the samples differ.
func number(block string, n int) string {
	return fmt.Sprintf("%s%s%04d", prefixes[n%len(prefixes)], block, n/len(prefixes))
}

func welcome() []byte {
	r := rand.New(rand.NewPCG(1, 1))
	var b bytes.Buffer
	b.WriteString("手机号,姓名,等级\n")
	for n := range 12 {
		fmt.Fprintf(&b, "1380000%04d,%s,%s\n", 9001+n, person(r), pick(r, []string{"银卡", "金卡", "白金卡"}))
	}
	return b.Bytes()
}

const renewalRows = 300

// renewal is a file as an office sends it: most rows in order, one in six spelt
// oddly, and some that cannot be called.
func renewal() []byte {
	r := rand.New(rand.NewPCG(2, 2))
	var b bytes.Buffer
	b.WriteString("序号,客户姓名,手机号,险种,到期日,金额,备用电话\r\n")
	for n := range renewalRows {
		phone := number("0000", n)
		cells := []string{fmt.Sprint(n + 1), person(r), spelling(n, phone), pick(r, policies),
			fmt.Sprintf("%d月%d日", 1+r.IntN(12), 1+r.IntN(28)), fmt.Sprintf("%d.%02d", 200+r.IntN(4800), r.IntN(100)), ""}
		switch n {
		case 40:
			cells[2] = "1.38E+10" // shortened by a spreadsheet
		case 80:
			cells[2] = "400-000-0000"
		case 120:
			cells[2] = "+1 202 555 0100"
		case 150:
			cells[2] = number("0000", n) + "/" + number("0000", n+1000)
		case 160:
			cells[2] = ""
		case 170:
			cells[2] = phone[:10]
		case 180:
			cells[1] = "" // nobody to greet
		case 190:
			cells[3] = "车险$"
		case 200:
			cells = cells[:5] // a row cut short
		case 210:
			cells = append(cells, "已联系")
		case 220:
			cells[2] = "10086"
		case 230:
			cells[2] = "0571-0000" + fmt.Sprintf("%04d", n) + "转801"
		case 240, 241, 242:
			cells[2] = number("0000", n-220) // the same person again
		case 250:
			cells[2] = "+86 " + number("0000", 7) // and in another spelling
		}
		b.WriteString(strings.Join(cells, ",") + "\r\n")
	}
	b.WriteString("\r\n合计,,合计,,,750000.00,\r\n")
	return b.Bytes()
}

// spelling writes a number as people and spreadsheets do.
func spelling(n int, phone string) string {
	switch n % 36 {
	case 1:
		return "+86" + phone
	case 7:
		return phone[:3] + " " + phone[3:7] + " " + phone[7:]
	case 13:
		return `="` + phone + `"`
	case 19:
		return phone[:3] + "-" + phone[3:7] + "-" + phone[7:]
	case 25:
		return strings.Map(func(d rune) rune { return d - '0' + '０' }, phone)
	case 31:
		return fmt.Sprintf("0571-0000%04d", n) // a landline
	}
	return phone
}

const surveyRows = 8000

// survey has no faults, but one row in a hundred repeats an earlier number.
func survey() []byte {
	r := rand.New(rand.NewPCG(3, 3))
	var b bytes.Buffer
	b.WriteString("姓名,手机号,门店,消费日期\n")
	for n := range surveyRows {
		phone := number("0001", n)
		if n%100 == 99 {
			phone = number("0001", n-1-r.IntN(99))
		}
		fmt.Fprintf(&b, "%s,%s,%s,2026-%02d-%02d\n", person(r), phone, pick(r, stores), 1+r.IntN(11), 1+r.IntN(28))
	}
	return b.Bytes()
}
