// Package journal is a node's own memory of its intents, on its local disk: enough to
// notice that a restored or failed-over database has forgotten some, and to write them
// into it again. It holds no phone numbers.
//
// A journal is a file of JSON lines, one per intent batch, written after the batch was
// committed and before its first request leaves. It is not synced line by line: it has
// to outlive its process, and a machine that goes down together with the database's
// last commits leaves other traces (docs/guarantees.md).
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"dialer/internal/campaign"
)

// Entry is one intent batch, or, without Sum, a note that the account's batches up to Seq
// were seen in the database: written when a node begins to dial the account, and at the
// beginning of a new file.
type Entry struct {
	Account  campaign.AccountID `json:"account"`
	Seq      int64              `json:"seq"`
	Campaign campaign.ID        `json:"campaign,omitempty"`
	Node     campaign.NodeID    `json:"node,omitempty"`
	Term     int32              `json:"term,omitempty"`
	At       time.Time          `json:"at"`
	SendBy   time.Time          `json:"send_by,omitzero"`
	CallerID string             `json:"caller_id,omitempty"`
	// Attempts are the contacts of which the batch made attempts, Held the others: they
	// were suppressed or held by a cap.
	Attempts Contacts `json:"attempts,omitempty"`
	Held     Contacts `json:"held,omitempty"`
	// Sum tells whether the contacts are the same persons: see Sum.
	Sum string `json:"sum,omitempty"`
}

// Contact names a contact of a campaign and which of its attempts is meant.
type Contact struct {
	N           int32
	Try, Chance int
}

// Contacts is a list of contacts. It is written as text, such as "101-108 57.2.1": the
// contacts 101 to 108 for the first time, and 57 for the second time at its first chance.
type Contacts []Contact

func (c Contacts) MarshalText() ([]byte, error) {
	var b []byte
	for i := 0; i < len(c); i++ {
		if len(b) > 0 {
			b = append(b, ' ')
		}
		first := i
		for i+1 < len(c) && c[i].first() && c[i+1].first() && c[i+1].N == c[i].N+1 {
			i++
		}
		b = strconv.AppendInt(b, int64(c[first].N), 10)
		switch {
		case i > first:
			b = append(b, '-')
			b = strconv.AppendInt(b, int64(c[i].N), 10)
		case !c[i].first():
			b = fmt.Appendf(b, ".%d.%d", c[i].Try, c[i].Chance)
		}
	}
	return b, nil
}

func (c Contact) first() bool { return c.Try == 1 && c.Chance == 1 }

func (c *Contacts) UnmarshalText(text []byte) error {
	*c = nil
	for field := range strings.FieldsSeq(string(text)) {
		if first, last, ok := strings.Cut(field, "-"); ok {
			from, err1 := number(first)
			to, err2 := number(last)
			if err1 != nil || err2 != nil || from > to || int(to-from) > most {
				return fmt.Errorf("contacts %q are not understood", field)
			}
			for n := from; ; n++ {
				*c = append(*c, Contact{n, 1, 1})
				if n == to {
					break
				}
			}
			continue
		}
		parts := strings.Split(field, ".")
		n, err := number(parts[0])
		one := Contact{n, 1, 1}
		if len(parts) == 3 && err == nil {
			if one.Try, err = strconv.Atoi(parts[1]); err == nil {
				one.Chance, err = strconv.Atoi(parts[2])
			}
		} else if len(parts) != 1 {
			err = errors.New("odd")
		}
		if err != nil || one.Chance < 1 || one.Try < one.Chance || one.Try > campaign.MaxTries {
			return fmt.Errorf("contact %q is not understood", field)
		}
		*c = append(*c, one)
	}
	return nil
}

// most bounds a range of contacts: far more than a batch holds.
const most = 1 << 20

func number(text string) (int32, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err == nil && n < 1 {
		err = errors.New("below 1")
	}
	return int32(n), err
}

// Journal is the journal that one process writes. Append may be called concurrently.
type Journal struct {
	path string

	mu    sync.Mutex
	f     *os.File
	size  int64
	known map[campaign.AccountID]Entry // without contacts
	buf   bytes.Buffer
	// broken is why nothing more can be written.
	broken error

	stop   chan struct{}
	synced sync.WaitGroup
}

// A journal is a file of up to segment bytes and the segments before it: in all about
// what a node writes in a night at 1000 attempts per second.
var (
	segment  int64 = 32 << 20
	segments       = 16
)

// Open opens a journal for writing, or makes it. A last line that is not whole, the mark
// of a process that was killed, is cut off. Nobody else may write it.
func Open(path string) (*Journal, error) {
	j := &Journal{path: path, known: make(map[campaign.AccountID]Entry), stop: make(chan struct{})}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	j.f = f
	for e, err := range entries(f, &j.size) {
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("journal %s: %w: move the file away only if no database was restored since it was written", path, err)
		}
		j.know(e)
	}
	if err := f.Truncate(j.size); err != nil {
		f.Close()
		return nil, fmt.Errorf("journal: cut off the half line at its end: %w", err)
	}
	j.synced.Go(j.sync)
	return j, nil
}

