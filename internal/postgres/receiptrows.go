package postgres

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// receiptRows collects what a transaction of receipts writes, by table.
type receiptRows struct {
	attempts  []campaign.AttemptID // that have an outcome now
	receipts  [][]any
	outcomes  [][]any
	dues      [][]any
	strangers [][]any
	incidents [][]any
	forgotten []campaign.AttemptID // that the platform reports and the database does not have
	stop      []int64              // campaigns in which somebody may have been called twice
	counts    map[countKey]int64
}

type countKey struct {
	campaign campaign.ID
	label    string
}

// Labels of running totals: attempts that are over, and contacts that wait for a
// person. Everybody counts these by what the ledger said before, in a transaction that
// locked the campaign: see lockCampaigns.
const (
	closed  = "closed"
	unknown = "unknown"
)

func (w *receiptRows) count(c campaign.ID, label string, n int64) {
	if w.counts == nil {
		w.counts = make(map[countKey]int64)
	}
	w.counts[countKey{c, label}] += n
}

func (w *receiptRows) strange(r campaign.Receipt, why string) {
	w.strangers = append(w.strangers, []any{text(why), r.Raw})
}

// incident notes a contradiction. Unless it is only about the outcome, the campaign
// stops: somebody may have been called twice.
func (w *receiptRows) incident(id campaign.AttemptID, kind, detail string) {
	w.incidents = append(w.incidents, []any{int32(id.Campaign()), int64(id), kind, text(detail)})
	if kind != "two_outcomes" {
		w.stop = append(w.stop, int64(id.Campaign()))
	}
}

func (w *receiptRows) keep(r campaign.Receipt) {
	w.receipts = append(w.receipts, []any{int64(r.Attempt), r.Key[:], text(r.Kind), r.Final, storable(r.Raw)})
}

// storable makes a JSON text one that jsonb accepts: it has no place for NUL.
func storable(raw []byte) string {
	return strings.ReplaceAll(text(string(raw)), `\u0000`, `\ufffd`)
}

func (w *receiptRows) end(r campaign.Receipt, source string) {
	w.attempts = append(w.attempts, r.Attempt)
	w.outcomes = append(w.outcomes, []any{int64(r.Attempt), string(r.Outcome), text(r.CallID), text(r.StatusCode), text(r.StatusMsg), text(r.SmartStatusCode),
		text(r.EarlyMediaCode), text(r.Hangup), int32(max(r.TalkSeconds, 0)), null(r.RangAt), null(r.AnsweredAt), null(r.EndedAt), source})
	w.count(r.Attempt.Campaign(), "outcome:"+string(r.Outcome), 1)
}

// again makes the contact pending again if its campaign's rules say so. The delay
// counts from the end of the call, so that a late receipt does not delay it further.
func (w *receiptRows) again(r campaign.Receipt, chance int, p policy, at time.Time) {
	delay, ok := p.spec.Retry.Delay(r.Outcome, chance)
	if !ok || !p.active || chance >= p.spec.MaxAttempts || r.Attempt.Try() >= campaign.MaxTries {
		return
	}
	from := at
	if !r.EndedAt.IsZero() && r.EndedAt.Before(at) {
		from = r.EndedAt
	}
	w.dues = append(w.dues, []any{int32(r.Attempt.Campaign()), r.Attempt.Contact(), int16(r.Attempt.Try() + 1), int16(chance + 1), from.Add(delay)})
}

