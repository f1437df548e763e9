package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pooled is the parameter of a database URL by which a node knows that it is connected
// through PgBouncer, which hands each transaction to any of its own connections.
const pooled = "pgbouncer"

// settings are what every session of the program needs of the server.
var settings = map[string]string{
	// The intent statement joins arrays of a batch with the big tables. Planned
	// for the values at hand it sometimes becomes a quadratic loop or a scan.
	"plan_cache_mode": "force_generic_plan",
	"jit":             "off",
	// A plan that was made while a table was empty reads the table from end to end, and
	// stays in force while it grows.
	"enable_seqscan": "off",
	// The server would keep the locks of a process that it cannot reach any more, and
	// nobody could apply receipts of those campaigns.
	"idle_in_transaction_session_timeout": "10s",
}

// session sets what a connection asks for when it is made: the program's settings,
// unless the URL has its own. PgBouncer refuses them: the connections that it makes have
// those of the role. session returns what the role must have then, else nil.
func session(cfg *pgx.ConnConfig) (ofRole map[string]string, err error) {
	mode, through := cfg.RuntimeParams[pooled]
	delete(cfg.RuntimeParams, pooled)
	switch {
	case through && mode != "transaction":
		return nil, fmt.Errorf("database URL: %s=%s is not known: it is %[1]s=transaction, or nothing for a PgBouncer in session mode", pooled, mode)
	case through:
		// What is prepared on one connection is not there on the next.
		cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		ofRole = make(map[string]string)
	}
	for name, value := range settings {
		own, set := cfg.RuntimeParams[name]
		switch {
		case through && set:
			ofRole[name] = own
			delete(cfg.RuntimeParams, name)
		case through:
			ofRole[name] = value
		case !set:
			cfg.RuntimeParams[name] = value
		}
	}
	// This one PgBouncer passes on.
	if _, set := cfg.RuntimeParams["timezone"]; !set {
		cfg.RuntimeParams["timezone"] = "UTC"
	}
	return ofRole, nil
}

// checkRole makes sure that the connections of PgBouncer have the settings that it does
// not pass on.
func (db *DB) checkRole(ctx context.Context, ofRole map[string]string) error {
	var wrong []string
	var role string
	for _, name := range slices.Sorted(maps.Keys(ofRole)) {
		var is string
		if err := db.pool.QueryRow(ctx, `SELECT current_setting($1), current_user`, name).Scan(&is, &role); err != nil {
			return fmt.Errorf("read the settings that PgBouncer's connections have: %w", err)
		}
		if is != ofRole[name] {
			wrong = append(wrong, fmt.Sprintf("%s = %s, not %s", name, is, ofRole[name]))
		}
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("connections through PgBouncer have %s: run 'dialer migrate --pgbouncer' as the role %s with the server's own address, then RECONNECT in PgBouncer's console",
		strings.Join(wrong, ", "), role)
}

// SettleRole gives the role of url, in its database, the settings that PgBouncer does not
// pass on. url is the server's own address.
func SettleRole(ctx context.Context, url string) error {
	cfg, err := direct(url)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("settle the role: connect to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := settings[name]
		if own, set := cfg.RuntimeParams[name]; set {
			value = own
		}
		var statement string
		err := conn.QueryRow(ctx, `SELECT format('ALTER ROLE %I IN DATABASE %I SET %I = %L', current_user, current_database(), $1::text, $2::text)`, name, value).Scan(&statement)
		if err == nil {
			_, err = conn.Exec(ctx, statement)
		}
		if err != nil {
			return fmt.Errorf("settle the role: %w", err)
		}
	}
	return nil
}

// direct is the address of a server for what one session must do from its first
// statement to its last.
func direct(url string) (*pgx.ConnConfig, error) {
	// The pool's form of the URL is parsed, so that pool_max_conns and its like are
	// not sent to the server.
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	if _, through := cfg.ConnConfig.RuntimeParams[pooled]; through {
		return nil, errThroughPgBouncer
	}
	return cfg.ConnConfig, nil
}

var errThroughPgBouncer = errors.New("DATABASE_URL goes through PgBouncer, and this needs one session from its first statement to its last: give it the server's own address, without pgbouncer=transaction")

// throughPgBouncer explains an error that PgBouncer gives when it is used without being
// told of.
func throughPgBouncer(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if ok && (strings.Contains(pg.Message, "unsupported startup parameter") || pg.Code == "42P05") {
		return fmt.Errorf("%w; if this is PgBouncer in transaction mode, add %s=transaction to the database URL", err, pooled)
	}
	return err
}
