package campaign

import (
	"archive/zip"
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/xuri/excelize/v2"
)

// workbook saves sheets in the order of their names; the last one is the open one.
func workbook(t testing.TB, names []string, fill func(f *excelize.File, sheet string)) string {
	t.Helper()
	f := excelize.NewFile()
	defer f.Close()
	for i, name := range names {
		if i == 0 {
			f.SetSheetName("Sheet1", name)
		} else if _, err := f.NewSheet(name); err != nil {
			t.Fatal(err)
		}
		f.SetActiveSheet(i)
		fill(f, name)
	}
	var b bytes.Buffer
	if err := f.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func rows(t testing.TB, rows ...[]any) func(*excelize.File, string) {
	return func(f *excelize.File, sheet string) {
		for i, r := range rows {
			cell, _ := excelize.CoordinatesToCellName(1, i+1)
			if err := f.SetSheetRow(sheet, cell, &r); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestReaderOfSpreadsheets(t *testing.T) {
	book := workbook(t, []string{"名单"}, rows(t,
		[]any{"姓名", "手机号", "备注", "日期"},
		[]any{"张三", 13800000001, "two\nlines", time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)},
		[]any{},
		[]any{"李四", "057188888888"},
		[]any{"王五", "1.38E+10"},
		[]any{"赵六", time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)},
		[]any{"孙七", "+86 138 0000 0002", 12.5},
		[]any{"周八", 1380000000123456789},
		[]any{"吴九", "13800000003", "", "", "over the edge"},
		[]any{"合计", 7},
	))
	r, got, err := readAll(t, book, ReaderOptions{Need: []string{"姓名"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"2 13800000001 map[备注:two\nlines 姓名:张三 日期:01-02-26]",
		"4 057188888888 map[备注: 姓名:李四 日期:]",
		`5 scientific_notation ["王五" "1.38E+10" "" ""]`,
		`6 too_short ["赵六" "01-02-26" "" ""]`,
		"7 13800000002 map[备注:12.5 姓名:孙七 日期:]",
		`8 too_long ["周八" "1380000000123456789" "" ""]`,
		`9 ragged_row ["吴九" "13800000003" "" "" "over the edge"]`,
		`10 total_row ["合计" "7" "" ""]`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want := (Format{Sheet: "名单"}); r.Format() != want {
		t.Errorf("format %+v", r.Format())
	}
}

func TestReaderChoosesTheSheet(t *testing.T) {
	book := workbook(t, []string{"一", "二"}, func(f *excelize.File, sheet string) {
		rows(t, []any{"手机号", "表"}, []any{"13800000001", sheet})(f, sheet)
	})
	for asked, want := range map[string]string{"": "二", "一": "一", "二": "二"} {
		r, got, err := readAll(t, book, ReaderOptions{Sheet: asked})
		if err != nil {
			t.Fatal(err)
		}
		if got[0] != "2 13800000001 map[表:"+want+"]" || r.Format().Sheet != want {
			t.Errorf("asked for %q: %s of %s", asked, got, r.Format())
		}
	}
	if _, _, err := readAll(t, book, ReaderOptions{Sheet: "三"}); err == nil || !strings.Contains(err.Error(), `no sheet "三"; it has "一", "二"`) {
		t.Errorf("a sheet that is not there: %v", err)
	}
	if _, _, err := readAll(t, "手机号\n13800000001\n", ReaderOptions{Sheet: "三"}); err == nil || !strings.Contains(err.Error(), "no .xlsx") {
		t.Errorf("a sheet of a CSV: %v", err)
	}
}

// A spreadsheet too large for memory goes through temporary files, which do not stay.
func TestReaderLeavesNoTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	note := strings.Repeat("0123456789", 3000)
	book := workbook(t, []string{"大"}, func(f *excelize.File, sheet string) {
		w, err := f.NewStreamWriter(sheet)
		if err != nil {
			t.Fatal(err)
		}
		w.SetRow("A1", []any{"手机号", "备注"})
		for i := range 30 {
			cell, _ := excelize.CoordinatesToCellName(1, i+2)
			w.SetRow(cell, []any{13800000000 + i, note})
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	})
	left := func() int {
		t.Helper()
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	r, err := NewReader(strings.NewReader(book), ReaderOptions{unpackedPart: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	if left() == 0 {
		t.Error("the sheet is in memory")
	}
	if err := r.Close(); err != nil || left() != 0 {
		t.Errorf("closed early: %v, %d temporary files", err, left())
	}
	if _, got, err := readAll(t, book, ReaderOptions{unpackedPart: 1 << 16}); err != nil || len(got) != 30 || left() != 0 {
		t.Errorf("%d rows, %v, %d temporary files", len(got), err, left())
	}
	if _, _, err := readAll(t, book, ReaderOptions{Need: []string{"姓名"}, unpackedPart: 1 << 16}); err == nil || left() != 0 {
		t.Errorf("refused file: %v, %d temporary files", err, left())
	}
}

func TestReaderRefusesBrokenSpreadsheets(t *testing.T) {
	var bomb bytes.Buffer
	z := zip.NewWriter(&bomb)
	// It says of itself that it is large; archive/zip holds it to what it says.
	w, err := z.CreateRaw(&zip.FileHeader{Name: "xl/workbook.xml", Method: zip.Deflate, CompressedSize64: 1, UncompressedSize64: maxUnpacked + 1})
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte{0})
	z.Close()
	if _, _, err := readAll(t, bomb.String(), ReaderOptions{}); err == nil || !strings.Contains(err.Error(), "no .xlsx spreadsheet that can be read (unzip size exceeds") {
		t.Errorf("bomb: %v", err)
	}
	book := workbook(t, []string{"名单"}, rows(t, []any{"手机号"}, []any{13800000001}))
	for cut := 4; cut < len(book); cut += 97 {
		if _, _, err := readAll(t, book[:cut], ReaderOptions{}); err == nil {
			t.Errorf("a spreadsheet of which %d of %d bytes are left was read", cut, len(book))
		}
	}
}

func TestCellText(t *testing.T) {
	for _, tt := range []struct{ shown, stored, want string }{
		{"1.38E+10", "13800138000", "13800138000"},
		{"1.38E+10", "1.3800138E10", "13800138000"},
		{"1.38E+10", "1.38E+10", "1.38E+10"},
		{"1.38001E+10", "1.38001E+10", "1.38001E+10"},
		{"13800138000", "1.38E10", "1.38E10"},
		{"1.38001E+16", "1.38001380013E16", "1.38001380013E16"},
		{"01-02-26", "46024", "01-02-26"},
		{"057188888888", "057188888888", "057188888888"},
		{"12.50", "12.5", "12.50"},
	} {
		if got := cellText(tt.shown, tt.stored); got != tt.want {
			t.Errorf("shown %q, stored %q: %q, want %q", tt.shown, tt.stored, got, tt.want)
		}
	}
}