// write inserts everything in one round trip.
func (w *receiptRows) write(ctx context.Context, tx pgx.Tx, account campaign.AccountID, node campaign.NodeID, at time.Time) error {
	b := new(pgx.Batch)
	add := func(sql string, rows [][]any, more ...any) {
		if len(rows) > 0 {
			b.Queue(sql, append(append([]any{account}, more...), columns(rows)...)...)
		}
	}
	add(`INSERT INTO receipt (account_id, attempt_id, key, received_at, kind, final, raw)
	     SELECT $1, attempt_id, key, $2, kind, final, raw::jsonb
	       FROM unnest($3::bigint[], $4::bytea[], $5::text[], $6::boolean[], $7::text[]) r (attempt_id, key, kind, final, raw)
	     ON CONFLICT DO NOTHING`, w.receipts, at)
	add(`INSERT INTO outcome (account_id, recorded_at, attempt_id, outcome, call_id, status_code, status_msg, smart_status_code, early_media_code, hangup,
	                          talk_s, rang_at, answered_at, ended_at, source)
	     SELECT $1, $2, o.*
	       FROM unnest($3::bigint[], $4::call_outcome[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
	                   $11::int[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[], $15::evidence[]) o`, w.outcomes, at)
	add(`INSERT INTO due (account_id, reason, campaign_id, n, try, chance, due_at)
	     SELECT $1, 'retry', d.* FROM unnest($2::int[], $3::int[], $4::smallint[], $5::smallint[], $6::timestamptz[]) d
	     ON CONFLICT DO NOTHING`, w.dues)
	add(`INSERT INTO stranger (account_id, received_at, reason, raw)
	     SELECT $1, $2, s.* FROM unnest($3::text[], $4::bytea[]) s`, w.strangers, at)
	add(`INSERT INTO incident (account_id, at, campaign_id, attempt_id, kind, detail)
	     SELECT DISTINCT ON (i.attempt_id, i.kind) $1::int, $2::timestamptz, i.* FROM unnest($3::int[], $4::bigint[], $5::text[], $6::text[]) i (campaign_id, attempt_id, kind, detail)
	      WHERE NOT EXISTS (SELECT FROM incident e WHERE e.account_id = $1 AND e.attempt_id = i.attempt_id AND e.kind = i.kind)`, w.incidents, at)
	if len(w.stop) > 0 {
		b.Queue(`UPDATE campaign SET state = 'paused', reason = 'somebody may have been called twice: see the incidents', changed_at = $2
		          WHERE campaign_id = ANY ($1::int[]) AND state = 'running'`, w.stop, at)
	}
	if len(w.forgotten) > 0 {
		// Whom else it has forgotten nobody knows: the account waits for a person.
		b.Queue(`
			WITH paused AS (
				UPDATE account SET state = 'paused', changed_at = $2,
				       reason = 'the database has forgotten attempts that the platform reports: it was restored, or failed over with a loss; see ''dialer recover'''
				 WHERE account_id = $1 AND state = 'active'
				RETURNING account_id, reason
			)
			INSERT INTO incident (at, account_id, kind, detail)
			SELECT $2, account_id, 'account_paused', reason FROM paused`, account, at)
	}
	queueCounts(b, account, node, w.counts)
	if b.Len() == 0 {
		return nil
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// queueCounts adds to the running totals of a node, in a transaction that locked the
// campaigns: nobody else counts a label of theirs for this node at the same time.
func queueCounts(b *pgx.Batch, account campaign.AccountID, node campaign.NodeID, counts map[countKey]int64) {
	if len(counts) == 0 {
		return
	}
	var rows [][]any
	for k, n := range counts {
		rows = append(rows, []any{int32(k.campaign), k.label, n})
	}
	b.Queue(`INSERT INTO progress (account_id, campaign_id, label, node_id, seq, total)
	         SELECT $1, k.campaign_id, k.label, $2, coalesce(p.seq, 0) + 1, coalesce(p.total, 0) + k.n
	           FROM unnest($3::int[], $4::text[], $5::bigint[]) k (campaign_id, label, n)
	           LEFT JOIN LATERAL (
	                SELECT seq, total FROM progress
	                 WHERE account_id = $1 AND campaign_id = k.campaign_id AND label = k.label AND node_id = $2
	                 ORDER BY seq DESC LIMIT 1) p ON true`, append([]any{account, node}, columns(rows)...)...)
}

// columns turns rows of equal shape into one typed slice per column, as unnest takes
// them.
func columns(rows [][]any) []any {
	out := make([]any, len(rows[0]))
	for c := range rows[0] {
		column := reflect.MakeSlice(reflect.SliceOf(reflect.TypeOf(rows[0][c])), len(rows), len(rows))
		for i, row := range rows {
			column.Index(i).Set(reflect.ValueOf(row[c]))
		}
		out[c] = column.Interface()
	}
	return out
}