// Close syncs the journal and closes it.
func (j *Journal) Close() error {
	close(j.stop)
	j.synced.Wait()
	return errors.Join(j.f.Sync(), j.f.Close())
}

// sync writes the journal through to the disk once a second.
func (j *Journal) sync() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-j.stop:
			return
		}
		j.mu.Lock()
		f := j.f
		j.mu.Unlock()
		// A rotation may close it meanwhile, after a sync of its own. A disk that fails
		// shows at the next Append.
		_ = f.Sync()
	}
}

func (j *Journal) know(e Entry) { learn(j.known, e) }

// learn adds what an entry says to what is known: an account that is in the map was
// dialled, or was about to be.
func learn(known map[campaign.AccountID]Entry, e Entry) {
	if before, ok := known[e.Account]; !ok || e.Seq > before.Seq {
		known[e.Account] = Entry{Account: e.Account, Seq: e.Seq, Node: e.Node, At: e.At}
	}
}

// Append writes a batch. After an error nothing of it is in the journal, and no request
// of the batch may be made.
func (j *Journal) Append(e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.size >= segment {
		if err := j.rotate(); err != nil {
			return err
		}
	}
	return j.append(e)
}

func (j *Journal) append(e Entry) error {
	j.buf.Reset()
	if err := json.NewEncoder(&j.buf).Encode(e); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if j.broken != nil {
		return j.broken
	}
	if n, err := j.f.Write(j.buf.Bytes()); err != nil {
		err = fmt.Errorf("write the journal: %w", err)
		if n > 0 {
			if cut := j.f.Truncate(j.size); cut != nil {
				j.broken = errors.Join(err, cut) // half a line is in the way of the next one
			}
		}
		return err
	}
	j.size += int64(j.buf.Len())
	j.know(e)
	return nil
}

// rotate begins a new file, with what is known of every account.
func (j *Journal) rotate() error {
	fresh, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("begin a new journal file: %w", err)
	}
	old, oldSize := j.f, j.size
	j.f, j.size = fresh, 0
	for _, account := range slices.Sorted(maps.Keys(j.known)) {
		if err = j.append(j.known[account]); err != nil {
			break
		}
	}
	if err == nil {
		err = old.Sync()
	}
	for i := segments - 1; i > 1 && err == nil; i-- {
		if err = os.Rename(j.numbered(i-1), j.numbered(i)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	// The name is never without a file: a node that finds none remembers nothing.
	if err == nil {
		err = os.Link(j.path, j.numbered(1))
	}
	if err == nil {
		err = os.Rename(j.path+".new", j.path)
	}
	if err != nil {
		j.f, j.size = old, oldSize
		return errors.Join(fmt.Errorf("begin a new journal file: %w", err), fresh.Close())
	}
	return old.Close()
}

// numbered is the path of the i-th file before the present one, which is the 0th.
func (j *Journal) numbered(i int) string {
	if i == 0 {
		return j.path
	}
	return j.path + "." + strconv.Itoa(i)
}

// Known returns the newest batch of each account that the journals in a folder know of,
// those of this process and of the ones before and beside it. An account that none of
// them has dialled or was about to dial is not in it.
func Known(dir string) (map[campaign.AccountID]Entry, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "journal-*.jsonl"))
	if err != nil {
		return nil, err
	}
	known := make(map[campaign.AccountID]Entry)
	for _, path := range paths {
		for e, err := range Entries(path) {
			if err != nil {
				return nil, err
			}
			learn(known, e)
		}
	}
	return known, nil
}

// Files returns the files of all journals in a folder, the older segments of each
// included.
func Files(dir string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "journal-*.jsonl*"))
	return slices.DeleteFunc(paths, func(path string) bool { return strings.HasSuffix(path, ".new") }), err
}

// Entries yields the entries of a journal file in the order in which they were written.
// A last line that is not whole is left out: its batch was not sent.
func Entries(path string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(Entry{}, fmt.Errorf("read a journal: %w", err))
			return
		}
		defer f.Close()
		var size int64
		for e, err := range entries(f, &size) {
			if err != nil {
				err = fmt.Errorf("journal %s: %w", path, err)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// entries reads entries and counts the bytes of the whole lines.
func entries(r io.Reader, size *int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		lines := bufio.NewReaderSize(r, 64<<10)
		for n := 1; ; n++ {
			line, err := lines.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				return
			}
			var e Entry
			if err == nil {
				err = json.Unmarshal(line, &e)
			}
			if err == nil && (e.Account < 1 || e.Seq < 0) {
				err = errors.New("it names no account and batch")
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("line %d is not an entry: %w", n, err))
				return
			}
			*size += int64(len(line))
			if !yield(e, nil) {
				return
			}
		}
	}
}
