package campaign

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
)

// readAll gives one line per contact and reject, and the error that ended the file.
func readAll(t testing.TB, file string, o ReaderOptions) (*Reader, []string, error) {
	t.Helper()
	r, err := NewReader(strings.NewReader(file), o)
	if err != nil {
		return nil, nil, err
	}
	var got []string
	for {
		c, bad, err := r.Next()
		switch {
		case err == io.EOF:
			return r, got, nil
		case err != nil:
			if _, _, again := r.Next(); again != err {
				t.Errorf("after %v, Next says %v", err, again)
			}
			return r, got, err
		case bad != nil:
			got = append(got, fmt.Sprintf("%d %s %q", bad.Line, bad.Reason, bad.Fields))
		default:
			got = append(got, fmt.Sprintf("%d %s %v", c.Line, c.Phone.Digits(), c.Vars))
		}
	}
}

func TestReader(t *testing.T) {
	need := ReaderOptions{Need: []string{"姓名"}}
	for _, tt := range []struct {
		name, file string
		o          ReaderOptions
		want       []string
		blank      int
	}{
		{"plain", "手机号,姓名\n13800000001,张三\n13800000002,李四", need,
			[]string{"2 13800000001 map[姓名:张三]", "3 13800000002 map[姓名:李四]"}, 0},
		{"CRLF, blank lines and empty rows", "\r\n手机号,姓名\r\n\r\n13800000001,张三\r\n,\r\n  , \r\n   \r\n\r\n13800000002,李四\r\n\r\n\r\n", need,
			[]string{"4 13800000001 map[姓名:张三]", "9 13800000002 map[姓名:李四]"}, 8},
		{"header folded", " ＰＨＯＮＥ ,\ufeff姓名 ,备\u3000注\n13800000001, 张三 ,x\n", need,
			[]string{"2 13800000001 map[备 注:x 姓名:张三]"}, 0},
		{"quoted", "手机号,姓名\n\"13800000001\",\"张\"\"三\"\"\"\n\"13800000002\",李四\n", ReaderOptions{},
			[]string{`2 13800000001 map[姓名:张"三"]`, "3 13800000002 map[姓名:李四]"}, 0},
		{"lines of a field", "手机号,备注\n13800000001,\"a\r\nb\n\nc\"\n13800000002,d\n", ReaderOptions{},
			[]string{"2 13800000001 map[备注:a\nb\n\nc]", "6 13800000002 map[备注:d]"}, 0},
		{"spreadsheet's protection", "手机号,姓名\n=\"13800000001\",张三\n=13800000002,李四\n'13800000003,王五\n\"=\"\"13800000004\"\"\",赵六\n=\"13800000005,孙七\n=", ReaderOptions{},
			[]string{"2 13800000001 map[姓名:张三]", `3 not_a_number ["=13800000002" "李四"]`, "4 13800000003 map[姓名:王五]", "5 13800000004 map[姓名:赵六]",
				`6 ragged_row ["=\"13800000005,孙七"]`, `7 ragged_row ["="]`}, 0},
		{"ragged rows", "手机号,姓名\n13800000001\n13800000002,李四,x\n13800000003,王五\n", need,
			[]string{`2 ragged_row ["13800000001"]`, `3 ragged_row ["13800000002" "李四" "x"]`, "4 13800000003 map[姓名:王五]"}, 0},
		{"stray quotes", "手机号,姓名\n13800000001,张\"三\n\"13800000002\"x,李四\n\"1\n2\"x,a\n13800000003,王五\n", need,
			[]string{`2 bad_quote ["13800000001" "张\"三"]`, `3 bad_quote ["13800000002\"x,李四\n"]`, `4 bad_quote ["1\n2\"x,a\n"]`, "6 13800000003 map[姓名:王五]"}, 0},
		{"bad phones", "手机号,姓名\n1.38E+10,张三\n合计,2\n,李四\n", need,
			[]string{`2 scientific_notation ["1.38E+10" "张三"]`, `3 total_row ["合计" "2"]`, `4 empty ["" "李四"]`}, 0},
		{"totals", "姓名,手机号\n合计：,3\n,总 计\n Total,\n小计\n合计明,13800000001\n总计,13800000002\n", ReaderOptions{},
			[]string{`2 total_row ["合计：" "3"]`, `3 total_row ["" "总 计"]`, `4 total_row [" Total" ""]`, `5 total_row ["小计"]`,
				"6 13800000001 map[姓名:合计明]", "7 13800000002 map[姓名:总计]"}, 0},
		{"what cannot be spoken", "手机号,姓名,备注\n13800000001,,a\n13800000002,$张三,a\n13800000003,\"张\n三\",a\n13800000004,王五,a=b{$}\n13800000005,￥9,\n", need,
			[]string{`2 empty_variable ["13800000001" "" "a"]`, `3 forbidden_character ["13800000002" "$张三" "a"]`, `4 control_character ["13800000003" "张\n三" "a"]`,
				"6 13800000004 map[备注:a=b{$} 姓名:王五]", `7 forbidden_character ["13800000005" "￥9" ""]`}, 0},
		{"broken bytes", "手机号,姓名,备注\n13800000001,张三,这是备注\n13800000002,李\xff四,注\n13800000003,王\uFFFD五,注\n1380000\x000004,赵六,注\n", need,
			[]string{"2 13800000001 map[备注:这是备注 姓名:张三]", `3 undecodable ["13800000002" "李\xff四" "注"]`, `4 undecodable ["13800000003" "王` + "\uFFFD" + `五" "注"]`, `5 zero_byte ["1380000\x000004" "赵六" "注"]`}, 0},
		{"columns without a name", "手机号,姓名,,\n13800000001,张三,,x\n", need, []string{"2 13800000001 map[姓名:张三]"}, 0},
		{"semicolons", "手机号;姓名\n13800000001;张,三\n", ReaderOptions{}, []string{"2 13800000001 map[姓名:张,三]"}, 0},
		{"tabs", "姓名\t手机号\n张三\t13800000001\n", ReaderOptions{}, []string{"2 13800000001 map[姓名:张三]"}, 0},
		{"bars", "姓名|手机号\n张三|13800000001\n", ReaderOptions{}, []string{"2 13800000001 map[姓名:张三]"}, 0},
		{"old Macintosh", "手机号,姓名\r\r13800000001,张三\r13800000002,\"李\r四\"\r138,x\r\n13800000003,王五", ReaderOptions{},
			[]string{"3 13800000001 map[姓名:张三]", "4 13800000002 map[姓名:李\n四]", `6 too_short ["138" "x"]`, "7 13800000003 map[姓名:王五]"}, 1},
		{"one column", "手机号\n13800000001\n", ReaderOptions{}, []string{"2 13800000001 map[]"}, 0},
		{"delimiter given", "手机号,a;b\n13800000001,x\n", ReaderOptions{Delimiter: ','}, []string{"2 13800000001 map[a;b:x]"}, 0},
		{"column named", "手机号,备用 电话\n1,13800000001\n", ReaderOptions{Columns: Columns{Phone: " 备用\u3000电话"}}, []string{"2 13800000001 map[手机号:1]"}, 0},
		{"neutralised", "手机号,姓名,差\n'+8613800000001,张三,'-5\n", need, []string{"2 13800000001 map[姓名:张三 差:-5]"}, 0},
		{"long cell", "手机号,姓名\n13800000001," + strings.Repeat("a", maxField+1) + "\n13800000002,张三\n", ReaderOptions{},
			[]string{`2 cell_too_long ["13800000001" "` + strings.Repeat("a", maxField+1) + `"]`, "3 13800000002 map[姓名:张三]"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, got, err := readAll(t, tt.file, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if r.Blank() != tt.blank {
				t.Errorf("%d blank lines, want %d", r.Blank(), tt.blank)
			}
			if r.Offset() != int64(len(tt.file)) {
				t.Errorf("offset %d at the end of %d bytes", r.Offset(), len(tt.file))
			}
		})
	}
}

func TestReaderRefusesFiles(t *testing.T) {
	need := ReaderOptions{Need: []string{"姓名"}}
	for _, tt := range []struct {
		name, file string
		o          ReaderOptions
		want       []string // parts of the sentence
	}{
		{"empty", "", need, []string{"file is empty", "names of the columns"}},
		{"only blank lines", "\r\n\n \n", need, []string{"file is empty"}},
		{"only a mark", "\ufeff", need, []string{"file is empty"}},
		{"header only", "手机号,姓名\n\n", need, []string{"no contacts below its header"}},
		{"no phone column", "编号,姓名\n1,张三\n", need, []string{`"编号", "姓名"`, "columns.phone"}},
		{"no header", "13800000001,张三\n", need, []string{"first line holds a phone number", "手机号,姓名"}},
		{"digits are hidden", "1380000000123,张三\n", need, []string{`"(digits)", "张三"`}},
		{"two phone columns", "手机号,联系电话\n", ReaderOptions{}, []string{`"手机号" and "联系电话"`, "set columns.phone"}},
		{"named column missing", "手机,姓名\n", ReaderOptions{Columns: Columns{Phone: "手机号"}}, []string{`"手机号"`, `"手机", "姓名"`, "columns.phone"}},
		{"needed column missing", "手机号,名字\n", need, []string{"{姓名}", `"手机号", "名字"`}},
		{"number spoken", "手机号,姓名\n", ReaderOptions{Need: []string{"手机号"}}, []string{"{手机号}", "not spoken"}},
		{"same name twice", "手机号,姓名, 姓名\n", need, []string{`columns 2 and 3 are both named "姓名"`}},
		{"wrong delimiter", "手机号;姓名\n", ReaderOptions{Delimiter: ','}, []string{"delimiter may be wrong"}},
		{"full-width comma", "手机号，姓名\n", need, []string{"delimiter may be wrong"}},
		{"odd delimiter", "手机号#姓名\n", ReaderOptions{Delimiter: '#'}, []string{"none of , ; | and tab"}},
		{"archive", "PK\x03\x04xxxxxx", need, []string{"no .xlsx spreadsheet", "save it as .xlsx or CSV"}},
		{"old spreadsheet", "\xD0\xCF\x11\xE0\xA1\xB1", need, []string{"save it as .xlsx or CSV"}},
		{"compressed", "\x1f\x8b\x08xxxx", need, []string{"begins as a compressed one"}},
		{"UTF-16 without a mark", "p\x00h\x00o\x00n\x00e\x00\n\x00", need, []string{"UTF-16 without a mark"}},
		{"zero bytes", "phone\x00,name,column,column\n", need, []string{"zero bytes"}},
		{"quote in the header", "手机号,\"姓名\"x\n", need, []string{"line 1", "quote"}},
		{"open quote in the header", "手机号,\"姓名\n1,2\n", need, []string{"line 1", "never closed"}},
		{"broken header", "手机号,姓名这里很长,姓\xff名\n", need, []string{"column 3 cannot be read"}},
		{"open quote", "手机号,姓名\n13800000001,张三\n\n13800000002,\"李四\n13800000003,王五\n", need, []string{"line 4", "never closed"}},
		{"open quote that hits another", "手机号,姓名\n13800000001,\"张三\n" + strings.Repeat("13800000002,李四\n", 10000), need, []string{"line 2", "longer than 65536"}},
		{"endless line", "手机号,姓名\n13800000001," + strings.Repeat("x", 100000), need, []string{"line 2", "longer than 65536"}},
		{"small limit", "手机号,姓名\n13800000001,张三张三张三张三\n", ReaderOptions{MaxRecord: 20}, []string{"line 2", "longer than 20"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := readAll(t, tt.file, tt.o)
			if err == nil {
				t.Fatal("the file was read")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q says nothing of %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "13800000") {
				t.Errorf("%q holds a number", err)
			}
		})
	}
}

// A file that ends in an error still gave every contact before it.
func TestReaderGivesWhatStandsBeforeTheError(t *testing.T) {
	_, got, err := readAll(t, "手机号,姓名\n13800000001,张三\n1,李四\n13800000003\n13800000004,\"王五\n", ReaderOptions{})
	want := []string{"2 13800000001 map[姓名:张三]", `3 too_short ["1" "李四"]`, `4 ragged_row ["13800000003"]`}
	if diff := cmp.Diff(want, got); diff != "" || err == nil || !strings.Contains(err.Error(), "line 5") {
		t.Errorf("error %v, (-want +got):\n%s", err, diff)
	}
}

func TestReaderEncodings(t *testing.T) {
	const text = "手机号,姓名\n13800000001,张三\n13800000002,镕𠮷€\n"
	ascii := "phone,name\n" + strings.Repeat("13800000001,a\n", 6000)
	for _, tt := range []struct {
		name string
		enc  encoding.Encoding
		mark string
		text string
		want string
	}{
		{"UTF-8", encoding.Nop, "", text, encUTF8},
		{"UTF-8 with mark", encoding.Nop, "\ufeff", text, encUTF8},
		{"GB18030", simplifiedchinese.GB18030, "", text, encGB18030},
		{"GB18030 with mark", simplifiedchinese.GB18030, "\ufeff", text, encGB18030},
		{"UTF-16LE", unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), "", text, encUTF16LE},
		{"UTF-16BE", unicode.UTF16(unicode.BigEndian, unicode.UseBOM), "", text, encUTF16BE},
		{"ASCII", encoding.Nop, "", ascii, encUTF8},
		{"late GB18030", simplifiedchinese.GB18030, "", ascii + "13800000002,张三\n", encGB18030},
		{"late UTF-8", encoding.Nop, "", ascii + "13800000002,张三\n", encUTF8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, want, err := readAll(t, tt.text, ReaderOptions{})
			if err != nil {
				t.Fatal(err)
			}
			file, err := tt.enc.NewEncoder().String(tt.mark + tt.text)
			if err != nil {
				t.Fatal(err)
			}
			r, got, err := readAll(t, file, ReaderOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if r.Encoding() != tt.want {
				t.Errorf("encoding %s, want %s", r.Encoding(), tt.want)
			}
		})
	}
	if _, got, err := readAll(t, "\xca\xd6\xbb\xfa\xba\xc5,a\n13800000001,\xff\xff\n13800000002,\xd5\xc5\n", ReaderOptions{}); err != nil ||
		len(got) != 2 || !strings.HasPrefix(got[0], "2 undecodable") || got[1] != "3 13800000002 map[a:张]" {
		t.Errorf("a GB18030 file with a broken byte: %q, %v", got, err)
	}
}

