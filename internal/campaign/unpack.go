package campaign

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// Format is what was found out about a contact file.
type Format struct {
	Compression string // "gzip" or ""
	Encoding    string // UTF-8, GB18030, UTF-16LE or UTF-16BE; "" for a spreadsheet
	LineEnds    string // LF, CRLF or CR; "" for a spreadsheet
	Delimiter   rune   // 0 for a spreadsheet
	Sheet       string // of a spreadsheet, "" otherwise
}

// String says it as the end of "the file is ...".
func (f Format) String() string {
	s := fmt.Sprintf("CSV, %s, %s line ends, delimiter %q", f.Encoding, f.LineEnds, f.Delimiter)
	if f.Sheet != "" {
		s = fmt.Sprintf("xlsx, sheet %q", f.Sheet)
	}
	if f.Compression != "" {
		s += ", " + f.Compression
	}
	return s
}

const (
	// maxExpansion is how many times larger than its packed form a file may become.
	// A list of numbers grows 5 to 20 times; a file made to fill a machine, 1000.
	maxExpansion = 200
	// freeExpansion is what may be unpacked before the ratio is looked at: the first
	// block of an honest file may be very regular.
	freeExpansion = 16 << 20
)

// gunzip unpacks a file that begins as gzip does, whatever its name says, and returns
// any other as it is.
func gunzip(input *counter) (r *bufio.Reader, packed bool, err error) {
	src := bufio.NewReaderSize(input, window)
	head, err := src.Peek(3)
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	if !bytes.HasPrefix(head, []byte("\x1f\x8b")) {
		return src, false, nil
	}
	z, err := gzip.NewReader(src)
	if err != nil {
		return nil, false, errors.New("the file begins as a compressed one but cannot be unpacked; compress it again")
	}
	return bufio.NewReaderSize(&unpacker{z: z, input: input}, window), true, nil
}

// unpacker ends a file that grows beyond all reason.
type unpacker struct {
	z     *gzip.Reader
	input *counter
	out   int64
}

func (u *unpacker) Read(p []byte) (int, error) {
	n, err := u.z.Read(p)
	u.out += int64(n)
	switch {
	case u.out > freeExpansion && u.out > maxExpansion*u.input.n:
		return n, fmt.Errorf("the compressed file grows to more than %d times its size, which no list of contacts does; unpack it and look at it", maxExpansion)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader):
		return n, errors.New("the compressed file is cut off or damaged; compress or copy it again")
	}
	return n, err
}

// returns turns each carriage return that no line feed follows into a line feed, for
// files whose lines end as on an old Macintosh. Every byte keeps its offset.
type returns struct {
	src *bufio.Reader
}

func (r returns) Read(p []byte) (int, error) {
	n, err := r.src.Read(p)
	for i := range n {
		if p[i] != '\r' {
			continue
		}
		if i+1 < n {
			if p[i+1] != '\n' {
				p[i] = '\n'
			}
		} else if next, _ := r.src.Peek(1); len(next) == 0 || next[0] != '\n' {
			p[i] = '\n'
		}
	}
	return n, err
}
