package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// NewNode registers a process that may dial.
func (db *DB) NewNode(ctx context.Context, name, version string, at time.Time) (campaign.NodeID, error) {
	var id campaign.NodeID
	err := db.pool.QueryRow(ctx, `
		INSERT INTO node (name, version, started_at, seen_at)
		VALUES ($1, $2, $3, $3)
		RETURNING node_id`, name, version, at).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("register node: %w", err)
	}
	return id, nil
}

// Acquire takes the account for a node if nobody holds it, for ttl from now by the
// database's clock. It returns a Lease with term 0 if another node holds it.
func (db *DB) Acquire(ctx context.Context, account campaign.AccountID, node campaign.NodeID, ttl time.Duration) (campaign.Lease, error) {
	lease := campaign.Lease{Account: account, Node: node}
	err := db.pool.QueryRow(ctx, `
		WITH old AS (
			SELECT account_id, node_id
			  FROM lease
			 WHERE account_id = $1 AND (node_id IS NULL OR until < clock_timestamp())
			   FOR UPDATE SKIP LOCKED
		)
		UPDATE lease l
		   SET term = l.term + 1, node_id = $2, until = clock_timestamp() + $3::interval
		  FROM old
		 WHERE l.account_id = old.account_id
		RETURNING l.term, old.node_id IS NOT NULL`, account, node, secs(ttl)).Scan(&lease.Term, &lease.TakenOver)
	if errors.Is(err, pgx.ErrNoRows) {
		return campaign.Lease{}, nil
	}
	if err != nil {
		return campaign.Lease{}, fmt.Errorf("acquire account %d: %w", account, err)
	}
	return lease, nil
}

// Renew extends the lease to ttl from now. It returns campaign.ErrLeaseLost if the
// account has another holder or term.
func (db *DB) Renew(ctx context.Context, l campaign.Lease, ttl time.Duration, at time.Time) error {
	tag, err := db.pool.Exec(ctx, `
		WITH alive AS (UPDATE node SET seen_at = $5 WHERE node_id = $2)
		UPDATE lease
		   SET until = clock_timestamp() + $4::interval
		 WHERE account_id = $1 AND node_id = $2 AND term = $3`, l.Account, l.Node, l.Term, secs(ttl), at)
	if err != nil {
		return fmt.Errorf("renew account %d: %w", l.Account, err)
	}
	if tag.RowsAffected() == 0 {
		return campaign.ErrLeaseLost
	}
	return nil
}

// Release gives the account back, so that the next holder need not wait.
func (db *DB) Release(ctx context.Context, l campaign.Lease) error {
	_, err := db.pool.Exec(ctx, `
		UPDATE lease SET node_id = NULL, until = NULL
		 WHERE account_id = $1 AND node_id = $2 AND term = $3`, l.Account, l.Node, l.Term)
	if err != nil {
		return fmt.Errorf("release account %d: %w", l.Account, err)
	}
	return nil
}

// LastSeq returns the number of the account's last batch; 0 before the first.
func (db *DB) LastSeq(ctx context.Context, account campaign.AccountID) (int64, error) {
	var seq int64
	err := db.pool.QueryRow(ctx, `SELECT coalesce(max(seq), 0) FROM batch WHERE account_id = $1`, account).Scan(&seq)
	if err != nil {
		return 0, fmt.Errorf("last batch of account %d: %w", account, err)
	}
	return seq, nil
}
