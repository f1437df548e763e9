package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres/postgrestest"
)

// distribution is what 'dialer db distribute' prints, for psql to run.
const distribution = `-- Spread by account_id, the rows of an account on one server: attempt, batch, contact, due, import, inbox, lost, outcome, progress, receipt, response, settlement, skip, stranger
-- On every server: suppression
-- On the coordinator: account, campaign, campaign_version, goose_db_version, incident, instance, lease, node, run
ALTER TABLE import DROP CONSTRAINT IF EXISTS import_campaign_id_fkey;
SET citus.enable_unsafe_triggers = on;
SELECT run_command_on_workers('ALTER SYSTEM SET citus.enable_unsafe_triggers = on');
SELECT run_command_on_workers('SELECT pg_reload_conf()');
SELECT create_reference_table('suppression') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'suppression'::regclass);
SELECT create_distributed_table('attempt', 'account_id', colocate_with => 'none') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'attempt'::regclass);
SELECT create_distributed_table('batch', 'account_id', colocate_with => 'attempt') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'batch'::regclass);
SELECT create_distributed_table('contact', 'account_id', colocate_with => 'attempt') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'contact'::regclass);
SELECT create_distributed_table('due', 'account_id', colocate_with => 'attempt') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'due'::regclass);
SELECT create_distributed_table('import', 'account_id', colocate_with => 'attempt') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'import'::regclass);
SELECT create_distributed_table('inbox', 'account_id', colocate_with => 'attempt') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'inbox'::regclass);
SELECT create_distributed_table('lost', 'account_id', colocate_with => 'attempt') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'lost'::regclass);
SELECT create_distributed_table('outcome', 'account_id', colocate_with => 'attempt') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'outcome'::regclass);
SELECT create_distributed_table('progress', 'account_id', colocate_with => 'attempt') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'progress'::regclass);
SELECT create_distributed_table('receipt', 'account_id', colocate_with => 'attempt') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'receipt'::regclass);
SELECT create_distributed_table('response', 'account_id', colocate_with => 'attempt') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'response'::regclass);
SELECT create_distributed_table('settlement', 'account_id', colocate_with => 'attempt') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'settlement'::regclass);
SELECT create_distributed_table('skip', 'account_id', colocate_with => 'attempt') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'skip'::regclass);
SELECT create_distributed_table('stranger', 'account_id', colocate_with => 'attempt') WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'stranger'::regclass);
`

func TestDistributeShowsItsStatements(t *testing.T) {
	t.Parallel()
	// No database is needed.
	if got := (environment{"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}).must(t, "db", "distribute"); got != distribution {
		t.Errorf("got\n%s\nwant\n%s", got, distribution)
	}
}

func TestDistributeApplies(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	env := environment{"DATABASE_URL": url}
	refused := func(env environment, want int, why string, args ...string) {
		t.Helper()
		code, stdout, stderr := env.dialer(t, append([]string{"db", "distribute"}, args...)...)
		if code != want || !strings.Contains(stderr, why) || strings.Count(stderr, "\n") != 1 || stdout != "" {
			t.Errorf("db distribute %q: exit code %d, %q, %q; want %d and %q", args, code, stdout, stderr, want, why)
		}
	}
	refused(env, exitUsage, "say --accept-unguarded-workers", "--apply")
	refused(env, exitUsage, "go with --apply", "--copy-rows")
	apply := []string{"--apply", "--accept-unguarded-workers"}
	refused(env, exitFailure, "the database has no Citus: install the extension", apply...)
	refused(environment{}, exitFailure, "the private Postgres has no Citus", apply...)

	postgrestest.StandInForCitus(t, url)
	var comments []string
	for line := range strings.Lines(distribution) {
		if strings.HasPrefix(line, "--") {
			comments = append(comments, line)
		}
	}
	want := strings.TrimPrefix(distribution, strings.Join(comments, "")) + "-- The tables are distributed. Add plan_cache_mode=auto to the DATABASE_URL of every node.\n"
	if got := env.must(t, slices.Concat([]string{"db", "distribute"}, apply)...); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	db := open(t, url+"&plan_cache_mode=auto")
	if _, err := db.ApplyAccount(t.Context(), &campaign.Account{Name: "acme"}, time.Now()); err != nil {
		t.Error(err)
	}
	env.must(t, slices.Concat([]string{"db", "distribute"}, apply)...)
}
