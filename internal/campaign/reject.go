package campaign

import (
	"encoding/csv"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Reject is a row that became no contact. Reason is a PhoneReason or one of
// ragged_row, bad_quote, undecodable, zero_byte, cell_too_long, total_row,
// empty_variable, control_character and forbidden_character. A Reject prints without its row.
type Reject struct {
	Line   int // on which the row begins
	Reason string
	Detail string   // a sentence for a person, without the number
	Fields []string // the row as it was
}

const (
	reasonRagged      = "ragged_row"
	reasonQuote       = "bad_quote"
	reasonUndecodable = "undecodable"
	reasonNUL         = "zero_byte"
	reasonLong        = "cell_too_long"
	reasonTotal       = "total_row"
)

var speakReasons = map[error]string{
	errEmptyValue:      "empty_variable",
	errUndecodable:     reasonUndecodable,
	errControlInText:   "control_character",
	errForbiddenInText: "forbidden_character",
}

// String names line, reason and detail.
func (r Reject) String() string { return fmt.Sprintf("line %d: %s: %s", r.Line, r.Reason, r.Detail) }

// GoString hides the row from %#v too.
func (r Reject) GoString() string { return r.String() }

// LogValue leaves the row out of logs.
func (r Reject) LogValue() slog.Value {
	return slog.GroupValue(slog.Int("line", r.Line), slog.String("reason", r.Reason))
}

// rejectColumns stand in front of the columns of the file.
var rejectColumns = []string{"行号", "原因", "说明"}

// RejectWriter writes rejects as a CSV that a spreadsheet opens and that can be
// mended and imported again: UTF-8 with a mark, CRLF, and no cell that a
// spreadsheet would compute. It is not safe for concurrent use.
type RejectWriter struct {
	csv *csv.Writer
	cut int // columns of an earlier reject file, which are left out
}

// NewRejectWriter writes the header: line, reason and detail, then the columns of
// the file (Reader.Columns).
func NewRejectWriter(w io.Writer, columns []string) (*RejectWriter, error) {
	if _, err := io.WriteString(w, "\uFEFF"); err != nil {
		return nil, fmt.Errorf("write rejects: %w", err)
	}
	rw := &RejectWriter{csv: csv.NewWriter(w)}
	rw.csv.UseCRLF = true
	rw.cut = ownColumns(columns)
	return rw, rw.write(slices.Concat(rejectColumns, columns[rw.cut:]))
}

// ownColumns counts the columns that an earlier reject file put in front.
func ownColumns(columns []string) int {
	if len(columns) >= len(rejectColumns) && slices.Equal(columns[:len(rejectColumns)], rejectColumns) {
		return len(rejectColumns)
	}
	return 0
}

// Write adds a reject.
func (w *RejectWriter) Write(r *Reject) error {
	return w.write(slices.Concat([]string{strconv.Itoa(r.Line), r.Reason, r.Detail}, r.Fields[min(w.cut, len(r.Fields)):]))
}

func (w *RejectWriter) write(cells []string) error {
	for i, c := range cells {
		cells[i] = neutralCell(c)
	}
	if err := w.csv.Write(cells); err != nil {
		return fmt.Errorf("write rejects: %w", err)
	}
	return nil
}

// Flush writes what is buffered and returns the first error of any write.
func (w *RejectWriter) Flush() error {
	w.csv.Flush()
	if err := w.csv.Error(); err != nil {
		return fmt.Errorf("write rejects: %w", err)
	}
	return nil
}

// formulaStarts begin a cell that a spreadsheet computes.
const formulaStarts = "=+-@\t\r\n\x00＝＋－＠"

// neutralCell puts a ' in front of what a spreadsheet would take for a formula.
func neutralCell(s string) string {
	if r, _ := utf8.DecodeRuneInString(s); s != "" && strings.ContainsRune(formulaStarts, r) {
		return "'" + s
	}
	return s
}

// restoreCell takes off the ' that neutralCell put.
func restoreCell(s string) string {
	if rest, ok := strings.CutPrefix(s, "'"); ok && neutralCell(rest) != rest {
		return rest
	}
	return s
}
