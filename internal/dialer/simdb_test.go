package dialer_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialer/internal/postgres/postgrestest"
)

// simDatabase is a database for one simulation after the other. Its clock is what a
// sequence says: simulation time is no time that a server could have.
type simDatabase struct {
	url   string
	reset string

	mu       sync.Mutex
	sessions []*session // at the server, without a client
}

// newSimDatabase must be called outside the bubbles.
func newSimDatabase(t *testing.T) *simDatabase {
	t.Helper()
	d := &simDatabase{url: postgrestest.URL(t)}
	conn, err := pgx.Connect(t.Context(), d.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	// A sequence is changed in place and outside transactions: every statement that
	// begins later sees it, and nothing bloats. The key makes the OutIds, and with them
	// the platform's dice, the same in every database.
	_, err = conn.Exec(t.Context(), `
		CREATE SCHEMA sim;
		CREATE UNLOGGED SEQUENCE sim.now MINVALUE -9000000000000000000;
		CREATE FUNCTION sim.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
			SELECT timestamptz 'epoch' + last_value * interval '1 microsecond' FROM sim.now
		$$;
		UPDATE instance SET out_id_key = sha256('simulation')`)
	if err != nil {
		t.Fatal(err)
	}
	err = conn.QueryRow(t.Context(), `
		SELECT 'SET session_replication_role = replica; '
		       || (SELECT string_agg(format('DELETE FROM %I', tablename), '; ') FROM pg_tables
		            WHERE schemaname = 'public' AND tablename NOT IN ('instance', 'goose_db_version'))
		       || '; SELECT ' || (SELECT string_agg(format('setval(%L, 1, false)', sequencename), ', ') FROM pg_sequences
		                           WHERE schemaname = 'public' AND sequencename NOT LIKE 'goose%')
		       || '; SET session_replication_role = origin'`).Scan(&d.reset)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// simSettings are those of every session: what postgres.Open asks for, and a path on
// which our clock_timestamp() is found before the catalog's.
var simSettings = map[string]string{
	"search_path": "sim,pg_catalog,public", "timezone": "UTC", "plan_cache_mode": "force_generic_plan", "jit": "off", "enable_seqscan": "off", "application_name": "simulation",
}

// config is for a pool to the database in which clock_timestamp() is the simulated
// clock. What happens to its connections is up to the node; nothing
// does without one.
func (d *simDatabase) config(t *testing.T, s *simNode) *pgxpool.Config {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(d.url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 4
	cfg.ConnConfig.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		if s != nil {
			s.wait(ctx.Done())
			if s.isCut() || s.databaseDown() || ctx.Err() != nil {
				return nil, errDatabase
			}
		}
		c := &dbConn{database: d, node: s, dead: make(chan struct{}), asked: make(chan struct{}, 1)}
		if s != nil {
			s.mu.Lock()
			s.conns[c] = struct{}{}
			s.mu.Unlock()
		}
		return c, nil
	}
	return cfg
}

// simClock moves the database's clock to the time of the bubble, before each statement
// that looks at it.
type simClock struct {
	mu   sync.Mutex
	conn *pgx.Conn
	skew time.Duration // how much the database is ahead
	set  time.Time
}

// newSimClock empties the database and sets its clock.
func newSimClock(t *testing.T, d *simDatabase) *simClock {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), d.config(t, nil).ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), d.reset); err != nil {
		t.Fatal(err)
	}
	c := &simClock{conn: conn}
	c.follow(t.Context())
	return c
}

func (c *simClock) follow(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now().Add(c.skew)
	if now.Equal(c.set) {
		return
	}
	if _, err := c.conn.Exec(context.WithoutCancel(ctx), `SELECT setval('sim.now', $1)`, now.UnixMicro()); err != nil {
		panic("the simulated clock stands still: " + err.Error())
	}
	c.set = now
}

func (c *simClock) setSkew(d time.Duration) {
	c.mu.Lock()
	c.skew = d
	c.mu.Unlock()
}

func (c *simClock) close() { _ = c.conn.Close(context.Background()) }

// TraceQueryStart makes the clock a pgx.QueryTracer.
func (c *simClock) TraceQueryStart(ctx context.Context, conn *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if d, ok := conn.PgConn().Conn().(*dbConn); ok {
		d.mu.Lock()
		d.intents = strings.Contains(q.SQL, "fence")
		d.mu.Unlock()
	}
	if strings.Contains(q.SQL, "clock_timestamp") {
		c.follow(ctx)
	}
	return ctx
}

// TraceQueryEnd does nothing.
func (*simClock) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
