// Package lab is where sections measure: it knows how long they may take, starts
// programs that do not outlive it, tells how much CPU they used, and gives them a
// Postgres of their own.
package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dialer/bench/internal/table"
)

// Section measures one section of the goals.
type Section struct {
	Number int
	Name   string // to choose it by
	Title  string
	// Run measures. What it has when an error ends it is shown all the same.
	Run func(ctx context.Context, l *Lab) (table.Table, error)
}

// Lab is handed to a section.
type Lab struct {
	// Full asks for the long form, whose figures count; the short form shows that
	// everything works.
	Full bool
	// Dir is a scratch folder, gone when the lab is closed. Others may enter it.
	Dir string

	progress io.Writer
	began    time.Time
	dialer   func() (string, error)
}

// Open makes a lab. Progress, a line for each step, goes to w.
func Open(full bool, w io.Writer) (*Lab, error) {
	dir, err := os.MkdirTemp("", "dialer-bench-")
	if err != nil {
		return nil, err
	}
	// The private Postgres of somebody who is root runs as another user.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	l := &Lab{Full: full, Dir: dir, progress: w, began: time.Now()}
	l.dialer = sync.OnceValues(l.build)
	return l, nil
}

// Close removes the scratch folder.
func (l *Lab) Close() error { return os.RemoveAll(l.Dir) }

// Rounds is how often an interleaved measurement goes round.
func (l *Lab) Rounds() int { return Either(l, 1, 3) }

// Either is the first value in the short form and the second in the full one.
func Either[T any](l *Lab, short, full T) T {
	if l.Full {
		return full
	}
	return short
}

// Say tells the person who waits what is being measured.
func (l *Lab) Say(format string, args ...any) {
	fmt.Fprintf(l.progress, "%4.0fs  %s\n", time.Since(l.began).Seconds(), fmt.Sprintf(format, args...))
}

// Dialer is the path of our program, built from this source at the first call.
func (l *Lab) Dialer() (string, error) { return l.dialer() }

func (l *Lab) build() (string, error) {
	// The source is the module in whose folder we are, or what bench's replaces it with.
	source, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "dialer").Output()
	if err != nil {
		return "", fmt.Errorf("find the source of the dialer, start the bench inside the repository: %w", err)
	}
	path := filepath.Join(l.Dir, "dialer")
	// As `make build` does it, but for the name of the release.
	cmd := exec.Command("go", "build", "-C", strings.TrimSpace(string(source)), "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, "./cmd/dialer")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the dialer: %w: %s", err, out)
	}
	return path, nil
}

// Rest lets time pass, which is what measuring is.
func Rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
