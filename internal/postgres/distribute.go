package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// distributed are the tables that grow. When one server is too small, Citus spreads them
// over several by account: each has account_id in its key, and every statement of a node
// names the account whose rows it means, so that it runs where these are. The first is
// the one beside whose rows the others keep those of the same account.
var distributed = []string{
	"attempt", "batch", "contact", "due", "import", "inbox", "lost", "outcome", "progress", "receipt", "response", "settlement", "skip", "stranger",
}

// reference are the tables of which every server has a copy: intents look up each number.
var reference = []string{"suppression"}

// local are the tables that stay on the coordinator. They are small, and what locks a row
// of them or asks the server's clock is refused for any table that Citus manages.
var local = []string{"account", "campaign", "campaign_version", "goose_db_version", "incident", "instance", "lease", "node", "run"}

// Distributed returns the names of the tables that are spread by account_id.
func Distributed() []string { return slices.Clone(distributed) }

// Undistributed returns the names of the others: those of which every server has a copy,
// and those that stay on the coordinator.
func Undistributed() (copied, coordinator []string) {
	return slices.Clone(reference), slices.Clone(local)
}

// Distribution returns the statements that spread a migrated schema with Citus, in order.
// Each may be run again: it does nothing the second time.
func Distribution() []string {
	statements := []string{
		// A distributed table can refer to another only by a key of the same account, or to
		// one of which every server has a copy. The import reads its campaign first.
		`ALTER TABLE import DROP CONSTRAINT IF EXISTS import_campaign_id_fkey`,
		// The triggers of the ledger look at rows of the same account only, which lie on the
		// same server.
		`SET citus.enable_unsafe_triggers = on`,
		`SELECT run_command_on_workers('ALTER SYSTEM SET citus.enable_unsafe_triggers = on')`,
		`SELECT run_command_on_workers('SELECT pg_reload_conf()')`,
	}
	const unless = ` WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = '%s'::regclass)`
	for _, table := range reference {
		statements = append(statements, fmt.Sprintf(`SELECT create_reference_table('%s')`+unless, table, table))
	}
	for i, table := range distributed {
		beside := distributed[0]
		if i == 0 {
			beside = "none"
		}
		statements = append(statements, fmt.Sprintf(`SELECT create_distributed_table('%s', 'account_id', colocate_with => '%s')`+unless, table, beside, table))
	}
	return statements
}

// ErrNoCitus says that tables cannot be distributed on this server.
var ErrNoCitus = errors.New("the database has no Citus: install the extension on every server, and run CREATE EXTENSION citus in the database of each")

// Distribute spreads the tables of a migrated database over the servers that Citus knows,
// and calls done after each statement. It may be run again, and goes on where it stopped. While a
// node dials it is refused, and if there are rows already, which would be copied under a
// lock of their table, unless copyRows says that this may take its time.
func Distribute(ctx context.Context, url string, copyRows bool, done func(statement string)) error {
	cfg, err := direct(url)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("distribute: connect to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := distributable(ctx, conn, copyRows); err != nil {
		return err
	}
	for _, statement := range Distribution() {
		if _, err := conn.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("distribute: %s: %w", statement, err)
		}
		done(statement)
	}
	return nil
}

// distributable says why the tables cannot be distributed now, if so.
func distributable(ctx context.Context, conn *pgx.Conn, copyRows bool) error {
	var citus, schema bool
	err := conn.QueryRow(ctx, `SELECT to_regproc('citus_version') IS NOT NULL, to_regclass('goose_db_version') IS NOT NULL`).Scan(&citus, &schema)
	switch {
	case err != nil:
		return fmt.Errorf("distribute: %w", err)
	case !citus:
		return ErrNoCitus
	case !schema:
		return errors.New("the database is empty: run 'dialer migrate' first")
	}
	var version int64
	if err := conn.QueryRow(ctx, `SELECT max(version_id) FROM goose_db_version WHERE is_applied`).Scan(&version); err != nil {
		return fmt.Errorf("distribute: read the schema's version: %w", err)
	}
	if version != schemaVersion {
		return fmt.Errorf("the database has schema %d and this program knows %d: run 'dialer migrate' first", version, schemaVersion)
	}
	var held int
	if err := conn.QueryRow(ctx, `SELECT count(*) FROM lease WHERE until > clock_timestamp()`).Scan(&held); err != nil {
		return fmt.Errorf("distribute: look for nodes: %w", err)
	}
	if held > 0 {
		return fmt.Errorf("%d accounts are being dialled: stop the nodes first", held)
	}
	if copyRows {
		return nil
	}
	rows := make([]string, len(distributed))
	for i, table := range distributed {
		rows[i] = fmt.Sprintf(`(SELECT '%[1]s' FROM %[1]s WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = '%[1]s'::regclass) LIMIT 1)`, table)
	}
	var full string
	err = conn.QueryRow(ctx, `SELECT concat_ws(', ', `+strings.Join(rows, ", ")+`)`).Scan(&full)
	if err != nil {
		return fmt.Errorf("distribute: look for rows: %w", err)
	}
	if full != "" {
		return fmt.Errorf("there are rows already in %s: to copy them may take hours and is one transaction for each table; say so with --copy-rows", full)
	}
	return nil
}
