package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dialer/internal/postgres/postgrestest"
	"dialer/internal/simulator"
)

// A node dials a campaign through a PgBouncer in transaction mode that has fewer
// connections than the node wants, and that is killed and started again meanwhile.
func TestACampaignThroughPgBouncer(t *testing.T) {
	t.Parallel()
	const contacts = 3000
	server := environment{"DATABASE_URL": durable(t)}
	bouncer := postgrestest.StartPgBouncer(t, server["DATABASE_URL"])
	if bouncer == nil {
		return
	}
	if stdout := server.must(t, "migrate", "--pgbouncer"); !strings.Contains(stdout, "nodes may use pgbouncer=transaction") {
		t.Errorf("migrate --pgbouncer: %s", stdout)
	}
	env := environment{"DATABASE_URL": bouncer.URL, "DIALER_STATE": t.TempDir()}
	if code, _, stderr := env.dialer(t, "migrate"); code != exitFailure || !strings.Contains(stderr, "give it the server's own address") {
		t.Errorf("migrate through PgBouncer: exit code %d: %s", code, stderr)
	}
	if code, _, stderr := (environment{}).dialer(t, "migrate", "--pgbouncer"); code != exitUsage {
		t.Errorf("migrate --pgbouncer of a private Postgres: exit code %d: %s", code, stderr)
	}

	sim := simulate(t, simulator.Config{})
	sim.prepare(t, env, contacts)
	n := startNode(t, env, "one")
	sim.pushTo(t, n.address)
	eventually(t, 30*time.Second, "800 requests", func() (bool, string) {
		n := sim.Stats().Requests
		return n >= 800, fmt.Sprint(n)
	})
	bouncer.Restart(t)
	if n := sim.Stats().Requests; n >= contacts {
		t.Fatalf("PgBouncer was killed after the work: %d requests", n)
	}
	db := open(t, server["DATABASE_URL"])
	everyCallHasItsOutcome(t, db, sim, contacts)
	if code := n.terminate(t, 20*time.Second); code != exitOK {
		t.Errorf("the node ended with exit code %d: %s", code, n.last)
	}
	h := sim.history(t, contacts)
	h.agrees(t, db)
	if d := doubt(t, db); d != 0 {
		t.Errorf("%d attempts in doubt, although neither node nor platform was ever away", d)
	}
	if got := env.must(t, "audit"); !strings.Contains(got, "OK: 3,000 contacts, nobody twice, nobody forgotten") {
		t.Errorf("audit: %s", got)
	}
}
