package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ParseURL reads the address of a database: a libpq URL or keyword string, or "" for
// libpq's own variables. pool_max_conns and its like are understood. An address with
// several hosts, for a server and its standbys, means the one of them that may be
// written to, unless its target_session_attrs says otherwise.
func ParseURL(url string) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	if hosts, _ := Hosts(cfg.ConnConfig); len(hosts) > 1 && cfg.ConnConfig.ValidateConnect == nil {
		cfg.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return cfg, nil
}

// Hosts returns the hosts of an address and their ports, in the order in which they are
// tried.
func Hosts(cfg *pgx.ConnConfig) (hosts, ports []string) {
	add := func(host string, port uint16) {
		p := strconv.Itoa(int(port))
		// A host that is tried with TLS and then without stands there twice.
		if n := len(hosts); n == 0 || hosts[n-1] != host || ports[n-1] != p {
			hosts, ports = append(hosts, host), append(ports, p)
		}
	}
	add(cfg.Host, cfg.Port)
	for _, f := range cfg.Fallbacks {
		add(f.Host, f.Port)
	}
	return hosts, ports
}

// timelines remembers the newest timeline of each cluster that a process has been
// connected to. A primary that was replaced and comes back has an older one: who
// connects to it again, by an address with several hosts or because an address moved
// back, would find a ledger without what was called since. The zero value remembers none.
type timelines struct {
	mu     sync.Mutex
	newest map[string]int // by system identifier
}

// askTimeline has no answer on a standby, which is not written to.
const askTimeline = `
	SELECT CASE WHEN NOT pg_is_in_recovery() THEN
	       (SELECT system_identifier FROM pg_control_system()) || '/' ||
	       ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END`

// watch makes connections of cfg fail that lead to an older timeline. With several hosts
// the next one is tried then.
func (t *timelines) watch(cfg *pgx.ConnConfig) {
	before := cfg.ValidateConnect
	cfg.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if before != nil {
			if err := before(ctx, conn); err != nil {
				return err
			}
		}
		results, err := conn.Exec(ctx, askTimeline).ReadAll()
		if err != nil {
			return fmt.Errorf("ask for the server's timeline: %w", err)
		}
		if len(results) != 1 || len(results[0].Rows) != 1 {
			return fmt.Errorf("ask for the server's timeline: %d answers", len(results))
		}
		return t.check(string(results[0].Rows[0][0]))
	}
}

// check takes note of a server's cluster and timeline, and refuses an older one.
func (t *timelines) check(answer string) error {
	cluster, number, ok := strings.Cut(answer, "/")
	if !ok {
		return nil // a standby
	}
	timeline, err := strconv.Atoi(number)
	if err != nil {
		return fmt.Errorf("the server's timeline: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if newest := t.newest[cluster]; timeline < newest {
		return fmt.Errorf("this server is on timeline %d, and its cluster has gone on to %d: it is a primary that was replaced, or an old backup; "+
			"stop it (or, if it is the right one after all, start this process again)", timeline, newest)
	}
	if t.newest == nil {
		t.newest = make(map[string]int)
	}
	t.newest[cluster] = timeline
	return nil
}

// writable tells whether a connection may still be written on. A server that was made
// read-only says so to those who are connected, and a pool would keep them.
func writable(conn *pgx.Conn) bool {
	return conn.PgConn().ParameterStatus("default_transaction_read_only") != "on" && conn.PgConn().ParameterStatus("in_hot_standby") != "on"
}
