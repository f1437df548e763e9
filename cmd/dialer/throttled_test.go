package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"dialer/internal/dialer"
	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
	"dialer/internal/simulator"
)

// A platform that says Throttling.User to every third request, below its limit, too,
// delays calls, and neither loses nor doubles one.
func TestThrottledRun(t *testing.T) {
	const contacts = 500
	url := postgrestest.URL(t)
	env := environment{"DATABASE_URL": url}
	sim := simulate(t, simulator.Config{Faults: simulator.Faults{Throttle: 0.3}})
	sim.prepare(t, env, contacts)
	db := open(t, url)
	dialThere(t, env, db, sim)

	eventually(t, 60*time.Second, "an outcome for every contact", func() (bool, string) {
		n := count(t, db, `SELECT count(*) FROM outcome`)
		return n == contacts, fmt.Sprintf("%d outcomes", n)
	})
	stored, err := db.Campaign(t.Context(), "greeting")
	if err != nil {
		t.Fatal(err)
	}
	p, err := db.Progress(t.Context(), stored.ID)
	if err != nil {
		t.Fatal(err)
	}
	if p.Done != contacts || p.Accepted != contacts || p.Attempts != contacts+p.Throttled {
		t.Errorf("%d done, %d accepted, %d throttled of %d attempts; want %d done and accepted", p.Done, p.Accepted, p.Throttled, p.Attempts, contacts)
	}
	if st := sim.Stats(); st.Throttled < contacts/10 || st.Throttled != p.Throttled || st.Repeats != 0 || st.Overlaps != 0 {
		t.Errorf("the platform throttled %d, we know of %d; %d OutIds called twice, %d overlaps", st.Throttled, p.Throttled, st.Repeats, st.Overlaps)
	}
	byCallee, _ := sim.calls(t)
	if len(byCallee) != contacts {
		t.Errorf("%d numbers were called, want %d", len(byCallee), contacts)
	}
	for callee, n := range byCallee {
		if n != 1 {
			t.Errorf("%s was called %d times", callee, n)
		}
	}
}

// dialThere runs a node in this process until the end of the test.
func dialThere(t *testing.T, env environment, db *postgres.DB, sim *platform) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sim.pushTo(t, ln.Addr().String())
	a := &app{getenv: func(name string) string { return env[name] }}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- runNode(ctx, dialer.New(dialer.Config{DB: db, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})), Name: "here", Secret: a.secret}), ln)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
