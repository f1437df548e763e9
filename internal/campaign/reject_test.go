package campaign

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func writeRejects(t testing.TB, columns []string, rejects ...*Reject) string {
	t.Helper()
	var b bytes.Buffer
	w, err := NewRejectWriter(&b, columns)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rejects {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRejectWriter(t *testing.T) {
	got := writeRejects(t, []string{"手机号", "姓名"},
		&Reject{Line: 3, Reason: "foreign", Detail: "a, b", Fields: []string{"+1 202 555 0100", "张三"}},
		&Reject{Line: 9, Reason: "ragged_row", Detail: "c", Fields: []string{"=cmd|' /C calc'!A0", "-1", "＠x"}})
	want := "\ufeff行号,原因,说明,手机号,姓名\r\n" +
		"3,foreign,\"a, b\",'+1 202 555 0100,张三\r\n" +
		"9,ragged_row,c,'=cmd|' /C calc'!A0,'-1,'＠x\r\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A person mends the rejects in the file and imports it; what is still wrong is
// rejected again, with the same columns.
func TestRejectsFeedAgain(t *testing.T) {
	file := "手机号,姓名\n+8613800000001x,-张三\n=\"1380000000\",李四\n合计,2\n"
	r, _, err := readAll(t, file, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rejects := func(r *Reader, file string) (all []*Reject) {
		again, err := NewReader(strings.NewReader(file), ReaderOptions{})
		for err == nil {
			var bad *Reject
			if _, bad, err = again.Next(); bad != nil {
				all = append(all, bad)
			}
		}
		return all
	}
	first := writeRejects(t, r.Columns(), rejects(r, file)...)
	mended := strings.Replace(first, "0001x", "0001", 1)
	r, got, err := readAll(t, mended, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0] != "2 13800000001 map[姓名:-张三]" || !strings.HasPrefix(got[1], "3 too_short") || !strings.HasPrefix(got[2], "4 total_row") {
		t.Errorf("the mended file reads %q", got)
	}
	second := writeRejects(t, r.Columns(), rejects(r, mended)...)
	if header, _, _ := strings.Cut(second, "\r\n"); header != "\ufeff行号,原因,说明,手机号,姓名" {
		t.Errorf("rejects of rejects begin with %q", header)
	}
	if !strings.Contains(second, "\r\n3,too_short,") || !strings.Contains(second, ",\"'=\"\"1380000000\"\"\",李四\r\n") {
		t.Errorf("rejects of rejects are %q", second)
	}
}

func TestNeutralCell(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cell := rapid.SampledFrom([]string{"", "=", "+", "-", "@", "\t", "\r", "\n", "\x00", "＝", "＋", "－", "＠", "'", "'="}).Draw(t, "start") + rapid.String().Draw(t, "rest")
		safe := neutralCell(cell)
		if safe != "" && strings.ContainsAny(string([]rune(safe)[0]), "=+-@\t\r\n\x00＝＋－＠") {
			t.Fatalf("%q becomes %q, which a spreadsheet computes", cell, safe)
		}
		if !strings.HasPrefix(cell, "'") && restoreCell(safe) != cell {
			t.Fatalf("%q becomes %q and comes back as %q", cell, safe, restoreCell(safe))
		}
		var b bytes.Buffer
		w, err := NewRejectWriter(&b, []string{"a"})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Write(&Reject{Line: 1, Fields: []string{cell}}), w.Flush()); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&b).ReadAll()
		// encoding/csv drops carriage returns: it writes its own.
		if err != nil || strings.ReplaceAll(rows[1][3], "\r", "") != strings.ReplaceAll(safe, "\r", "") {
			t.Fatalf("%q was written so that it reads %q, %v", safe, rows, err)
		}
	})
}

// The row holds somebody's number and name.
func TestRejectPrintsWithoutItsRow(t *testing.T) {
	r := Reject{Line: 7, Reason: "foreign", Detail: "d", Fields: []string{"13800000001", "张三"}}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("reject", "a", r, "b", &r)
	all := log.String() + fmt.Sprintf("%v %+v %#v %s %q %v %+v %#v", r, r, r, r, r, &r, &r, &r)
	if strings.Contains(all, "13800000001") || strings.Contains(all, "张三") || !strings.Contains(all, "line 7: foreign: d") {
		t.Errorf("a reject prints as %s", all)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestRejectWriterTellsOfErrors(t *testing.T) {
	if _, err := NewRejectWriter(fullDisk{}, nil); err == nil || !strings.Contains(err.Error(), "write rejects: no space left") {
		t.Errorf("got %v", err)
	}
}
