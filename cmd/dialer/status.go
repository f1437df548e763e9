package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// status shows how far long work is: one line that is written over on a terminal, a
// line every five seconds otherwise.
type status struct {
	mu    sync.Mutex
	w     io.Writer
	tty   bool
	last  time.Time
	shown bool
}

func newStatus(w io.Writer) *status { return &status{w: w, tty: isTerminal(w), last: time.Now()} }

func (s *status) show(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	every := 5 * time.Second
	if s.tty {
		every = 100 * time.Millisecond
	}
	if time.Since(s.last) < every {
		return
	}
	s.last = time.Now()
	if s.tty {
		s.shown = true
		fmt.Fprintf(s.w, "\r\x1b[K"+format, args...)
		return
	}
	fmt.Fprintf(s.w, format+"\n", args...)
}

// clear removes the line.
func (s *status) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shown {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.shown = false
	}
}
