package pgserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// lock is the file beside a data folder that makes one process the first. Its
// content is the first one's note to the others. It is never removed: a lock on
// a removed file locks nothing.
type lock struct {
	f *os.File
}

// note tells a joining process where the server is. It stays behind when the
// server goes, so it is believed only after a connection.
type note struct {
	Socket string `json:"socket"` // folder of the socket
	PID    int    `json:"pid"`    // of the process that runs the server, for people
	Source string `json:"source"` // the binaries, for people
}

func openLock(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("the database in this folder belongs to another user: name another data folder, or run as that user: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data folder: %w", err)
	}
	return &lock{f: f}, nil
}

// try takes the lock if it is free. The kernel frees it when the process ends, however it ends.
func (l *lock) try() (bool, error) {
	err := syscall.Flock(int(l.f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", l.f.Name(), err)
	}
	return true, nil
}

// note reads the note; false if there is none or it is being written at this moment.
func (l *lock) note() (note, bool) {
	var n note
	text, err := io.ReadAll(io.NewSectionReader(l.f, 0, 1<<16))
	if err != nil || json.Unmarshal(text, &n) != nil || n.Socket == "" {
		return note{}, false
	}
	return n, true
}

// write replaces the note. Only the holder of the lock may call it.
func (l *lock) write(n note) error {
	text, err := json.Marshal(n)
	if err == nil {
		err = l.f.Truncate(0)
	}
	if err == nil {
		_, err = l.f.WriteAt(text, 0)
	}
	if err != nil {
		return fmt.Errorf("note where the database is in %s: %w", l.f.Name(), err)
	}
	return nil
}

// release frees the lock and keeps the file open. Its error is only "not a file".
func (l *lock) release() { _ = syscall.Flock(int(l.f.Fd()), syscall.LOCK_UN) }

// close frees the lock. An error would change nothing: the descriptor is gone either way.
func (l *lock) close() { _ = l.f.Close() }
