package campaign

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
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
	// Sheet is the sheet of a spreadsheet; "" is the one that was open when it was saved.
	Sheet string
	// MaxRecord is the longest record in bytes; 0 means 64 KiB. A longer one ends the
	// file with an error.
	MaxRecord int
	// unpackedPart is what of one part of a spreadsheet is kept in memory; 0 means
	// maxUnpackedPart.
	unpackedPart int64
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

// Reader reads the contacts of a CSV file or an .xlsx spreadsheet one by one, the CSV
// in the memory of one record. It finds out compression (gzip), encoding (UTF-8,
// GB18030 with GBK, UTF-16 with a mark), line ends, delimiter and columns by itself.
// The lines of a spreadsheet are its rows. A Reader is not safe for concurrent use.
type Reader struct {
	input     *counter
	packed    bool
	sheet     *sheet // nil for a CSV
	lineEnds  string
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
	closed    bool
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
// The Reader is to be closed when not read to its end.
func NewReader(r io.Reader, o ReaderOptions) (_ *Reader, err error) {
	input := &counter{r: r}
	src, packed, err := gunzip(input)
	if err != nil {
		return nil, err
	}
	rd := &Reader{input: input, packed: packed}
	defer func() {
		if err != nil {
			rd.Close()
		}
	}()
	file := io.Reader(src)
	head, _ := src.Peek(4) // an error comes again from the decoder
	switch {
	case bytes.Equal(head, []byte("PK\x03\x04")):
		if rd.sheet, err = openSheet(src, o.Sheet, cmp.Or(o.unpackedPart, maxUnpackedPart)); err != nil {
			return nil, err
		}
		file, o.Delimiter = rd.sheet, ','
	case o.Sheet != "":
		return nil, fmt.Errorf("the sheet %q was asked for, but the file is no .xlsx spreadsheet; leave the sheet out", short(o.Sheet))
	}
	if rd.decoder, err = newDecoder(file); err != nil {
		return nil, err
	}
	text := bufio.NewReaderSize(rd.decoder, window)
	line, ends, err := headerLine(text)
	if err != nil {
		return nil, err
	}
	rd.lineEnds, rd.delimiter = ends, o.Delimiter
	lines := io.Reader(text)
	if ends == lineCR {
		lines = returns{text}
	}
	switch {
	case o.Delimiter == 0:
		rd.delimiter = sniff(line)
	case !strings.ContainsRune(",;\t|", o.Delimiter):
		return nil, fmt.Errorf("the delimiter %q is none of , ; | and tab", o.Delimiter)
	}
	if o.MaxRecord <= 0 {
		o.MaxRecord = defaultMaxRecord
	}
	rd.guard = newGuard(lines, byte(rd.delimiter), o.MaxRecord)
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
	for i, name := range mapped[:ownColumns(mapped)] {
		if !slices.Contains(rd.need, name) {
			mapped[i] = "" // a mended reject file; what was wrong is no part of the contact
		}
	}
	mapped[rd.phone] = phoneTag
	if err := rd.rows.RenormalizeHeaders(func([]string) []string { return mapped }); err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	rd.blank, _ = blankLines(rd.guard.take(rd.csv.InputOffset()))
	return rd, nil
}

// Names of the line ends a contact file may have.
const (
	lineLF   = "LF"
	lineCRLF = "CRLF"
	lineCR   = "CR"
)

// headerLine looks at the first line that is not empty, and at how it ends.
func headerLine(text *bufio.Reader) (line []byte, ends string, err error) {
	head, err := text.Peek(window)
	if err != nil && err != io.EOF {
		return nil, "", fmt.Errorf("read the header: %w", err)
	}
	line = bytes.TrimLeft(head, "\r\n")
	if len(bytes.TrimSpace(line)) == 0 {
		return nil, "", errors.New("the file is empty; it needs a line with the names of the columns, as 手机号,姓名")
	}
	ends, inQuotes := lineLF, false
	for i, c := range line {
		if c == '"' {
			inQuotes = !inQuotes
		}
		if inQuotes || c != '\r' && c != '\n' {
			continue
		}
		if rest := line[i:]; bytes.HasPrefix(rest, []byte("\r\n")) {
			ends = lineCRLF
		} else if c == '\r' {
			ends = lineCR
		}
		line = line[:i]
		break
	}
	if bytes.IndexByte(line, 0) >= 0 {
		return nil, "", errors.New("the header holds zero bytes, so this is no text file; save it as CSV UTF-8")
	}
	return line, ends, nil
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
	c, bad, err := r.next()
	switch {
	case err != nil:
		r.Close()
	case r.sheet != nil && bad != nil:
		bad.Line = r.sheet.rowOf(bad.Line)
	case r.sheet != nil:
		c.Line = r.sheet.rowOf(c.Line)
	}
	return c, bad, err
}

// Close removes what a spreadsheet left in temporary files. Reading a file to its end
// does so too.
func (r *Reader) Close() error {
	if r.sheet == nil || r.closed {
		return nil
	}
	r.closed = true
	if r.end == nil {
		r.end = errors.New("the file is closed")
	}
	return r.sheet.close()
}

func (r *Reader) next() (Contact, *Reject, error) {
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
			j := r.malformed(bad, raw, fields)
			if r.isTotal(fields) && j.Reason == reasonRagged {
				j.total()
			}
			return Contact{}, j, nil
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
			if r.isTotal(bad.Fields) {
				bad.total()
			}
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
		if clean := strings.TrimSpace(restoreCell(value)); clean != value {
			vars[name] = clean
		}
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
	case strings.ContainsRune(value, utf8.RuneError): // finds broken bytes too
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

// isTotal reports whether a refused row is one that sums up the sheet: its first
// cell that is not empty, and is not what a reject file puts in front, says so.
func (r *Reader) isTotal(fields []string) bool {
	for _, f := range fields[min(ownColumns(r.columns), len(fields)):] {
		if f = matchName(foldName(f)); f != "" {
			return totalForm.MatchString(f)
		}
	}
	return false
}

var totalForm = regexp.MustCompile(`^(?:合计|总计|总数|小计|共计|(?:grand|sub)?total)[::]?(?:共?\d+[条人行个]?)?$`)

func (r *Reject) total() {
	r.Reason, r.Detail = reasonTotal, "the row is a total, not a contact; it can be left out"
}

// Encoding names the encoding: UTF-8, GB18030, UTF-16LE or UTF-16BE. A file is UTF-8
// until its first character that is not ASCII, so the answer is final at the end.
func (r *Reader) Encoding() string { return r.decoder.enc }

// Format is all that was found out about the file. Like Encoding it is final at the
// end.
func (r *Reader) Format() Format {
	f := Format{Encoding: r.decoder.enc, LineEnds: r.lineEnds, Delimiter: r.delimiter}
	if r.sheet != nil {
		f = Format{Sheet: r.sheet.name}
	}
	if r.packed {
		f.Compression = "gzip"
	}
	return f
}

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
