package dialer_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
)

// simDatabase is a database for one simulation after the other. Its clock is what a
// sequence says: simulation time is no time that a server could have.
type simDatabase struct {
	url   string
	reset string
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

// config is for a pool to the database in which clock_timestamp() is the simulated
// clock. The catalog comes after our schema, which is enough for names that the
// statements do not qualify.
func (d *simDatabase) config(t *testing.T, clock *simClock) *pgxpool.Config {
	t.Helper()
	u, err := url.Parse(d.url)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", "sim,pg_catalog,public")
	q.Set("pool_max_conns", "4")
	u.RawQuery = q.Encode()
	cfg, err := pgxpool.ParseConfig(u.String())
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.Tracer = clock
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
	conn, err := pgx.Connect(t.Context(), d.url)
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
func (c *simClock) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if strings.Contains(q.SQL, "clock_timestamp") {
		c.follow(ctx)
	}
	return ctx
}

// TraceQueryEnd does nothing.
func (*simClock) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

var errDatabase = &net.OpError{Op: "simulated database", Err: syscall.ECONNRESET}

// open opens a node's pool, whose connections break as the plan says.
func (s *simNode) open(ctx context.Context, cfg *pgxpool.Config) (*postgres.DB, error) {
	inner := cfg.ConnConfig.DialFunc
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		s.wait(ctx.Done())
		if s.isCut() || s.databaseDown() || ctx.Err() != nil {
			return nil, errDatabase
		}
		conn, err := inner(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &dbConn{Conn: conn, node: s, dead: make(chan struct{}), asked: make(chan struct{}, 1)}
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		return c, nil
	}
	return postgres.OpenConfig(ctx, cfg)
}

// dbConn is a node's connection to the real database. It breaks off between whole
// statements, and holds up only outside transactions: a transaction that is held up while
// it holds locks would hold up the whole bubble, because nobody who waits in the
// database lets its clock go on.
type dbConn struct {
	net.Conn
	node *simNode

	mu      sync.Mutex
	dead    chan struct{} // closed when the deadline has passed or the connection is closed
	expiry  *time.Timer   // of the deadline
	gone    bool          // closed
	began   bool          // the first ReadyForQuery has come
	pending int           // Sync and Query messages without their ReadyForQuery
	leaving bool          // Terminate was sent: only the end of the connection is awaited
	idle    bool          // outside a transaction, by the last ReadyForQuery
	in, out messages
	drop    bool // the reply under way is lost
	held    []byte
	asked   chan struct{} // sent on when something was asked
}

// messages cuts a stream into messages: a type, a length, a body.
type messages struct {
	head [5]byte
	have int
	skip int
	last byte // of the body seen last
}

// each calls f with the type and the last byte of each message that p completes.
func (m *messages) each(p []byte, f func(kind, last byte)) {
	for len(p) > 0 {
		if m.have < 5 {
			n := copy(m.head[m.have:], p)
			m.have += n
			p = p[n:]
			if m.have < 5 {
				return
			}
			m.skip = int(binary.BigEndian.Uint32(m.head[1:])) - 4
		}
		n := min(m.skip, len(p))
		if n > 0 {
			m.last = p[n-1]
		}
		m.skip -= n
		p = p[n:]
		if m.skip == 0 {
			f(m.head[0], m.last)
			m.have = 0
		}
	}
}

func (c *dbConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	began, ready, free := c.began, c.began && c.pending == 0, c.began && c.pending == 0 && c.idle
	c.mu.Unlock()
	if free {
		c.hold()
	}
	if c.node.isCut() || c.node.databaseDown() {
		_ = c.Close()
		return 0, errDatabase
	}
	if ready {
		switch c.node.w.plan.dbFault(c.node.random()) {
		case dbKill:
			c.node.w.trace.add("%s: a statement does not reach the database", c.node.name)
			_ = c.Close()
			return 0, errDatabase
		case dbDrop:
			c.node.w.trace.add("%s: the database's reply is lost", c.node.name)
			c.mu.Lock()
			c.drop = true
			c.mu.Unlock()
		}
	}
	if began {
		c.mu.Lock()
		c.out.each(p, func(kind, _ byte) {
			switch kind {
			case 'S', 'Q':
				c.pending++
			case 'X':
				c.leaving = true
			}
		})
		c.mu.Unlock()
	}
	n, err := c.Conn.Write(p)
	select {
	case c.asked <- struct{}{}:
	default:
	}
	return n, err
}

// hold waits while the node hangs. The database's clock has gone on meanwhile.
func (c *dbConn) hold() {
	if !c.node.isHung() {
		return
	}
	c.mu.Lock()
	dead := c.dead
	c.mu.Unlock()
	c.node.wait(dead)
	c.node.w.clock.follow(context.Background())
}

func (c *dbConn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		if len(c.held) > 0 {
			n := copy(p, c.held)
			c.held = c.held[n:]
			c.mu.Unlock()
			return n, nil
		}
		// A read of a reply that is not asked for yet would stop the clock.
		waiting, dead := c.began && c.pending == 0 && !c.leaving, c.dead
		c.mu.Unlock()
		if !waiting {
			break
		}
		select {
		case <-c.asked:
		case <-dead:
			return 0, errDatabase
		}
	}
	n, err := c.Conn.Read(p)
	if err != nil {
		return n, err
	}
	c.note(p[:n])
	c.mu.Lock()
	drop, whole, free := c.drop, c.pending == 0, c.pending == 0 && c.idle
	c.mu.Unlock()
	if drop {
		rest := make([]byte, 4096)
		for !whole {
			m, err := c.Conn.Read(rest)
			if err != nil {
				break
			}
			c.note(rest[:m])
			c.mu.Lock()
			whole = c.pending == 0
			c.mu.Unlock()
		}
		_ = c.Close()
		return 0, errDatabase
	}
	if free && c.node.isHung() {
		c.hold()
	}
	if c.node.isCut() {
		_ = c.Close()
		return 0, errDatabase
	}
	return n, nil
}

// note takes in what the database said.
func (c *dbConn) note(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.each(p, func(kind, last byte) {
		if kind != 'Z' {
			return
		}
		if c.began {
			c.pending--
		}
		c.began, c.idle = true, last == 'I'
	})
}

func (c *dbConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return net.ErrClosed
	}
	if c.expiry != nil {
		c.expiry.Stop()
		c.expiry = nil
	}
	if !t.IsZero() && !t.After(time.Now()) {
		c.end()
	} else if t.IsZero() {
		select {
		case <-c.dead:
			c.dead = make(chan struct{})
		default:
		}
	} else {
		c.expiry = time.AfterFunc(time.Until(t), func() { c.die() })
	}
	c.mu.Unlock()
	return c.Conn.SetDeadline(t)
}

// die ends what waits on the connection.
func (c *dbConn) die() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
}

// end is die with the lock held.
func (c *dbConn) end() {
	select {
	case <-c.dead:
	default:
		close(c.dead)
	}
}

func (c *dbConn) Close() error {
	c.mu.Lock()
	c.gone = true
	c.end()
	if c.expiry != nil {
		c.expiry.Stop()
	}
	c.mu.Unlock()
	c.node.mu.Lock()
	delete(c.node.conns, c)
	c.node.mu.Unlock()
	return c.Conn.Close()
}
