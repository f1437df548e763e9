// Bench measures the goals: the limit, the wire, the store, the whole and the import,
// each beside what people would use instead. Every figure is compared with a reference
// measured in the same rounds, because absolute times on a shared machine mean nothing.
//
//	go run . -list             what there is
//	go run . -section limit    one section, in the short form
//	go run . -full -o .        everything: writes results.md and its pictures here
//
// The exit code is 1 if a goal is missed in the full form. It runs on Linux, where /proc
// tells what a process has used.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"dialer/bench/endtoend"
	"dialer/bench/imports"
	"dialer/bench/internal/lab"
	"dialer/bench/internal/platform"
	"dialer/bench/internal/sender"
	"dialer/bench/internal/table"
	"dialer/bench/limit"
	"dialer/bench/store"
	"dialer/bench/wire"
)

// sections are measured in this order.
var sections = []lab.Section{
	limit.Section,
	wire.Section,
	store.Section,
	endtoend.Section,
	imports.Section,
}

// programs are what sections run in processes of their own: peers, servers, load. They
// are this binary with a first argument.
var programs = map[string]func(ctx context.Context, args []string) error{
	endtoend.Program:  endtoend.Serve,
	imports.Program:   imports.Serve,
	platform.Program:  platform.Serve,
	sender.Program:    sender.Serve,
	limit.BusyProgram: limit.Busy,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if program, ok := programs[args[0]]; ok {
			return program(ctx, args[1:])
		}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	full := flags.Bool("full", false, "take the time that figures need which count; without it everything is shown to work")
	only := flags.String("section", "", "measure these sections only, such as limit,wire")
	list := flags.Bool("list", false, "list the sections and end")
	out := flags.String("o", "", "write results.md and its pictures into this folder")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is not understood: see -help", flags.Arg(0))
	}
	if *list {
		for _, s := range sections {
			fmt.Printf("%d  %-10s  %s\n", s.Number, s.Name, s.Title)
		}
		return nil
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	l, err := lab.Open(*full, os.Stderr)
	if err != nil {
		return err
	}
	tables, err := measure(ctx, l, chosen)
	if err := errors.Join(err, l.Close()); err != nil {
		return err
	}
	if *out != "" {
		if err := write(ctx, *out, *full, tables); err != nil {
			return err
		}
	}
	return judge(tables, *full)
}

// choose returns the sections of the given names, all if there are none.
func choose(names string) ([]lab.Section, error) {
	if names == "" {
		return sections, nil
	}
	var chosen []lab.Section
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(sections, func(s lab.Section) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no section is called %q: -list shows them", name)
		}
		chosen = append(chosen, sections[i])
	}
	return chosen, nil
}

// measure runs the sections and prints each table as it is done.
func measure(ctx context.Context, l *lab.Lab, chosen []lab.Section) ([]table.Table, error) {
	var tables []table.Table
	for _, s := range chosen {
		l.Say("%s", s.Title)
		t, err := s.Run(ctx, l)
		t.Number, t.Title = s.Number, s.Title
		tables = append(tables, t)
		if err := errors.Join(err, t.Print(os.Stdout)); err != nil {
			return tables, fmt.Errorf("section %s: %w", s.Name, err)
		}
	}
	return tables, nil
}

// judge says which goals are missed. In the short form that is no error: its times are
// too short to be right.
func judge(tables []table.Table, full bool) error {
	var missed []string
	for _, t := range tables {
		for _, r := range t.Missed() {
			missed = append(missed, fmt.Sprintf("%d. %s", t.Number, r.Name))
		}
	}
	if len(missed) == 0 {
		fmt.Println("\nevery goal is met")
		return nil
	}
	text := fmt.Sprintf("%d goals are missed: %s", len(missed), strings.Join(missed, "; "))
	if full {
		return errors.New(text)
	}
	fmt.Printf("\n%s (in the short form, which is too short to judge by)\n", text)
	return nil
}
