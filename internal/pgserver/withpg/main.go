// Command withpg runs a command with a scratch Postgres beside it, and ends
// with the command's exit code:
//
//	go run ./internal/pgserver/withpg go test ./...
//
// The command finds the server's address in DIALER_TEST_DATABASE_URL. If that is
// set already, its server is used and none is started. With -find it prints
// which Postgres would be taken, and with -find -download it fetches one if it
// must. DIALER_PG_BIN names the folder of the binaries.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"dialer/internal/pgserver"
)

const urlVariable = "DIALER_TEST_DATABASE_URL"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "withpg:", err)
	}
	os.Exit(code)
}

// run returns the exit code: the command's own, 1 when it could not be run, 2
// for wrong arguments.
func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) (int, error) {
	flags := flag.NewFlagSet("withpg", flag.ContinueOnError)
	find := flags.Bool("find", false, "print which Postgres would be taken, and end")
	download := flags.Bool("download", false, "fetch binaries with npm if there are none")
	if err := flags.Parse(args); err != nil {
		return 2, nil // the flag set has said what is wrong
	}
	opts := pgserver.Options{BinDir: getenv("DIALER_PG_BIN"), AllowDownload: *download}
	if *find {
		line, err := pgserver.Find(ctx, opts)
		if err != nil {
			return 1, err
		}
		fmt.Fprintln(out, line)
		return 0, nil
	}
	if flags.NArg() == 0 {
		return 2, errors.New("name the command to run, such as: withpg go test")
	}
	env := os.Environ()
	if getenv(urlVariable) == "" {
		s, err := pgserver.StartScratch(ctx, opts)
		if err != nil {
			return 1, err
		}
		defer s.Close() // scratch data: how it ends is of no interest
		env = append(env, urlVariable+"="+s.URL())
	}
	return command(ctx, flags.Args(), env)
}

// command runs the command to its end and returns its exit code.
func command(ctx context.Context, args, env []string) (int, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdin, os.Stdout, os.Stderr, env
	// A Ctrl-C reaches the command by itself, a SIGTERM does not; a second signal does no harm.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil // -1 means ended by a signal
	}
	if err != nil {
		return 1, fmt.Errorf("run %s: %w", args[0], err)
	}
	return 0, nil
}
