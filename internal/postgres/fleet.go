package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// Beat is a node's sign of life.
type Beat struct {
	Node campaign.NodeID
	At   time.Time
	TTL  time.Duration // how long others may count on it, and its leases last
	// Spreads says that it takes its share of all accounts.
	Spreads bool
	// Refused are the accounts that it cannot dial now, and why.
	Refused map[campaign.AccountID]string
	Leases  []campaign.Lease
}

// Beat says that a node is alive, and extends its leases in the same statement. Renewed
// are the accounts whose lease lasts for the TTL from now; lost those that have another
// holder or term. The row of a lease may be locked at this moment, by an intent: that
// lease is in neither and must be renewed by itself.
func (db *DB) Beat(ctx context.Context, b *Beat) (renewed, lost []campaign.AccountID, err error) {
	refused := b.Refused
	if refused == nil {
		refused = map[campaign.AccountID]string{}
	}
	reasons, err := json.Marshal(refused)
	if err != nil {
		return nil, nil, fmt.Errorf("sign of life: %w", err)
	}
	accounts, terms := make([]campaign.AccountID, len(b.Leases)), make([]int32, len(b.Leases))
	for i, l := range b.Leases {
		accounts[i], terms[i] = l.Account, l.Term
	}
	var known bool
	err = db.pool.QueryRow(ctx, `
		WITH alive AS (
			UPDATE node SET seen_at = $2, until = clock_timestamp() + $3::interval, spreads = $4, refused = $5
			 WHERE node_id = $1
			RETURNING true
		), held AS MATERIALIZED (
			SELECT account_id, l.term
			  FROM lease l
			  JOIN unnest($6::int[], $7::int[]) h (account_id, term) USING (account_id, term)
			 WHERE l.node_id = $1
		), unlocked AS (
			SELECT account_id, term
			  FROM lease
			 WHERE (account_id, term) IN (SELECT account_id, term FROM held) AND node_id = $1
			   FOR NO KEY UPDATE SKIP LOCKED
		), renewed AS (
			UPDATE lease l
			   SET until = clock_timestamp() + $3::interval,
			       synchronous = CASE WHEN l.server = server_now() THEN `+waitsForStandby+` ELSE l.synchronous END
			  FROM unlocked u
			 WHERE l.account_id = u.account_id AND l.node_id = $1 AND l.term = u.term
			RETURNING l.account_id
		)
		SELECT EXISTS (SELECT FROM alive),
		       ARRAY (SELECT account_id FROM renewed),
		       ARRAY (SELECT account_id FROM unnest($6::int[]) account_id EXCEPT SELECT account_id FROM held)`,
		b.Node, b.At, secs(b.TTL), b.Spreads, reasons, accounts, terms).Scan(&known, &renewed, &lost)
	if err != nil {
		return nil, nil, fmt.Errorf("sign of life: %w", err)
	}
	if !known {
		return nil, nil, campaign.ErrNodeForgotten
	}
	return renewed, lost, nil
}

// Leave says that a node takes no account any more: the others need not count on it.
func (db *DB) Leave(ctx context.Context, node campaign.NodeID, at time.Time) error {
	if _, err := db.pool.Exec(ctx, `UPDATE node SET seen_at = $2, until = NULL WHERE node_id = $1`, node, at); err != nil {
		return fmt.Errorf("leave the other nodes: %w", err)
	}
	return nil
}

// Free returns the accounts that nobody holds.
func (db *DB) Free(ctx context.Context) ([]campaign.AccountID, error) {
	rows, _ := db.pool.Query(ctx, `SELECT account_id FROM lease WHERE node_id IS NULL OR until < clock_timestamp()`)
	free, err := pgx.CollectRows(rows, pgx.RowTo[campaign.AccountID])
	if err != nil {
		return nil, fmt.Errorf("look for free accounts: %w", err)
	}
	return free, nil
}

// Fleet returns who holds what, and the nodes that share the accounts, in the order of
// their numbers.
func (db *DB) Fleet(ctx context.Context) (*campaign.Fleet, error) {
	f := new(campaign.Fleet)
	var b pgx.Batch
	b.Queue(`
		SELECT l.account_id, CASE WHEN l.until >= clock_timestamp() THEN coalesce(l.node_id, 0) ELSE 0 END,
		       a.state = 'active' AND l.account_id IN (
		           SELECT r.account_id FROM run r JOIN campaign c USING (campaign_id) WHERE r.ended_at IS NULL AND c.state = 'running')
		  FROM lease l
		  JOIN account a USING (account_id)
		 ORDER BY l.account_id`).Query(func(rows pgx.Rows) (err error) {
		f.Accounts, err = pgx.CollectRows(rows, pgx.RowToStructByPos[campaign.Held])
		return err
	})
	b.Queue(`
		SELECT node_id, ARRAY (SELECT jsonb_object_keys(refused)::int)
		  FROM node
		 WHERE spreads AND until >= clock_timestamp()
		 ORDER BY node_id`).Query(func(rows pgx.Rows) (err error) {
		f.Nodes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[campaign.Sharer])
		return err
	})
	if err := db.pool.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("look at the nodes and their accounts: %w", err)
	}
	return f, nil
}
