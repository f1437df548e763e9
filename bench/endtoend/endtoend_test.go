package endtoend

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"dialer/bench/internal/lab"
	"dialer/bench/internal/platform"
)

// The platform and the peers are this binary with another first argument.
func TestMain(m *testing.M) {
	programs := map[string]func(context.Context, []string) error{platform.Program: platform.Serve, Program: Serve}
	if len(os.Args) > 2 && programs[os.Args[1]] != nil {
		if err := programs[os.Args[1]](context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestEverybodyCalls(t *testing.T) {
	l, err := lab.Open(false, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	server, err := l.Postgres(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	b := &bench{Lab: l, server: server, warm: 100 * time.Millisecond, count: 500 * time.Millisecond, most: 30_000}
	var f figures
	if err := b.dial(t.Context(), "few", 2, 50_000, 60_000, &f); err != nil {
		t.Error(err)
	}
	for _, kind := range []string{byRiver, byClaim} {
		if err := b.peer(t.Context(), kind, 30_000, &f); err != nil {
			t.Error(err)
		}
	}
	for i, name := range []string{dialer, byRiver, byClaim} {
		if i >= len(f.rate) || f.rate[i] <= 0 || f.cpu[i] <= 0 || f.refused[i] != 0 {
			t.Errorf("%s: calls per second %v, us of CPU %v, refused %v", name, f.rate, f.cpu, f.refused)
		}
	}
}
