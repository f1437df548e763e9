package campaign

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gocarina/gocsv"
)

// ReaderOptions say what a contact file must hold.
type ReaderOptions struct {
	Columns Columns
	// Need are the columns that the call speaks (Call.Placeholders): a file without
	// one of them is refused before a row is read, a row without a value in it is a
	// reject.
	Need []string
	// Delimiter is one of , ; | and tab; 0 finds it in the header.
	Delimiter rune
	// MaxRecord is the longest record in bytes; 0 means 64 KiB. A longer one ends the
	// file with an error.
	MaxRecord int
}

const (
	defaultMaxRecord = 64 << 10
	maxField         = 8 << 10
)

// phoneTag is the header that gocsv maps to the number. No column has this name:
// folded names have no space in front.
const phoneTag = " phone"

// row is what gocsv fills; all other columns are the contact's variables.
type row struct {
	Phone string `csv:" phone"`
}

// Reader reads the contacts of a CSV file one by one, in the memory of one record.
// It finds out encoding (UTF-8, GB18030 with GBK, UTF-16 with a mark), delimiter and
// columns by itself. A Reader is not safe for concurrent use.
type Reader struct {
	input     *counter
	decoder   *decoder
	guard     *guard
	csv       *csv.Reader
	rows      *gocsv.Unmarshaller
	delimiter rune
	columns   []string
	need      []string
	phone     int
	read      int
	blank     int
	end       error // what every further Next returns
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// NewReader reads the header of a contact file. Its errors are sentences about the
// file as a whole: empty, not text, no column for the numbers, a column that the
// campaign needs missing, two columns of one name.
func NewReader(r io.Reader, o ReaderOptions) (*Reader, error) {
	input := &counter{r: r}
	dec, err := newDecoder(input)
	if err != nil {
		return nil, err
	}
	text := bufio.NewReaderSize(dec, window)
	line, err := headerLine(text)
	if err != nil {
		return nil, err
	}
	rd := &Reader{input: input, decoder: dec, delimiter: o.Delimiter}
	switch {
	case o.Delimiter == 0:
		rd.delimiter = sniff(line)
	case !strings.ContainsRune(",;\t|", o.Delimiter):
		return nil, fmt.Errorf("the delimiter %q is none of , ; | and tab", o.Delimiter)
	}
	if o.MaxRecord <= 0 {
		o.MaxRecord = defaultMaxRecord
	}
	rd.guard = newGuard(text, byte(rd.delimiter), o.MaxRecord)
	rd.csv = csv.NewReader(rd.guard)
	rd.csv.Comma = rd.delimiter
	rd.rows, err = gocsv.NewUnmarshaller(rd.csv, row{})
	if bad, ok := errors.AsType[*csv.ParseError](err); ok {
		return nil, fmt.Errorf("line %d: a quote stands where none may be in the header", bad.StartLine)
	} else if err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	if rd.columns, rd.phone, err = findColumns(rd.rows.Headers, o, rd.delimiter); err != nil {
		return nil, err
	}
	for _, n := range o.Need {
		rd.need = append(rd.need, foldName(n))
	}
	mapped := slices.Clone(rd.columns)
	mapped[rd.phone] = phoneTag
	if err := rd.rows.RenormalizeHeaders(func([]string) []string { return mapped }); err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	rd.blank, _ = blankLines(rd.guard.take(rd.csv.InputOffset()))
	return rd, nil
}

// headerLine looks at the first line that is not empty.
func headerLine(text *bufio.Reader) ([]byte, error) {
	head, err := text.Peek(window)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	trimmed := bytes.TrimLeft(head, "\r\n")
	if len(bytes.TrimSpace(trimmed)) == 0 {
		return nil, errors.New("the file is empty; it needs a line with the names of the columns, as 手机号,姓名")
	}
	line, _, found := bytes.Cut(trimmed, []byte("\n"))
	switch {
	case bytes.IndexByte(line, 0) >= 0:
		return nil, errors.New("the header holds zero bytes, so this is no text file; save it as CSV UTF-8")
	case bytes.IndexByte(bytes.TrimSuffix(line, []byte("\r")), '\r') >= 0 && !found:
		return nil, errors.New("the lines end in carriage returns only, as on an old Macintosh; save the file as CSV UTF-8")
	}
	return line, nil
}

// sniff returns the delimiter that stands most often in the header, outside quotes.
func sniff(line []byte) rune {
	best, most := ',', 0
	for _, d := range []rune{',', '\t', ';', '|'} {
		n, inQuotes := 0, false
		for _, c := range line {
			switch {
			case c == '"':
				inQuotes = !inQuotes
			case c == byte(d) && !inQuotes:
				n++
			}
		}
		if n > most {
			best, most = d, n
		}
	}
	return best
}

// Next returns the next contact, with N left 0, or the next reject, or an error:
// io.EOF at the end, anything else when the file cannot be read any further. Rows
// that are empty are counted and skipped; rows read = contacts + rejects.
func (r *Reader) Next() (Contact, *Reject, error) {
	if r.end != nil {
		return Contact{}, nil, r.end
	}
	for {
		value, vars, err := r.rows.ReadUnmatched()
		blank, raw := blankLines(r.guard.take(r.csv.InputOffset()))
		r.blank += blank
		if bad, ok := errors.AsType[*csv.ParseError](err); ok {
			fields := r.fields(raw)
			if isBlank(fields) {
				r.blank++
				continue
			}
			r.read++
			return Contact{}, r.malformed(bad, raw, fields), nil
		}
		if err != nil {
			r.end = r.fileError(err)
			return Contact{}, nil, r.end
		}
		if strings.TrimSpace(value.(row).Phone) == "" && isBlank(r.fields(raw)) {
			r.blank++
			continue
		}
		r.read++
		line, _ := r.csv.FieldPos(0)
		c, bad := r.contact(value.(row).Phone, vars)
		if bad != nil {
			bad.Line, bad.Fields = line, r.fields(raw)
			return Contact{}, bad, nil
		}
		c.Line = line
		return c, nil, nil
	}
}

func (r *Reader) fileError(err error) error {
	if err != io.EOF {
		return err
	}
	if r.read == 0 {
		return errors.New("the file has no contacts below its header")
	}
	return io.EOF
}

// malformed turns a row that is no proper record into a reject.
func (r *Reader) malformed(bad *csv.ParseError, raw []byte, fields []string) *Reject {
	j := &Reject{Line: bad.StartLine, Fields: fields}
	if errors.Is(bad.Err, csv.ErrFieldCount) {
		j.Reason = reasonRagged
		j.Detail = fmt.Sprintf("the row has %d cells where the header has %d", len(fields), len(r.columns))
		return j
	}
	j.Reason, j.Detail = reasonQuote, "a quote stands where none may be; double it, or remove it"
	if lines := bytes.Count(bytes.TrimRight(raw, "\r\n"), []byte("\n")); lines > 0 {
		j.Detail += fmt.Sprintf("; lines %d to %d belong to this reject", j.Line, j.Line+lines)
	}
	return j
}

// contact checks one proper record.
func (r *Reader) contact(cell string, vars map[string]string) (Contact, *Reject) {
	delete(vars, "")
	if bad := checkCell(r.columns[r.phone], cell); bad != nil {
		return Contact{}, bad
	}
	phone, err := ParsePhone(restoreCell(cell))
	if bad, ok := errors.AsType[*PhoneError](err); ok {
		return Contact{}, &Reject{Reason: string(bad.Reason), Detail: bad.Hint()}
	}
	for _, name := range r.columns {
		value, ok := vars[name]
		if !ok {
			continue
		}
		if bad := checkCell(name, value); bad != nil {
			return Contact{}, bad
		}
		vars[name] = strings.TrimSpace(restoreCell(value))
	}
	for _, name := range r.need {
		if err := speakable(vars[name]); err != nil {
			return Contact{}, &Reject{Reason: speakReasons[err], Detail: fmt.Sprintf("column %q %v", short(name), err)}
		}
	}
	return Contact{Phone: phone, Vars: vars}, nil
}

// checkCell refuses what no column may hold.
func checkCell(name, value string) *Reject {
	switch {
	case len(value) > maxField:
		return &Reject{Reason: reasonLong, Detail: fmt.Sprintf("column %q has %d bytes, more than %d; a quote may be missing", short(name), len(value), maxField)}
	case strings.IndexByte(value, 0) >= 0:
		return &Reject{Reason: reasonNUL, Detail: fmt.Sprintf("column %q holds a zero byte", short(name))}
	case !utf8.ValidString(value) || strings.ContainsRune(value, utf8.RuneError):
		return &Reject{Reason: reasonUndecodable, Detail: fmt.Sprintf("column %q %v", short(name), errUndecodable)}
	}
	return nil
}

// fields splits the bytes of a record as well as it can be done.
func (r *Reader) fields(raw []byte) []string {
	lazy := csv.NewReader(bytes.NewReader(raw))
	lazy.Comma, lazy.LazyQuotes, lazy.FieldsPerRecord = r.delimiter, true, -1
	fields, err := lazy.Read()
	if err != nil || int(lazy.InputOffset()) < len(raw) {
		return []string{string(bytes.TrimRight(raw, "\r\n"))}
	}
	return fields
}

func isBlank(fields []string) bool {
	return !slices.ContainsFunc(fields, func(f string) bool { return foldName(f) != "" })
}

// Encoding names the encoding: UTF-8, GB18030, UTF-16LE or UTF-16BE. A file is UTF-8
// until its first character that is not ASCII, so the answer is final at the end.
func (r *Reader) Encoding() string { return r.decoder.enc }

// Delimiter is what separates the columns.
func (r *Reader) Delimiter() rune { return r.delimiter }

// PhoneColumn is the name of the column that holds the numbers.
func (r *Reader) PhoneColumn() string { return r.columns[r.phone] }

// Columns are the names of all columns, folded, in the order of the file.
func (r *Reader) Columns() []string { return slices.Clone(r.columns) }

// Blank counts the empty rows and lines passed so far.
func (r *Reader) Blank() int { return r.blank }

// Offset is how many bytes of the file have been read, for a progress line: up to
// some 128 KiB ahead of the row just returned.
func (r *Reader) Offset() int64 { return r.input.n }
