package campaign

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Names of the encodings a contact file may have.
const (
	encUTF8    = "UTF-8"
	encGB18030 = "GB18030" // with GBK and GB2312, which it contains
	encUTF16LE = "UTF-16LE"
	encUTF16BE = "UTF-16BE"
)

// decoder turns a contact file of any encoding into UTF-8. A mark at the beginning
// decides; without one the file is plain ASCII, the same in both encodings, until
// the first other byte: what follows it decides between UTF-8 and GB18030. Nothing
// is read twice, so a file of any size needs one window of memory.
type decoder struct {
	src  *bufio.Reader
	enc  string
	done bool      // the encoding is decided
	rest io.Reader // what to read from once it is
}

// window is how much is looked at to decide.
const window = 64 << 10

// newDecoder looks at the beginning of the file. Files that are not text at all are
// refused with a sentence.
func newDecoder(r io.Reader) (*decoder, error) {
	d := &decoder{src: bufio.NewReaderSize(r, window), enc: encUTF8}
	head, err := d.src.Peek(window)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\xD0\xCF\x11\xE0")):
		return nil, errors.New("this is an old (.xls) or protected spreadsheet; open it and save it as .xlsx or CSV UTF-8")
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return nil, errors.New("the file is compressed twice; unpack it first")
	case bytes.HasPrefix(head, []byte("\xEF\xBB\xBF")):
		d.skip(3)
		d.decide(encUTF8)
	case bytes.HasPrefix(head, []byte("\x84\x31\x95\x33")):
		d.skip(4)
		d.decide(encGB18030)
	case bytes.HasPrefix(head, []byte("\xFF\xFE")):
		d.skip(2)
		d.decide(encUTF16LE)
	case bytes.HasPrefix(head, []byte("\xFE\xFF")):
		d.skip(2)
		d.decide(encUTF16BE)
	case len(head) >= 4 && (head[0] == 0 || head[1] == 0) && bytes.Count(head, []byte{0}) > len(head)/4:
		return nil, errors.New("the file looks like UTF-16 without a mark; save it as CSV UTF-8")
	}
	return d, nil
}

func (d *decoder) skip(n int) {
	if _, err := d.src.Discard(n); err != nil {
		panic(err) // the bytes were just looked at
	}
}

func (d *decoder) decide(enc string) {
	d.enc, d.done = enc, true
	switch enc {
	case encUTF8:
		d.rest = d.src
	case encGB18030:
		d.rest = transform.NewReader(d.src, simplifiedchinese.GB18030.NewDecoder())
	case encUTF16LE:
		d.rest = transform.NewReader(d.src, unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewDecoder())
	case encUTF16BE:
		d.rest = transform.NewReader(d.src, unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewDecoder())
	}
}

// Read returns UTF-8, in which a byte that could not be decoded is U+FFFD or, in a
// file that is UTF-8 already, itself.
func (d *decoder) Read(p []byte) (int, error) {
	if d.done {
		return d.rest.Read(p)
	}
	head, err := d.src.Peek(max(1, min(len(p), d.src.Buffered())))
	if len(head) == 0 {
		return 0, err
	}
	ascii := 0
	for ascii < len(head) && head[ascii] < utf8.RuneSelf {
		ascii++
	}
	if ascii == 0 {
		head, err = d.src.Peek(window)
		if err != nil && err != io.EOF {
			return 0, err
		}
		d.decide(guess(head))
		return d.rest.Read(p)
	}
	n := copy(p, head[:ascii])
	d.skip(n)
	return n, nil
}

// guess tells UTF-8 from GB18030. A few broken bytes in a long UTF-8 text do not
// make it GB18030, where nearly every character would be broken UTF-8.
func guess(text []byte) string {
	good, bad := 0, 0
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1 && !utf8.FullRune(text):
			size = len(text) // cut off by the end of the window
		case r == utf8.RuneError && size == 1:
			bad++
		case size > 1:
			good++
		}
		text = text[size:]
	}
	if bad == 0 || good > 4*bad {
		return encUTF8
	}
	return encGB18030
}
