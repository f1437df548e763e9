package postgres_test

import (
	"strings"
	"testing"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
)

// Every method works on connections that belong to somebody else a moment later.
func TestThroughPgBouncer(t *testing.T) {
	t.Parallel()
	server := postgrestest.URL(t)
	bouncer := postgrestest.StartPgBouncer(t, server)
	if bouncer == nil {
		return
	}
	open := func() error {
		db, err := postgres.Open(t.Context(), bouncer.URL)
		if err == nil {
			db.Close()
		}
		return err
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "plan_cache_mode = auto, not force_generic_plan") || !strings.Contains(err.Error(), "run 'dialer migrate --pgbouncer' as the role dialer") {
		t.Errorf("before the role has the settings: %v", err)
	}
	if err := postgres.SettleRole(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	bouncer.Reconnect(t)
	db := openWith(t, bouncer.URL, "pool_max_conns", "12")
	w := worldIn(t, db)
	w.everything()
	for name, want := range map[string]string{"plan_cache_mode": "force_generic_plan", "jit": "off", "enable_seqscan": "off", "idle_in_transaction_session_timeout": "10s", "TimeZone": "UTC"} {
		var is string
		w.must(db.Pool().QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&is))
		if is != want {
			t.Errorf("%s = %s, want %s", name, is, want)
		}
	}
	w.count(0, `SELECT count(*) FROM pg_prepared_statements`)
}

// Transactions of several goroutines take turns on fewer connections.
func TestManyThroughPgBouncer(t *testing.T) {
	t.Parallel()
	server := postgrestest.URL(t)
	bouncer := postgrestest.StartPgBouncer(t, server)
	if bouncer == nil {
		return
	}
	if err := postgres.SettleRole(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	db := openWith(t, bouncer.URL, "pool_max_conns", "12")
	w := worldIn(t, db)
	id, ids := w.dial("c", 13800000000, 12)
	done := make(chan error)
	for i, attempt := range ids {
		go func() {
			// A node each: only one goroutine of a node may write.
			done <- db.WriteResponses(t.Context(), w.account, w.lease.Node+campaign.NodeID(i), []campaign.Response{w.unsure(attempt)}, w.now)
		}()
	}
	for range ids {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	w.count(12, `SELECT count(*) FROM response`)
	if p := w.progress(id); p.Doubtful != 12 {
		t.Errorf("progress %+v", p)
	}
}

// What needs a session of its own says so, and PgBouncer is not taken for a server.
func TestPgBouncerIsNotTheServer(t *testing.T) {
	t.Parallel()
	server := postgrestest.URL(t)
	bouncer := postgrestest.StartPgBouncer(t, server)
	if bouncer == nil {
		return
	}
	const needs = "give it the server's own address, without pgbouncer=transaction"
	if _, err := postgres.Migrate(t.Context(), bouncer.URL); err == nil || !strings.Contains(err.Error(), needs) {
		t.Errorf("migrate: %v", err)
	}
	if err := postgres.SettleRole(t.Context(), bouncer.URL); err == nil || !strings.Contains(err.Error(), needs) {
		t.Errorf("settle the role: %v", err)
	}
	if err := postgres.Distribute(t.Context(), bouncer.URL, false, func(string) {}); err == nil || !strings.Contains(err.Error(), needs) {
		t.Errorf("distribute: %v", err)
	}
	untold := func(b *postgrestest.PgBouncer) string { return strings.Replace(b.URL, "&pgbouncer=transaction", "", 1) }
	if _, err := postgres.Migrate(t.Context(), untold(bouncer)); err == nil || !strings.Contains(err.Error(), needs) {
		t.Errorf("migrate, through a PgBouncer that the URL does not name: %v", err)
	}
	forgetful := postgrestest.StartPgBouncer(t, server, "ignore_startup_parameters = plan_cache_mode, jit, idle_in_transaction_session_timeout")
	for url, why := range map[string]string{
		strings.Replace(bouncer.URL, "pgbouncer=transaction", "pgbouncer=statement", 1): "pgbouncer=statement is not known",
		untold(bouncer):   "say in which mode",
		untold(forgetful): "say in which mode",
	} {
		db, err := postgres.Open(t.Context(), url)
		if err == nil {
			db.Close()
		}
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// In session mode a connection keeps what it has prepared, and its locks.
func TestThroughPgBouncerBySession(t *testing.T) {
	t.Parallel()
	server := postgrestest.URL(t)
	bouncer := postgrestest.StartPgBouncer(t, server, "pool_mode = session", "default_pool_size = 12")
	if bouncer == nil {
		return
	}
	url := strings.Replace(bouncer.URL, "pgbouncer=transaction", "pgbouncer=session", 1)
	if n, err := postgres.Migrate(t.Context(), url); err != nil || n != 0 {
		t.Errorf("%d migrations, %v", n, err)
	}
	if err := postgres.SettleRole(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	bouncer.Reconnect(t)
	w := worldIn(t, openWith(t, url, "pool_max_conns", "4"))
	w.everything()
	var prepared bool
	w.must(w.db.Pool().QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_prepared_statements`).Scan(&prepared))
	if !prepared {
		t.Error("nothing is prepared: each statement is planned anew")
	}
}
