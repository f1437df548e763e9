package campaign

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/xuri/excelize/v2"
)

const (
	// maxWorkbook bounds the packed spreadsheet, which is kept in memory.
	maxWorkbook = 64 << 20
	// maxUnpacked bounds all of it unpacked, and maxUnpackedPart what is kept in
	// memory of one part; larger parts go to a temporary file.
	maxUnpacked     = 1 << 30
	maxUnpackedPart = 16 << 20
)

// sheet writes the rows of a spreadsheet as CSV, one after the other, so that they go
// through the same checks as those of any file.
type sheet struct {
	book    *excelize.File
	name    string
	shown   *excelize.Rows // cells as a person sees them
	stored  *excelize.Rows // cells as they are kept, with all digits
	width   int            // of the header
	row     int            // of the sheet
	line    int            // of the CSV
	shifts  []shift
	pending bytes.Buffer
	csv     *csv.Writer
	err     error
}

// shift says that from a line of the CSV on, line + by is the row of the sheet: cells
// may hold line breaks.
type shift struct{ line, by int }

// openSheet opens the sheet of that name, or, for "", the one that was open when the
// file was saved.
func openSheet(r io.Reader, name string, part int64) (_ *sheet, err error) {
	defer broken(&err)
	packed, err := io.ReadAll(io.LimitReader(r, maxWorkbook+1))
	switch {
	case err != nil:
		return nil, err
	case len(packed) > maxWorkbook:
		return nil, fmt.Errorf("the spreadsheet is larger than %d MiB; save it as CSV UTF-8", maxWorkbook>>20)
	}
	book, err := excelize.OpenReader(bytes.NewReader(packed), excelize.Options{UnzipSizeLimit: maxUnpacked, UnzipXMLSizeLimit: part})
	if err != nil {
		return nil, fmt.Errorf("the file is an archive, but no .xlsx spreadsheet that can be read (%w); open it and save it as .xlsx or CSV UTF-8", err)
	}
	s := &sheet{book: book, name: name}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	switch sheets := book.GetSheetList(); {
	case name == "":
		s.name = book.GetSheetName(book.GetActiveSheetIndex())
		if s.name == "" && len(sheets) > 0 {
			s.name = sheets[0]
		}
	default:
		if i, err := book.GetSheetIndex(name); err != nil || i < 0 {
			return nil, fmt.Errorf("the spreadsheet has no sheet %q; it has %s", short(name), listed(sheets))
		}
	}
	for _, rows := range []**excelize.Rows{&s.shown, &s.stored} {
		if *rows, err = book.Rows(s.name); err != nil {
			return nil, fmt.Errorf("sheet %q cannot be read: %w", short(s.name), err)
		}
	}
	s.csv = csv.NewWriter(&s.pending)
	s.pending.WriteString("\uFEFF") // the decoder need not guess
	s.line = 1
	return s, nil
}

// broken turns a panic over a malformed spreadsheet into an error about it.
func broken(err *error) {
	if recover() != nil {
		*err = errors.New("the spreadsheet is damaged; open it and save it as .xlsx or CSV UTF-8")
	}
}

func (s *sheet) Read(p []byte) (int, error) {
	for s.pending.Len() == 0 {
		if s.err == nil {
			s.err = s.next()
		}
		if s.err != nil {
			return 0, s.err
		}
	}
	return s.pending.Read(p)
}

// next writes one row.
func (s *sheet) next() (err error) {
	defer broken(&err)
	more := s.shown.Next()
	if s.stored.Next() != more || !more {
		if err := errors.Join(s.shown.Error(), s.stored.Error()); err != nil {
			return fmt.Errorf("the sheet cannot be read after row %d: %w", s.row, err)
		}
		return io.EOF
	}
	s.row++
	cells, err := s.shown.Columns()
	if err != nil {
		return fmt.Errorf("row %d of the sheet cannot be read: %w", s.row, err)
	}
	stored, err := s.stored.Columns(excelize.Options{RawCellValue: true})
	if err != nil {
		return fmt.Errorf("row %d of the sheet cannot be read: %w", s.row, err)
	}
	used := 0
	for i := range cells {
		if i < len(stored) {
			cells[i] = cellText(cells[i], stored[i])
		}
		if strings.TrimSpace(cells[i]) != "" {
			used = i + 1
		}
	}
	cells = cells[:used]
	if used == 0 {
		s.pending.WriteByte('\n')
		s.line++
		return nil
	}
	if s.width == 0 {
		s.width = used
	}
	for len(cells) < s.width {
		cells = append(cells, "")
	}
	if by := s.row - s.line; len(s.shifts) == 0 || s.shifts[len(s.shifts)-1].by != by {
		s.shifts = append(s.shifts, shift{s.line, by})
	}
	before := s.pending.Len()
	if err := s.csv.Write(cells); err != nil {
		return err
	}
	s.csv.Flush()
	s.line += bytes.Count(s.pending.Bytes()[before:], []byte("\n"))
	return s.csv.Error()
}

// rowOf returns the row of the sheet that a line of the CSV belongs to. Lines must not
// go backwards.
func (s *sheet) rowOf(line int) int {
	for len(s.shifts) > 1 && s.shifts[1].line <= line {
		s.shifts = s.shifts[1:]
	}
	if len(s.shifts) == 0 {
		return line
	}
	return line + s.shifts[0].by
}

var (
	digitsForm   = regexp.MustCompile(`^\d{10,}$`)
	exponentForm = regexp.MustCompile(`^(\d)(?:\.(\d+))?[eE]\+?(\d{1,2})$`)
)

// cellText chooses between a cell as it is shown, where a date is a date and an amount
// an amount, and as it is stored, where a long number has all its digits. A stored
// 1.3800138001E10, as some programs write whole numbers, is written out. With no more
// than the six digits that a spreadsheet shows it is the copy of a shortened number:
// it stays as it is, and ParsePhone refuses it.
func cellText(shown, stored string) string {
	if digitsForm.MatchString(stored) {
		return stored
	}
	m := exponentForm.FindStringSubmatch(stored)
	if m == nil {
		return shown
	}
	exponent, _ := strconv.Atoi(m[3])
	if fraction := m[2]; len(fraction) > 5 && len(fraction) <= exponent && exponent < 15 {
		return m[1] + fraction + strings.Repeat("0", exponent-len(fraction))
	}
	return stored
}

// close removes the temporary files.
func (s *sheet) close() error {
	var errs []error
	for _, rows := range []*excelize.Rows{s.shown, s.stored} {
		if rows != nil {
			errs = append(errs, rows.Close())
		}
	}
	return errors.Join(append(errs, s.book.Close())...)
}
