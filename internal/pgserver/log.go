package pgserver

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// serverLog is the file the server writes to.
type serverLog struct {
	f    *os.File
	from int64 // where the part begins that tail looks at
}

// maxLog is when a log is put aside at the next start, in bytes.
const maxLog = 16 << 20

func openLog(path string) (*serverLog, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, fmt.Errorf("put the old log of postgres aside: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of postgres: %w", err)
	}
	return &serverLog{f: f}, nil
}

// mark makes tail forget what was written before.
func (l *serverLog) mark() {
	if info, err := l.f.Stat(); err == nil {
		l.from = info.Size()
	}
}

// tail is what was written since mark, its last lines in one.
func (l *serverLog) tail() string {
	info, err := l.f.Stat()
	if err != nil {
		return "its log cannot be read"
	}
	const most = 2000
	text := make([]byte, min(max(info.Size()-l.from, 0), most))
	n, _ := l.f.ReadAt(text, max(l.from, info.Size()-most)) // a short read shows less, which is all that can be done
	lines := strings.Split(string(bytes.TrimSpace(text[:n])), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], " | ")
}
