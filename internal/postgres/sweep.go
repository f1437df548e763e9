package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// Lose settles the attempts of an account that were intended after from and not
// after to, and of which neither a definite no nor an outcome has come: they are lost.
// Their contacts wait for a person, or are pending again where the campaign chose to
// redial. It returns the attempts.
func (db *DB) Lose(ctx context.Context, account campaign.AccountID, node campaign.NodeID, from, to, at time.Time) ([]campaign.AttemptID, error) {
	var ids []campaign.AttemptID
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		ids = nil
		// First who it may be, to know the campaigns; then, with those locked, who it is.
		rows, _ := tx.Query(ctx, `
			SELECT a.attempt_id
			  FROM attempt a
			  LEFT JOIN response r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id
			 WHERE a.account_id = $1 AND a.intent_at > $2 AND a.intent_at <= $3
			   AND (r.class IS NULL OR r.class IN ('accepted', 'unknown'))
			   AND NOT EXISTS (SELECT FROM outcome o WHERE o.account_id = a.account_id AND o.attempt_id = a.attempt_id)
			   AND NOT EXISTS (SELECT FROM settlement s WHERE s.account_id = a.account_id AND s.attempt_id = a.attempt_id)
			   AND NOT EXISTS (SELECT FROM lost l WHERE l.account_id = a.account_id AND l.attempt_id = a.attempt_id)`, account, from, to)
		candidates, err := pgx.CollectRows(rows, pgx.RowTo[campaign.AttemptID])
		if err != nil || len(candidates) == 0 {
			return err
		}
		if _, err := tx.Exec(ctx, lockCampaigns, campaignsOf(candidates)); err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, `
			INSERT INTO lost (account_id, attempt_id, at, note)
			SELECT a.account_id, a.attempt_id, $3,
			       CASE WHEN r.class IS NULL THEN 'the node that made it recorded nothing: it may not have been sent'
			            WHEN r.class = 'unknown' THEN 'no understood answer, and no receipt'
			            ELSE 'accepted, and no receipt' END
			  FROM unnest($2::bigint[]) i (id)
			  JOIN attempt a ON a.account_id = $1 AND a.attempt_id = i.id
			  LEFT JOIN response r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id
			 WHERE (r.class IS NULL OR r.class IN ('accepted', 'unknown'))
			   AND NOT EXISTS (SELECT FROM outcome o WHERE o.account_id = a.account_id AND o.attempt_id = a.attempt_id)
			   AND NOT EXISTS (SELECT FROM settlement s WHERE s.account_id = a.account_id AND s.attempt_id = a.attempt_id)
			ON CONFLICT DO NOTHING
			RETURNING attempt_id`, account, ints(candidates), at)
		if ids, err = pgx.CollectRows(rows, pgx.RowTo[campaign.AttemptID]); err != nil || len(ids) == 0 {
			return err
		}
		rows, _ = tx.Query(ctx, `
			INSERT INTO due (account_id, campaign_id, n, try, chance, due_at, reason)
			SELECT a.account_id, a.campaign_id, a.n, a.try + 1, a.chance + 1, $3, 'lost'
			  FROM attempt a
			  JOIN campaign c ON c.campaign_id = a.campaign_id AND c.state <> 'cancelled'
			  JOIN campaign_version v ON v.campaign_id = c.campaign_id AND v.version = c.version
			 WHERE a.account_id = $1 AND a.attempt_id = ANY ($2)
			   AND v.spec->>'lost' = 'redial' AND a.chance < (v.spec->>'max_attempts')::int AND a.try < 1023
			RETURNING campaign_id`, account, ints(ids), at)
		redialled, err := pgx.CollectRows(rows, pgx.RowTo[campaign.ID])
		if err != nil {
			return err
		}
		var w receiptRows
		for _, id := range ids {
			w.count(id.Campaign(), closed, 1)
			w.count(id.Campaign(), unknown, 1)
		}
		for _, id := range redialled {
			w.count(id, unknown, -1)
		}
		return w.write(ctx, tx, account, node, at)
	})
	if err != nil {
		return nil, fmt.Errorf("settle the lost attempts of account %d: %w", account, err)
	}
	return ids, nil
}

// Call is an accepted call.
type Call struct {
	Attempt    campaign.AttemptID
	CallID     string
	AnsweredAt time.Time // when the platform accepted it
}

