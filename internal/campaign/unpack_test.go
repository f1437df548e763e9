package campaign

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func gzipped(t testing.TB, write func(io.Writer)) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	write(z)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReaderUnpacks(t *testing.T) {
	file := gzipped(t, func(w io.Writer) { io.WriteString(w, "\ufeff手机号;姓名\r\n13800000001;张三\r\n") })
	r, got, err := readAll(t, file, ReaderOptions{Need: []string{"姓名"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"2 13800000001 map[姓名:张三]"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r.Offset() != int64(len(file)) {
		t.Errorf("offset %d at the end of %d packed bytes", r.Offset(), len(file))
	}
	if want := `CSV, UTF-8, CRLF line ends, delimiter ';', gzip`; r.Format().String() != want {
		t.Errorf("format %q, want %q", r.Format(), want)
	}
	for cut := 1; cut < len(file); cut++ {
		_, _, err := readAll(t, file[:cut], ReaderOptions{})
		if err == nil {
			t.Errorf("the file was read though it is cut off after %d of %d bytes", cut, len(file))
		}
	}
	twice := gzipped(t, func(w io.Writer) { io.WriteString(w, file) })
	if _, _, err := readAll(t, twice, ReaderOptions{}); err == nil || !strings.Contains(err.Error(), "compressed twice") {
		t.Errorf("packed twice: %v", err)
	}
}

// A file of 64 MiB of one row, packed to some 64 KiB, is not read to its end.
func TestReaderRefusesWhatUnpacksWithoutEnd(t *testing.T) {
	bomb := gzipped(t, func(w io.Writer) {
		io.WriteString(w, "手机号\n")
		rows := bytes.Repeat([]byte("\n"), 1<<20)
		for range 64 {
			w.Write(rows)
		}
	})
	r, err := NewReader(strings.NewReader(bomb), ReaderOptions{})
	if err == nil {
		_, _, err = r.Next()
	}
	if err == nil || !strings.Contains(err.Error(), "grows to more than 200 times") {
		t.Errorf("%d bytes that unpack to 64 MiB: %v", len(bomb), err)
	}
}

func TestFormatIsSaid(t *testing.T) {
	for file, want := range map[string]string{
		"手机号\n13800000001\n":                                "CSV, UTF-8, LF line ends, delimiter ','",
		"phone\tx\r13800000001\ta\r":                        `CSV, UTF-8, CR line ends, delimiter '\t'`,
		"\"a\nb\",phone\r\n,13800000001\r\n":                "CSV, UTF-8, CRLF line ends, delimiter ','",
		"\xca\xd6\xbb\xfa\xba\xc5|\xd0\xd5\n13800000001|\n": "CSV, GB18030, LF line ends, delimiter '|'",
	} {
		r, _, err := readAll(t, file, ReaderOptions{})
		if err != nil {
			t.Errorf("%q: %v", file, err)
		} else if got := fmt.Sprint(r.Format()); got != want {
			t.Errorf("%q: %s, want %s", file, got, want)
		}
	}
}

// Where the reads happen to fall makes no difference.
func TestReturnsAtTheEdgeOfARead(t *testing.T) {
	const file, want = "a\rb\r\n\r\r\nc\r", "a\nb\r\n\n\r\nc\n"
	for size := 1; size <= len(file); size++ {
		r := returns{bufio.NewReader(strings.NewReader(file))}
		var got []byte
		for p := make([]byte, size); ; {
			n, err := r.Read(p)
			got = append(got, p[:n]...)
			if err != nil {
				break
			}
		}
		if string(got) != want {
			t.Errorf("in reads of %d bytes %q became %q, want %q", size, file, got, want)
		}
	}
}
