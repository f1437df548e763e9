package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// NewNode registers a process that may dial. Its number is drawn at random: numbers
// that are counted up would be given out twice after a backup was restored, and two
// nodes with one number would take each other's lease and totals for their own.
func (db *DB) NewNode(ctx context.Context, name, version string, at time.Time) (campaign.NodeID, error) {
	for {
		id := campaign.NodeID(1 + rand.Int32N(math.MaxInt32))
		_, err := db.pool.Exec(ctx, `
			INSERT INTO node (node_id, name, version, started_at, seen_at)
			OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $4)`, id, name, version, at)
		if violated(err) == "node_pkey" {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("register node: %w", err)
		}
		return id, nil
	}
}

// Acquire takes those of the accounts that nobody holds for a node, for ttl from now by
// the database's clock, and returns their leases.
func (db *DB) Acquire(ctx context.Context, accounts []campaign.AccountID, node campaign.NodeID, ttl time.Duration) ([]campaign.Lease, error) {
	rows, _ := db.pool.Query(ctx, `
		WITH old AS (
			SELECT account_id, node_id, rest
			  FROM lease
			 WHERE account_id = ANY ($1::int[]) AND (node_id IS NULL OR until < clock_timestamp())
			   FOR UPDATE SKIP LOCKED
		)
		UPDATE lease l
		   SET term = l.term + 1, node_id = $2, until = clock_timestamp() + $3::interval
		  FROM old
		 WHERE l.account_id = old.account_id
		RETURNING l.account_id, l.term, old.node_id IS NOT NULL, old.rest, l.server, server_now(), l.synchronous`, accounts, node, secs(ttl))
	leases, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (campaign.Lease, error) {
		l := campaign.Lease{Node: node}
		err := row.Scan(&l.Account, &l.Term, &l.TakenOver, &l.Rest, &l.Vouched, &l.Server, &l.Synchronous)
		switch {
		case l.Term == 1:
			l.Rest = campaign.Rest{} // nobody has sent anything
		case l.TakenOver:
			l.Rest = nil
		case l.Rest == nil:
			l.TakenOver = true
		}
		return l, err
	})
	if violated(err) == "lease_node_id_fkey" {
		return nil, campaign.ErrNodeForgotten
	}
	if err != nil {
		return nil, fmt.Errorf("acquire accounts: %w", err)
	}
	return leases, nil
}

// waitsForStandby tells whether commits wait for a standby: this one, too, so that the
// standby has the answer.
const waitsForStandby = `(current_setting('synchronous_standby_names') <> '' AND current_setting('synchronous_commit') IN ('remote_write', 'on', 'remote_apply'))`

// Renew extends the lease to ttl from now. It returns campaign.ErrLeaseLost if the
// account has another holder or term. A standby that has just taken over does not change
// what is known of the server before it.
func (db *DB) Renew(ctx context.Context, l campaign.Lease, ttl time.Duration) error {
	tag, err := db.pool.Exec(ctx, `
		UPDATE lease
		   SET until = clock_timestamp() + $4::interval,
		       synchronous = CASE WHEN server = server_now() THEN `+waitsForStandby+` ELSE synchronous END
		 WHERE account_id = $1 AND node_id = $2 AND term = $3`, l.Account, l.Node, l.Term, secs(ttl))
	if err != nil {
		return fmt.Errorf("renew account %d: %w", l.Account, err)
	}
	if tag.RowsAffected() == 0 {
		return campaign.ErrLeaseLost
	}
	return nil
}

// Release gives the account back. The next holder takes it at once, and dials as rest
// permits.
func (db *DB) Release(ctx context.Context, l campaign.Lease, rest campaign.Rest) error {
	_, err := db.pool.Exec(ctx, `
		UPDATE lease SET node_id = NULL, until = NULL, rest = $4
		 WHERE account_id = $1 AND node_id = $2 AND term = $3`, l.Account, l.Node, l.Term, []int32(rest))
	if err != nil {
		return fmt.Errorf("release account %d: %w", l.Account, err)
	}
	return nil
}

// LastBatch returns the account's newest batch.
func (db *DB) LastBatch(ctx context.Context, account campaign.AccountID) (campaign.LastBatch, error) {
	var last campaign.LastBatch
	err := db.pool.QueryRow(ctx, `SELECT seq, at FROM batch WHERE account_id = $1 ORDER BY seq DESC LIMIT 1`, account).Scan(&last.Seq, &last.At)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return last, fmt.Errorf("last batch of account %d: %w", account, err)
	}
	return last, nil
}

// Vouch says that the account may be dialled on the server as it was when the lease
// was acquired. It returns campaign.ErrLeaseLost if the lease is another's by now, or
// the server another one.
func (db *DB) Vouch(ctx context.Context, l campaign.Lease) error {
	tag, err := db.pool.Exec(ctx, `
		UPDATE lease SET server = $4, synchronous = `+waitsForStandby+`
		 WHERE account_id = $1 AND node_id = $2 AND term = $3 AND server_now() = $4`, l.Account, l.Node, l.Term, l.Server)
	if err != nil {
		return fmt.Errorf("vouch for account %d: %w", l.Account, err)
	}
	if tag.RowsAffected() == 0 {
		return campaign.ErrLeaseLost
	}
	return nil
}