// Overdue returns up to limit accepted calls without an outcome whose attempts were
// intended after from and not after to, the oldest first.
func (db *DB) Overdue(ctx context.Context, account campaign.AccountID, from, to time.Time, limit int) ([]Call, error) {
	rows, _ := db.pool.Query(ctx, `
		SELECT a.attempt_id, r.call_id, r.answered_at
		  FROM attempt a
		  JOIN response r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id AND r.class = 'accepted'
		 WHERE a.account_id = $1 AND a.intent_at > $2 AND a.intent_at <= $3
		   AND NOT EXISTS (SELECT FROM outcome o WHERE o.account_id = a.account_id AND o.attempt_id = a.attempt_id)
		 ORDER BY a.intent_at
		 LIMIT $4`, account, from, to, limit)
	calls, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Call])
	if err != nil {
		return nil, fmt.Errorf("overdue calls of account %d: %w", account, err)
	}
	return calls, nil
}

// Contradict looks for calls that the platform accepted or refused and that have an
// outcome, or a person's word, which cannot belong to them, among those since the given
// time. It is for the pairs that were written at the same moment, when neither
// transaction could see the other. It pauses their campaigns and returns how many
// attempts it found. There is nothing to count: what ends an attempt waits for its
// campaign's lock, and an accepted response ends none.
func (db *DB) Contradict(ctx context.Context, account campaign.AccountID, since, at time.Time) (int, error) {
	var n int
	err := db.pool.QueryRow(ctx, `
		WITH pair AS (
			SELECT o.attempt_id, CASE r.class WHEN 'accepted' THEN 'two_calls' ELSE 'refused_call' END AS kind,
			       'response ' || r.class || ' with CallId ' || coalesce(r.call_id, 'none') || ', receipt with CallId ' || o.call_id AS detail
			  FROM outcome o
			  JOIN response r ON r.account_id = o.account_id AND r.attempt_id = o.attempt_id
			 WHERE o.account_id = $1 AND o.recorded_at > $2 AND o.source <> 'person'
			   AND (r.class IN ('throttled', 'refused', 'unsent') OR (r.class = 'accepted' AND r.call_id <> o.call_id))
			UNION ALL
			SELECT s.attempt_id, 'settled_call', 'response accepted with CallId ' || r.call_id || ', settled as not_called by ' || s.person
			  FROM settlement s
			  JOIN response r ON r.account_id = s.account_id AND r.attempt_id = s.attempt_id AND r.class = 'accepted'
			 WHERE s.account_id = $1 AND s.settled_at > $2 AND s.verdict = 'not_called'
		), found AS (
			INSERT INTO incident (at, account_id, campaign_id, attempt_id, kind, detail)
			SELECT $3, $1, (p.attempt_id >> 41)::int, p.attempt_id, p.kind, p.detail
			  FROM pair p
			 WHERE NOT EXISTS (SELECT FROM incident i WHERE i.account_id = $1 AND i.attempt_id = p.attempt_id AND i.kind IN ('two_calls', 'refused_call', 'settled_call'))
			RETURNING campaign_id
		), paused AS (
			UPDATE campaign SET state = 'paused', reason = 'somebody may have been called twice: see the incidents', changed_at = $3
			 WHERE state = 'running' AND campaign_id IN (SELECT campaign_id FROM found)
		)
		SELECT count(*) FROM found`, account, since, at).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("look for contradictions of account %d: %w", account, err)
	}
	return n, nil
}

// Compact deletes the rows of batch and progress that newer ones have replaced.
func (db *DB) Compact(ctx context.Context, account campaign.AccountID) error {
	for _, sql := range []string{`
		DELETE FROM batch b
		 WHERE account_id = $1
		   AND EXISTS (SELECT FROM batch n WHERE n.account_id = $1 AND n.campaign_id = b.campaign_id AND n.seq > b.seq)`, `
		DELETE FROM progress p
		 WHERE account_id = $1
		   AND EXISTS (SELECT FROM progress n
		                WHERE n.account_id = $1 AND n.campaign_id = p.campaign_id AND n.label = p.label AND n.node_id = p.node_id AND n.seq > p.seq)`,
	} {
		if _, err := db.pool.Exec(ctx, sql, account); err != nil {
			return fmt.Errorf("compact the running totals of account %d: %w", account, err)
		}
	}
	return nil
}
