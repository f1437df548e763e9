package dialer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"dialer/internal/campaign"
)

// spool is a queue of pushes on local disk, for while the database does not take them.
// It is a row of files, the segments, each a line per push. Pushes are appended to the
// newest and taken from the oldest, which is deleted when the database has committed
// all of it: a crash in between gives the database the segment twice, and a receipt
// that comes twice counts once.
type spool struct {
	state *state
	most  int64 // bytes that it may hold
	log   *slog.Logger

	mu   sync.Mutex
	row  []segment // the oldest first; nothing is written to them any more
	size int64     // of all segments
	last int64     // number of the newest segment
	file *os.File  // the segment that is written to; nil: the next push begins one
	now  segment   // what file is
}

// segment is a file of the spool. It is read and deleted as a whole.
type segment struct {
	path string
	size int64
}

// segmentSize is where a segment is full: few enough pushes for one statement, and
// enough that a new file now and then costs nothing.
const segmentSize = 1 << 20

const segmentExt = ".jsonl"

// spooled is a push in the spool.
type spooled struct {
	Account    campaign.AccountID `json:"account"`
	ReceivedAt time.Time          `json:"received_at"`
	Body       []byte             `json:"body"`
}

var errSpoolFull = errors.New("the spool of receipts is full")

// openSpool opens the spool of a slot, with what an earlier process left in it.
func openSpool(s *state, most int64, log *slog.Logger) (*spool, error) {
	sp := &spool{state: s, most: most, log: log}
	prefix := sp.path("")
	paths, err := filepath.Glob(prefix + "*" + segmentExt)
	if err != nil {
		return nil, fmt.Errorf("open the spool of receipts: %w", err)
	}
	numbers := make(map[string]int64)
	for _, path := range paths {
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(path, prefix), segmentExt), 10, 64)
		if err != nil {
			continue // not ours
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("open the spool of receipts: %w", err)
		}
		numbers[path] = n
		sp.row = append(sp.row, segment{path, info.Size()})
		sp.size += info.Size()
		sp.last = max(sp.last, n)
	}
	slices.SortFunc(sp.row, func(a, b segment) int { return int(numbers[a.path] - numbers[b.path]) })
	return sp, nil
}

// path is that of the segment whose number is written so.
func (s *spool) path(number string) string { return s.state.file("spool") + "-" + number }

// empty tells whether nothing waits in the spool.
func (s *spool) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size == 0
}

// append writes pushes to disk. When it returns nil they survive the end of the
// process and of the machine. All of them share one sync: it is the caller who gathers
// those that have come together.
func (s *spool) append(pushes []spooled) error {
	var lines []byte
	for i := range pushes {
		var err error
		if lines, err = appendLine(lines, &pushes[i]); err != nil {
			return fmt.Errorf("spool receipts: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size+int64(len(lines)) > s.most {
		return errSpoolFull
	}
	err := s.begin()
	if err == nil {
		_, err = s.file.Write(lines)
	}
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		s.spoiled()
		return fmt.Errorf("spool receipts: %w", err)
	}
	s.now.size += int64(len(lines))
	s.size += int64(len(lines))
	if s.now.size >= segmentSize {
		s.seal()
	}
	return nil
}

// begin makes a new segment unless one is being written to.
func (s *spool) begin() error {
	if s.file != nil {
		return nil
	}
	s.last++
	path := s.path(fmt.Sprintf("%010d", s.last) + segmentExt)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	s.file, s.now = f, segment{path: path}
	return syncFolder(s.state.dir)
}

// spoiled ends a segment whose last write failed. What was written of it is cut off,
// because its pushes are not acknowledged and will come again; should that fail, too,
// it does no harm, as long as nothing is written behind it.
func (s *spool) spoiled() {
	if s.file == nil {
		return
	}
	_ = s.file.Truncate(s.now.size)
	s.seal()
}

// seal ends the segment that is written to.
func (s *spool) seal() {
	if s.file == nil {
		return
	}
	_ = s.file.Close() // everything that counts is synced
	s.row = append(s.row, s.now)
	s.file, s.now = nil, segment{}
}

// oldest returns the segment that is to be drained next.
func (s *spool) oldest() (segment, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.row) == 0 {
		s.seal()
	}
	if len(s.row) == 0 {
		return segment{}, false
	}
	return s.row[0], true
}

// gone notes that the oldest segment is no longer there.
func (s *spool) gone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size -= s.row[0].size
	s.row = s.row[1:]
}

// drain hands the pushes to store, segment by segment, the oldest first, and deletes
// each segment that store has taken. It ends when the spool is empty or at the first
// error, and returns how many pushes were taken. Only one goroutine may call it.
func (s *spool) drain(store func([]spooled) error) (taken int, err error) {
	for {
		seg, ok := s.oldest()
		if !ok {
			return taken, nil
		}
		data, err := os.ReadFile(seg.path)
		if err != nil {
			return taken, fmt.Errorf("read the spool of receipts: %w", err)
		}
		pushes, unreadable := readSegment(data)
		if len(pushes) > 0 {
			if err := store(pushes); err != nil {
				return taken, err
			}
		}
		taken += len(pushes)
		if err := s.remove(seg, unreadable); err != nil {
			return taken, fmt.Errorf("take receipts out of the spool: they come again, and count once: %w", err)
		}
		s.gone()
	}
}

// remove deletes a segment, or puts it aside under a name that nothing reads if the
// disk has spoiled lines of it. Renaming needs no space on a full disk.
func (s *spool) remove(seg segment, unreadable int) error {
	if unreadable == 0 {
		return os.Remove(seg.path)
	}
	aside := filepath.Join(s.state.dir, "unreadable-"+filepath.Base(seg.path))
	if err := os.Rename(seg.path, aside); err != nil {
		return err
	}
	s.log.Error("RECEIPTS ARE DAMAGED ON DISK: the file is kept for a person to look at, its other receipts are taken", "file", aside, "lines", unreadable)
	return nil
}

// Close ends the segment that is written to. What is in the spool stays for the next
// process.
func (s *spool) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seal()
}

// A line is a checksum over the rest of it, eight hexadecimal digits, then a space and
// the push as JSON. A line feed occurs nowhere else, so a spoiled line does not spoil
// the next one.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendLine(lines []byte, p *spooled) ([]byte, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return lines, err
	}
	lines = fmt.Appendf(lines, "%08x ", crc32.Checksum(text, castagnoli))
	return append(append(lines, text...), '\n'), nil
}

// readSegment returns the pushes of a segment in their order, and how many lines cannot
// be read. What follows the last line feed is none of them: it is a write that was cut
// short, and so was not acknowledged.
func readSegment(data []byte) (pushes []spooled, unreadable int) {
	for line := range bytes.Lines(data) {
		text, whole := bytes.CutSuffix(line, []byte("\n"))
		if !whole {
			break
		}
		p, err := readLine(text)
		if err != nil {
			unreadable++
			continue
		}
		pushes = append(pushes, p)
	}
	return pushes, unreadable
}

func readLine(line []byte) (p spooled, err error) {
	sum, text, _ := bytes.Cut(line, []byte(" "))
	if string(sum) != fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli)) {
		return p, errors.New("the checksum is another")
	}
	err = json.Unmarshal(text, &p)
	return p, err
}

// leftSpools drains what processes that have ended left in their spools.
func (s *spool) leftSpools(store func([]spooled) error) (taken int, err error) {
	err = s.state.left("spool", func(other *state) error {
		left, err := openSpool(other, 0, s.log)
		if err != nil {
			return err
		}
		n, err := left.drain(store)
		taken += n
		return err
	})
	return taken, err
}
