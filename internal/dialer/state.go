package dialer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// state is a place on local disk for what one process must remember outside the
// database. Several processes of a machine share a folder; each has a slot of its own
// there, numbered from 1, for as long as it lives. The kernel frees the slot when the
// process ends, however it ends: what it left behind is found by left.
type state struct {
	dir  string // of one database: two databases never mix
	slot int
	lock *os.File
}

// slotsMost bounds how many processes of one machine may share a database.
const slotsMost = 1000

// openState takes the first free slot below dir for the database that instance names.
func openState(dir, instance string) (*state, error) {
	dir = filepath.Join(dir, instance)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder (--state names another): %w", err)
	}
	// What is in a folder survives a power cut only if the folder itself does.
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := syncFolder(d); err != nil {
			return nil, fmt.Errorf("state folder: %w", err)
		}
	}
	for n := 1; n <= slotsMost; n++ {
		if s, err := takeSlot(dir, n); s != nil || err != nil {
			return s, err
		}
	}
	return nil, fmt.Errorf("state folder %s: %d processes use it: end some, or name another folder with --state", dir, slotsMost)
}

// takeSlot takes a slot that no living process has; it returns nil if one has it. The
// file is never removed: a lock on a removed file locks nothing.
func takeSlot(dir string, n int) (*state, error) {
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("node-%d.lock", n)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state folder (--state names another): %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, f.Close()
	case err != nil:
		return nil, errors.Join(fmt.Errorf("state folder: lock %s: %w", f.Name(), err), f.Close())
	}
	return &state{dir: dir, slot: n, lock: f}, nil
}

// file is the path of the slot's file of that name: "journal.jsonl" of slot 2 is
// journal-2.jsonl.
func (s *state) file(name string) string {
	ext := filepath.Ext(name)
	return filepath.Join(s.dir, fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, ext), s.slot, ext))
}

// left calls f for each slot of this folder whose process has ended and that has files
// beginning with prefix and its number. The slot is taken meanwhile, so that nobody
// else works on it.
func (s *state) left(prefix string, f func(*state) error) error {
	paths, err := filepath.Glob(filepath.Join(s.dir, prefix+"-*"))
	if err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	seen := map[int]bool{s.slot: true}
	for _, path := range paths {
		name := strings.TrimPrefix(filepath.Base(path), prefix+"-")
		end := strings.IndexFunc(name, func(r rune) bool { return r < '0' || r > '9' })
		if end < 0 {
			end = len(name)
		}
		n, err := strconv.Atoi(name[:end])
		if err != nil || seen[n] {
			continue
		}
		seen[n] = true
		other, err := takeSlot(s.dir, n)
		if err != nil {
			return err
		}
		if other == nil {
			continue // its process lives
		}
		if err := errors.Join(f(other), other.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Close frees the slot.
func (s *state) Close() error { return s.lock.Close() }

// syncFolder makes new and renamed files of a folder survive a power cut.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
