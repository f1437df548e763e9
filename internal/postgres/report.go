package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// Progress returns how far a campaign has come, from its running totals.
func (db *DB) Progress(ctx context.Context, id campaign.ID) (campaign.Progress, error) {
	rows, _ := db.pool.Query(ctx, `
		SELECT account, campaign, state, reason, imported, rejects, duplicates, pending, open, done, suppressed, cancelled, expired, unknown,
		       attempts, accepted, throttled, refused, unsent, doubtful, answered
		  FROM report.campaign
		 WHERE campaign_id = $1`, id)
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[campaign.Progress])
	if err != nil {
		return p, fmt.Errorf("progress: %w", notFound(err, "campaign %d", id))
	}
	return p, nil
}

// OutcomeCount is how many calls of a campaign had an outcome.
type OutcomeCount struct {
	Outcome campaign.Outcome
	Calls   int64
	Percent float64
}

// Outcomes returns the outcomes of a campaign, the most frequent first.
func (db *DB) Outcomes(ctx context.Context, id campaign.ID) ([]OutcomeCount, error) {
	rows, _ := db.pool.Query(ctx, `
		SELECT outcome, calls, percent
		  FROM report.outcome
		 WHERE campaign_id = $1 AND account_id = (SELECT account_id FROM campaign WHERE campaign_id = $1)
		 ORDER BY calls DESC, outcome`, id)
	counts, err := pgx.CollectRows(rows, pgx.RowToStructByName[OutcomeCount])
	if err != nil {
		return nil, fmt.Errorf("outcomes of campaign %d: %w", id, err)
	}
	return counts, nil
}

// Recount counts the contacts of a campaign by state from the ledger itself, row by
// row: what the running totals of Progress must agree with.
func (db *DB) Recount(ctx context.Context, id campaign.ID) (map[string]int64, error) {
	rows, _ := db.pool.Query(ctx, `
		SELECT state::text, count(*)
		  FROM report.contact
		 WHERE campaign_id = $1 AND account_id = (SELECT account_id FROM campaign WHERE campaign_id = $1)
		 GROUP BY state`, id)
	counts := make(map[string]int64)
	var state string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&state, &n}, func() error { counts[state] = n; return nil }); err != nil {
		return nil, fmt.Errorf("recount campaign %d: %w", id, err)
	}
	return counts, nil
}

// WorstSecond returns the most requests that an account has sent within any second,
// by the node's own send times.
func (db *DB) WorstSecond(ctx context.Context, account campaign.AccountID) (int, error) {
	var worst int
	err := db.pool.QueryRow(ctx, `
		SELECT coalesce(max(n), 0)
		  FROM (SELECT count(*) OVER (ORDER BY sent_at RANGE BETWEEN interval '999.999 milliseconds' PRECEDING AND CURRENT ROW) AS n
		          FROM response
		         WHERE account_id = $1 AND sent_at IS NOT NULL) s`, account).Scan(&worst)
	if err != nil {
		return 0, fmt.Errorf("worst second of account %d: %w", account, err)
	}
	return worst, nil
}

// Incidents returns how many incidents of an account there are that a person should
// look at.
func (db *DB) Incidents(ctx context.Context, account campaign.AccountID) (int, error) {
	var n int
	err := db.pool.QueryRow(ctx, `SELECT count(*) FROM incident WHERE account_id = $1`, account).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("incidents of account %d: %w", account, err)
	}
	return n, nil
}

// Ask runs a query of a person in a read-only transaction. header is called once with
// the columns' names, row for every row; numerics come as text.
func (db *DB) Ask(ctx context.Context, query string, header func([]string), row func([]any)) error {
	return pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// The settings of the program's own statements are not for people's.
		if _, err := tx.Exec(ctx, `SET LOCAL enable_seqscan = on; SET LOCAL plan_cache_mode = auto`, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, query, pgx.QueryExecModeExec, pgx.QueryResultFormats{pgx.TextFormatCode})
		if err != nil {
			return err
		}
		defer rows.Close()
		names := make([]string, len(rows.FieldDescriptions()))
		for i, f := range rows.FieldDescriptions() {
			names[i] = f.Name
		}
		header(names)
		for rows.Next() {
			values := make([]any, len(names))
			for i, raw := range rows.RawValues() {
				if raw != nil {
					values[i] = string(raw)
				}
			}
			row(values)
		}
		return rows.Err()
	})
}
