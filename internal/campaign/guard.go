package campaign

import (
	"bytes"
	"fmt"
	"io"
)

// guard stands in front of the CSV reader, which keeps a whole record in memory
// however long it is: one quote that is never closed would swallow the file. It
// follows quotes as encoding/csv does, ends the file with an error when a record
// grows too long or a quote stays open, and keeps the bytes of the records under
// way, so that a refused one can be shown as it was. It also writes ="138…",
// by which people protect numbers from their spreadsheet, as a quoted field: to the
// CSV reader it would be a bare quote.
type guard struct {
	src       io.Reader
	delimiter byte
	most      int // bytes of a record

	state guardState
	line  int // the line being read
	begin int // the line on which the record began
	size  int // bytes of the record so far
	err   error

	in      []byte
	pending []byte // checked, not yet handed on
	handed  []byte // handed on, not yet forgotten
	start   int64  // offset of handed[0] in all that was handed on
}

type guardState int

const (
	fieldStart   guardState = iota
	fieldEqual              // an = began the field; it is held back
	plain                   // in a field without quotes
	quoted                  // in a quoted field
	quoteSeen               // a quote in a quoted field: its end, or half of ""
	quoteReturn             // a carriage return after the end of a quoted field
	excelText               // in ="…
	lineRejected            // after a stray quote, which spoils the rest of the line
)

func newGuard(src io.Reader, delimiter byte, most int) *guard {
	return &guard{src: src, delimiter: delimiter, most: most, line: 1, begin: 1, in: make([]byte, 16<<10)}
}

func (g *guard) Read(p []byte) (int, error) {
	for len(g.pending) == 0 {
		if g.err != nil {
			return 0, g.err
		}
		n, err := g.src.Read(g.in)
		for _, c := range g.in[:n] {
			if g.step(c); g.err != nil {
				break
			}
		}
		if err != nil && g.err == nil {
			g.err = g.end(err)
		}
	}
	n := copy(p, g.pending)
	g.handed = append(g.handed, p[:n]...)
	g.pending = g.pending[:copy(g.pending, g.pending[n:])]
	return n, nil
}

// step follows one byte.
func (g *guard) step(c byte) {
	if g.size++; g.size > g.most {
		g.err = fmt.Errorf("line %d: a record begins here that is longer than %d bytes; a quote may be missing near its beginning: mend the line", g.begin, g.most)
		return
	}
	if g.state == fieldEqual && c != '"' {
		g.pending = append(g.pending, '=')
		g.state = plain
	}
	switch g.state {
	case fieldStart, plain:
		switch {
		case c == '"' && g.state == fieldStart:
			g.state = quoted
		case c == '"':
			g.state = lineRejected
		case c == '=' && g.state == fieldStart:
			g.state = fieldEqual
			return
		case c == g.delimiter:
			g.state = fieldStart
		default:
			g.state = plain
		}
	case fieldEqual:
		g.pending = append(g.pending, `"="`...)
		g.state = excelText
	case excelText:
		switch c {
		case '"':
			g.pending = append(g.pending, `""`...)
			g.state = quoteSeen
		case '\n':
			g.pending = append(g.pending, '"')
		}
	case quoted:
		if c == '"' {
			g.state = quoteSeen
		}
	case quoteSeen, quoteReturn:
		switch {
		case c == '\r' && g.state == quoteSeen:
			g.state = quoteReturn
		case c == '"' && g.state == quoteSeen:
			g.state = quoted
		case c == g.delimiter && g.state == quoteSeen:
			g.state = fieldStart
		default:
			g.state = lineRejected
		}
	}
	g.pending = append(g.pending, c)
	if c == '\n' {
		g.line++
		if g.state != quoted {
			g.state, g.size, g.begin = fieldStart, 0, g.line
		}
	}
}

// end says how reading ends when the source does.
func (g *guard) end(err error) error {
	if err != io.EOF {
		return err
	}
	switch g.state {
	case fieldEqual:
		g.pending = append(g.pending, '=')
	case excelText:
		g.pending = append(g.pending, '"')
	case quoted:
		return fmt.Errorf("line %d: a record begins here whose quote is never closed, so the lines after it cannot be told apart; mend the line", g.begin)
	}
	return io.EOF
}

// take returns the bytes handed on up to an offset, and forgets them. They are valid
// until the next Read.
func (g *guard) take(offset int64) []byte {
	n := int(offset - g.start)
	raw := g.handed[:n]
	g.handed, g.start = g.handed[n:], offset
	return raw
}

// blankLines counts the empty lines before a record, which the CSV reader skips.
func blankLines(raw []byte) (n int, record []byte) {
	for {
		rest := bytes.TrimPrefix(raw, []byte("\r"))
		if len(rest) == 0 || rest[0] != '\n' {
			return n, raw
		}
		raw = rest[1:]
		n++
	}
}
