// Command dialer places outbound voice-robot calls through Alibaba Cloud's SmartCall
// API: campaigns come in as CSV files, are dialled at the pace the platform allows,
// and their outcomes are one SQL query away. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // windows and schedules need zones on machines that have none

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// net/http tells the standard logger about connections that misbehave, and quotes
	// what came over them, which may be a phone number.
	log.SetOutput(io.Discard)
	// The first signal ends the work in order; the second one kills.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], &app{getenv: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr})
	stop()
	os.Exit(code)
}

// Exit codes: what went wrong is in one sentence on standard error.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

type commands struct {
	Demo     demoCommand     `cmd:"" help:"Show everything at once: a private Postgres, a simulated SmartCall, three sample campaigns."`
	Account  accountCommand  `cmd:"" help:"Create, list and resume accounts."`
	Campaign campaignCommand `cmd:"" help:"Create, list, start, pause, resume and cancel campaigns."`
	Import   importCommand   `cmd:"" help:"Add the contacts of a CSV file to a campaign."`
	Run      runCommand      `cmd:"" help:"Dial a campaign now, with live progress, until it is done or its window closes."`
	Serve    serveCommand    `cmd:"" help:"Be a node: fire schedules, dial, take receipts, until told to stop."`
	Outcomes outcomesCommand `cmd:"" help:"Show what became of a campaign's calls."`
	Suppress suppressCommand `cmd:"" help:"Keep numbers from being called."`
	Audit    auditCommand    `cmd:"" help:"Say whether all adds up: nobody twice, nobody forgotten, within the limit."`
	Resolve  resolveCommand  `cmd:"" help:"Settle by hand attempts of which nobody knows what became."`
	Recover  recoverCommand  `cmd:"" help:"Show whether the database has forgotten intents, and settle it after a restore or failover."`
	SQL      sqlCommand      `cmd:"" name:"sql" help:"Run a query, or psql, on the database."`
	Simulate simulateCommand `cmd:"" help:"Be a SmartCall on loopback that calls nobody."`
	Migrate  migrateCommand  `cmd:"" help:"Bring the database's schema up to this program's."`
	DB       dbCommand       `cmd:"" name:"db" help:"Spread the database over several servers."`
	Config   configCommand   `cmd:"" help:"Show the settings in force and where they come from."`
	Version  versionCommand  `cmd:"" help:"Show the version."`
}

// app is what a command may use of the world outside.
type app struct {
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// run is the whole program but for the process around it.
func run(ctx context.Context, args []string, a *app) int {
	var c commands
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("dialer"),
		kong.Description("Batch campaign dialer for Alibaba Cloud SmartCall. It never sends again a request that may have left the machine."),
		kong.Writers(a.stdout, a.stderr),
		kong.Exit(func(code int) { exited = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(a),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(a.stderr, "dialer:", err)
		return exitFailure
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help was asked for
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "dialer: %v; see 'dialer --help'\n", err)
		return exitUsage
	}
	switch err := k.Run(); {
	case err == nil:
		return exitOK
	default:
		fmt.Fprintln(a.stderr, "dialer:", err)
		if _, usage := errors.AsType[usageError](err); usage {
			return exitUsage
		}
		return exitFailure
	}
}

// usageError is a mistake in how the program was called, or in a file it was given
// to check: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

type versionCommand struct{}

func (versionCommand) Run(a *app) error {
	fmt.Fprintln(a.stdout, "dialer", version())
	return nil
}

// release is set by the build.
var release string

func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// logger writes for people on a terminal and for machines otherwise.
func (a *app) logger(level slog.Level) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if isTerminal(a.stderr) {
		return slog.New(slog.NewTextHandler(a.stderr, opts))
	}
	return slog.New(slog.NewJSONHandler(a.stderr, opts))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