// One quote that is never closed must not swallow a gigabyte.
func TestReaderBoundsMemory(t *testing.T) {
	const size = 1 << 30
	head := "手机号,姓名\n13800000001,张三\n13800000002,\""
	for _, filler := range []string{"x", "13800000003,李四\n"} {
		endless := &repeat{text: []byte(strings.Repeat(filler, 4096)), left: size}
		r, err := NewReader(io.MultiReader(strings.NewReader(head), endless), ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for err == nil {
			_, _, err = r.Next()
		}
		runtime.ReadMemStats(&after)
		if !strings.Contains(err.Error(), "line 3: a record begins here") {
			t.Errorf("got %v", err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
			t.Errorf("%d bytes were allocated to refuse an endless record", used)
		}
		if r.Offset() > 1<<20 {
			t.Errorf("%d bytes were read to refuse an endless record", r.Offset())
		}
	}
}

type repeat struct {
	text []byte
	left int
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	n := copy(p, r.text)
	r.left -= n
	return n, nil
}

// A slow or broken source gives the same rows, or its own error.
func TestReaderSources(t *testing.T) {
	file := "手机号,姓名\n=\"13800000001\",张三\r\n\"13800000002\"\r\n,\"李\"\"四\"\n"
	_, want, err := readAll(t, file, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(&oneByte{strings.NewReader(file)}, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if _, _, err := r.Next(); err != nil {
			t.Fatalf("row %d of %d: %v", i, len(want), err)
		}
	}
	if _, _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	broken := errors.New("the disk is gone")
	r, err = NewReader(io.MultiReader(strings.NewReader(file+strings.Repeat("13800000001,a\n", 40000)), failing{broken}), ReaderOptions{})
	for err == nil {
		_, _, err = r.Next()
	}
	if !errors.Is(err, broken) {
		t.Errorf("a broken source ends with %v", err)
	}
}

type oneByte struct{ r io.Reader }

func (o *oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func FuzzReader(f *testing.F) {
	for _, s := range []string{"手机号,姓名\n13800000001,张三\n", "phone\n=\"13800000001\"\n", "phone;a\r\n\"1\r\n\";\"\"\"\r\n", "\xff\xfep\x00\n\x00", "\xca\xd6\xbb\xfa,a\n1,\xff\n", "phone,a\n1,\"\n\n\n", "phone,a\r13800000001,\"\r\"\r\r\n合计,\r",
		gzipped(f, func(w io.Writer) { io.WriteString(w, "phone\n13800000001\n") }),
		workbook(f, []string{"名单"}, rows(f, []any{"手机号", "备注"}, []any{"13800000001", "a\nb"}, []any{}, []any{1380000.5})),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := NewReader(bytes.NewReader(file), ReaderOptions{})
		if err != nil {
			return
		}
		defer r.Close()
		last, rows := 0, 0
		for {
			c, bad, err := r.Next()
			if err != nil {
				break
			}
			rows++
			line := c.Line
			if bad != nil {
				line = bad.Line
				if c.Phone != 0 || bad.Reason == "" || bad.Detail == "" || len(bad.Fields) == 0 {
					t.Fatalf("contact %v with reject %v of %q", c, bad, bad.Fields)
				}
			} else if c.Phone == 0 || c.Vars == nil {
				t.Fatalf("contact %v without a number", c)
			}
			if line <= last {
				t.Fatalf("line %d after line %d", line, last)
			}
			last = line
		}
		if f := r.Format(); f.Compression != "" || f.Sheet != "" {
			return // the lines are not those of the bytes
		}
		if lines := bytes.Count(file, []byte("\n")) + bytes.Count(file, []byte("\r")) + 1; last+r.Blank() > 2*lines || rows > lines {
			t.Fatalf("%d rows and %d blanks in %d lines", rows, r.Blank(), lines)
		}
	})
}

// The reader beside encoding/csv, which does not look at what it reads.
func BenchmarkReader(b *testing.B) {
	var file bytes.Buffer
	file.WriteString("手机号,姓名,金额,日期,备注,编号\n")
	const rows = 20000
	for i := range rows {
		fmt.Fprintf(&file, "138%08d,张三,199.00,11月24日,备注,%d\n", i, i)
	}
	count := func(b *testing.B, next func(io.Reader) (func() error, error)) {
		b.SetBytes(int64(file.Len()))
		b.ReportAllocs()
		for b.Loop() {
			read, err := next(bytes.NewReader(file.Bytes()))
			n := 0
			for ; err == nil; n++ {
				err = read()
			}
			if err != io.EOF || n != rows+1 {
				b.Fatal(n, err)
			}
		}
		b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	}
	b.Run("contacts", func(b *testing.B) {
		count(b, func(f io.Reader) (func() error, error) {
			r, err := NewReader(f, ReaderOptions{Need: []string{"姓名"}})
			return func() error { _, _, err := r.Next(); return err }, err
		})
	})
	b.Run("encoding-csv", func(b *testing.B) {
		count(b, func(f io.Reader) (func() error, error) {
			r := csv.NewReader(f)
			r.ReuseRecord = true
			_, err := r.Read()
			return func() error { _, err := r.Read(); return err }, err
		})
	})
}
