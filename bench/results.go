package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"dialer/bench/internal/table"
	"dialer/internal/pgserver"
)

// write leaves results.md and its pictures in a folder.
func write(ctx context.Context, folder string, full bool, tables []table.Table) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	err := create(filepath.Join(folder, "results.md"), func(w io.Writer) error { return page(ctx, w, full, tables) })
	for _, t := range tables {
		for _, c := range t.Charts {
			err = errors.Join(err, create(filepath.Join(folder, c.File), c.WriteSVG))
		}
	}
	return err
}

func create(path string, fill func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}

// page writes the results with what one must know to compare them with others.
func page(ctx context.Context, w io.Writer, full bool, tables []table.Table) error {
	form := "short form, `make bench SHORT=1`: it shows that everything works, its figures are too short to count"
	if full {
		form = "full form, `make bench`"
	}
	server, err := pgserver.Find(ctx, pgserver.Options{BinDir: os.Getenv("DIALER_PG_BIN")})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, `# What was measured

%s, %s. Commit %s.
%d cores of %s, %s; %s; %s.

Ours and the reference are the median of the rounds, with the least and the greatest in
brackets; the ratio is the median of the rounds' ratios. Each round measures all of a
section's programs one after the other. A goal with "always" holds in every round.
`, time.Now().UTC().Format(time.DateOnly), form, output(ctx, "git", "describe", "--always", "--dirty"),
		runtime.NumCPU(), processor(), output(ctx, "uname", "-sr"), runtime.Version(), server)
	for _, t := range tables {
		err = errors.Join(err, t.Markdown(w))
	}
	return err
}

// output is what a program says, or that nothing is known.
func output(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// processor is the name of this machine's CPU.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
