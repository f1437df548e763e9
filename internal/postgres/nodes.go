package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// NodeStatus is a node as people see it.
type NodeStatus struct {
	Node      campaign.NodeID `json:"node_id"`
	Name      string          `json:"name"`
	Version   string          `json:"version"`
	StartedAt time.Time       `json:"started_at"`
	SeenAt    time.Time       `json:"seen_at"`
	State     string          `json:"state"`    // alive, left (told to stop) or silent (its leases have run out)
	Accounts  int             `json:"accounts"` // it holds
	// PerSecond are its attempts per second in the last ten seconds.
	PerSecond float64 `json:"requests_per_second"`
}

// AccountStatus is an account and who holds it.
type AccountStatus struct {
	Account string          `json:"account"`
	Node    campaign.NodeID `json:"node_id,omitempty"` // 0: nobody
	Name    string          `json:"node,omitempty"`
	Term    int32           `json:"term"`
	Until   *time.Time      `json:"until,omitempty"`
	// Why says what keeps the account from being held or dialled, as far as is known.
	Why string `json:"why,omitempty"`
}

// NodeStatus returns the nodes that were seen since a time, those that are alive first.
func (db *DB) NodeStatus(ctx context.Context, since time.Time) ([]NodeStatus, error) {
	rows, _ := db.pool.Query(ctx, `
		WITH dialled AS (
			SELECT node_id, count(*) / 10.0 AS per_second FROM attempt WHERE intent_at > now() - interval '10 seconds' GROUP BY node_id
		)
		SELECT n.node_id, n.name, n.version, n.started_at, n.seen_at,
		       CASE WHEN n.until IS NULL THEN 'left' WHEN n.until < clock_timestamp() THEN 'silent' ELSE 'alive' END AS state,
		       (SELECT count(*) FROM lease l WHERE l.node_id = n.node_id AND l.until >= clock_timestamp()),
		       coalesce(d.per_second, 0)::float
		  FROM node n
		  LEFT JOIN dialled d ON d.node_id = n.node_id
		 WHERE n.seen_at >= $1 OR n.until >= clock_timestamp()
		 ORDER BY coalesce(n.until < clock_timestamp(), true), n.name, n.started_at`, since)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[NodeStatus])
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return all, nil
}

// AccountStatus returns the accounts and who holds them.
func (db *DB) AccountStatus(ctx context.Context) ([]AccountStatus, error) {
	rows, _ := db.pool.Query(ctx, `
		SELECT a.name, coalesce(h.node_id, 0), coalesce(h.name, ''), l.term, CASE WHEN h.node_id IS NOT NULL THEN l.until END,
		       concat_ws('; ',
		           CASE WHEN a.state = 'paused' THEN 'the account is paused: ' || a.reason END,
		           CASE WHEN h.node_id IS NULL THEN coalesce(
		               (SELECT string_agg(n.name || ' cannot dial it: ' || (n.refused ->> l.account_id::text), '; ' ORDER BY n.name)
		                  FROM node n WHERE n.until >= clock_timestamp() AND n.refused ? l.account_id::text),
		               CASE WHEN NOT EXISTS (SELECT FROM node n WHERE n.until >= clock_timestamp()) THEN 'no node runs' END) END)
		  FROM lease l
		  JOIN account a USING (account_id)
		  LEFT JOIN node h ON h.node_id = l.node_id AND l.until >= clock_timestamp()
		 ORDER BY a.name`)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[AccountStatus])
	if err != nil {
		return nil, fmt.Errorf("list who holds the accounts: %w", err)
	}
	return all, nil
}
