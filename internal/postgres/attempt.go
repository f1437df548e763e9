package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// writeIntents is the one statement that decides whether somebody is called. It is
// a transaction of its own: either the fence let it through, and every contact of
// the batch has become an attempt, a skip or a due row and the cursor has moved, or
// nothing has happened.
//
// fence: the rows are locked, so a pause, a take-over of the account or a cancelled
// campaign waits for the intents before it, and no intent comes after it. The server
// must be the one on which the account's batches were found (campaign.Trust). The last
// batch must be the one the node wrote last: the statement reads its snapshot before
// it waits for the locks, so it is this check and the key of batch that make intents
// of an account strictly one after the other, which the caps below rely on. Fresh
// contacts must begin right behind the campaign's cursor: one before it has had its
// attempt, and one that is skipped would be forgotten.
//
// perhaps: whether the number can be held at all, by what two indexes say. It counts
// attempts that calls leaves out, and takes for open whatever has no outcome, so it is
// true of every number that is held; of nearly all others it is false, and the costly
// look at calls is left out.
//
// calls: the attempts to the number in the last 30 days that count, over all
// campaigns of the account, newest first. The k-th newest must be older than the
// period of the cap k; an attempt that is not final holds the number altogether.
const writeIntents = `
WITH fence AS MATERIALIZED (
	SELECT true AS ok
	  FROM lease l
	  JOIN account a ON a.account_id = l.account_id
	  JOIN campaign c ON c.account_id = l.account_id
	 WHERE l.account_id = @account AND l.term = @term AND l.node_id = @node
	   AND l.server = server_now()
	   AND a.state = 'active'
	   AND c.campaign_id = @campaign AND c.state = 'running'
	   AND clock_timestamp() >= @opens AND clock_timestamp() < @closes
	   AND abs(extract(epoch FROM clock_timestamp() - @at)) <= @skew
	   AND (SELECT coalesce(max(seq), 0) FROM batch WHERE account_id = @account) = @seq::bigint - 1
	   AND ((@fresh_n::int[])[1] IS NULL OR (@fresh_n::int[])[1] = 1 + coalesce((
	        SELECT upto_n FROM batch WHERE account_id = @account AND campaign_id = @campaign ORDER BY seq DESC LIMIT 1), 0))
	   FOR SHARE OF l, a, c
), taken AS (
	DELETE FROM due d USING fence
	 WHERE d.account_id = @account AND d.campaign_id = @campaign AND d.n = ANY (@due_n::int[]) AND d.due_at <= @at
	RETURNING d.n, d.try, d.chance, d.reason
), item AS MATERIALIZED (
	SELECT u.n, u.phone, 1::smallint AS try, 1::smallint AS chance, NULL::due_reason AS reason
	  FROM fence, unnest(@fresh_n::int[], @fresh_phone::bigint[]) u (n, phone)
	UNION ALL
	SELECT t.n, u.phone, t.try, t.chance, t.reason
	  FROM taken t
	  JOIN unnest(@due_n::int[], @due_phone::bigint[]) u (n, phone) ON u.n = t.n
), looked AS MATERIALIZED (
	SELECT i.*, s.phone IS NOT NULL AS suppressed, q.perhaps
	  FROM item i
	  LEFT JOIN LATERAL (
	       SELECT s.phone FROM suppression s
	        WHERE s.phone = i.phone AND (s.until IS NULL OR s.until > @at)
	        LIMIT 1) s ON true
	 CROSS JOIN LATERAL (
	       SELECT count(*) FILTER (WHERE intent_at > @at - interval '60 seconds') >= @per_minute
	              OR count(*) FILTER (WHERE intent_at > @at - interval '24 hours') >= @per_day
	              OR count(*) >= @per_30_days
	              OR count(*) FILTER (WHERE NOT EXISTS (SELECT FROM outcome o WHERE o.account_id = @account AND o.attempt_id = t.attempt_id)) > 0 AS perhaps
	         FROM (SELECT t.attempt_id, t.intent_at FROM attempt t
	                WHERE t.account_id = @account AND t.phone = i.phone AND t.intent_at > @at - interval '30 days'
	                -- For the planner: no other index has this order, and in a ledger that was empty all look equal.
	                ORDER BY t.intent_at) t) q
), judged AS MATERIALIZED (
	SELECT n, phone, try, chance, reason, suppressed, NULL::timestamptz AS held_until, false AS is_open
	  FROM looked
	 WHERE suppressed OR NOT perhaps
	UNION ALL
	SELECT n, phone, try, chance, reason, suppressed,
	       nullif(greatest(h.until, h.open, '-infinity'), '-infinity'), h.open IS NOT NULL
	  FROM looked i
	 CROSS JOIN LATERAL (
	       SELECT greatest(max(intent_at) FILTER (WHERE k = @per_minute  AND intent_at > @at - interval '60 seconds') + interval '60 seconds',
	                       max(intent_at) FILTER (WHERE k = @per_day     AND intent_at > @at - interval '24 hours')   + interval '24 hours',
	                       max(intent_at) FILTER (WHERE k = @per_30_days)                                             + interval '30 days') AS until,
	              max(CASE WHEN is_open THEN @at + interval '60 seconds' END) AS open
	         FROM (SELECT t.intent_at,
	                      row_number() OVER (ORDER BY t.intent_at DESC) AS k,
	                      r.class IS DISTINCT FROM 'refused'
	                      AND NOT EXISTS (SELECT FROM outcome o WHERE o.account_id = @account AND o.attempt_id = t.attempt_id)
	                      AND NOT EXISTS (SELECT FROM lost l WHERE l.account_id = @account AND l.attempt_id = t.attempt_id) AS is_open
	                 FROM attempt t
	                 LEFT JOIN response r ON r.account_id = t.account_id AND r.attempt_id = t.attempt_id
	                WHERE t.account_id = @account AND t.phone = i.phone AND t.intent_at > @at - interval '30 days'
	                  AND r.counts IS NOT FALSE
	                  -- A person said that no call was made, and no outcome says otherwise.
	                  AND NOT EXISTS (SELECT FROM settlement s
	                                   WHERE s.account_id = @account AND s.attempt_id = t.attempt_id AND s.verdict = 'not_called'
	                                     AND NOT EXISTS (SELECT FROM outcome o WHERE o.account_id = @account AND o.attempt_id = t.attempt_id))) calls) h
	 WHERE NOT suppressed AND perhaps
), made AS (
	INSERT INTO attempt (account_id, attempt_id, phone, intent_at, send_by, campaign_id, n, node_id, try, chance, caller_id)
	SELECT @account, (@campaign::bigint << 41) | (n::bigint << 10) | try, phone, @at, @send_by, @campaign, n, @node, try, chance, @caller_id
	  FROM judged
	 WHERE NOT suppressed AND held_until IS NULL
	RETURNING n, attempt_id
), skipped AS (
	INSERT INTO skip (account_id, campaign_id, n, reason, at)
	SELECT @account, @campaign, n, 'suppressed', @at FROM judged WHERE suppressed
), held AS (
	INSERT INTO due (account_id, campaign_id, n, try, chance, due_at, reason)
	SELECT @account, @campaign, n, try, chance, held_until,
	       -- These two let the contact wait although its last attempt has no end of its own.
	       CASE WHEN reason IN ('lost', 'settled') THEN reason::text WHEN is_open THEN 'open' ELSE 'cap' END::due_reason
	  FROM judged
	 WHERE NOT suppressed AND held_until IS NOT NULL
), moved AS (
	INSERT INTO batch (account_id, seq, campaign_id, node_id, term, at, upto_n, intents, suppressed)
	SELECT @account, @seq, @campaign, @node, @term, @at,
	       greatest(coalesce(b.upto_n, 0), (SELECT max(n) FROM unnest(@fresh_n::int[]) n)),
	       coalesce(b.intents, 0) + (SELECT count(*) FROM judged WHERE NOT suppressed AND held_until IS NULL),
	       coalesce(b.suppressed, 0) + (SELECT count(*) FROM judged WHERE suppressed)
	  FROM fence
	  LEFT JOIN LATERAL (
	       SELECT upto_n, intents, suppressed FROM batch
	        WHERE account_id = @account AND campaign_id = @campaign
	        ORDER BY seq DESC LIMIT 1) b ON true
	RETURNING seq
)
SELECT j.n, coalesce(m.attempt_id, 0), j.suppressed, j.held_until
  FROM moved
 CROSS JOIN judged j
  LEFT JOIN made m ON m.n = j.n`

// WriteIntents turns pending contacts of one campaign into attempts, in one
// transaction that checks everything that may forbid a call, and returns a verdict
// for each contact in the batch, in its order. An error of the campaign package
// (ErrLeaseLost, ErrNotRunning, ...) says which check refused the whole batch;
// nothing was written then. After any other error it is not known whether the batch
// was written: ask Intended, and send nothing before the answer.
func (db *DB) WriteIntents(ctx context.Context, b *campaign.IntentBatch) ([]campaign.Verdict, error) {
	var freshN, dueN []int32
	var freshPhone, duePhone []int64
	at := make(map[int32]int, len(b.Contacts))
	for i, c := range b.Contacts {
		at[c.N] = i
		if c.Due {
			dueN, duePhone = append(dueN, c.N), append(duePhone, int64(c.Phone))
		} else {
			freshN, freshPhone = append(freshN, c.N), append(freshPhone, int64(c.Phone))
		}
	}
	rows, err := db.pool.Query(ctx, writeIntents, pgx.StrictNamedArgs{
		"account": b.Lease.Account, "term": b.Lease.Term, "node": b.Lease.Node,
		"campaign": b.Campaign, "seq": b.Seq, "caller_id": b.CallerID,
		"at": b.At.Truncate(time.Microsecond), "send_by": b.SendBy.Truncate(time.Microsecond),
		"opens": b.Window.Start, "closes": b.Window.End, "skew": b.MaxSkew.Seconds(),
		"fresh_n": freshN, "fresh_phone": freshPhone, "due_n": dueN, "due_phone": duePhone,
		"per_minute": b.Caps.PerMinute, "per_day": b.Caps.PerDay, "per_30_days": b.Caps.Per30Days,
	})
	if err != nil {
		return nil, fmt.Errorf("write intents: %w", err)
	}
	verdicts := make([]campaign.Verdict, len(b.Contacts))
	got := 0
	var n int32
	var v campaign.Verdict
	var held *time.Time
	_, err = pgx.ForEachRow(rows, []any{&n, &v.Attempt, &v.Suppressed, &held}, func() error {
		v.HeldUntil = time.Time{}
		if held != nil {
			v.HeldUntil = *held
		}
		verdicts[at[n]] = v
		got++
		return nil
	})
	switch {
	case violated(err) == "batch_pkey":
		return nil, campaign.ErrOutOfOrder
	case violated(err) == "attempt_pkey", violated(err) == "skip_pkey", violated(err) == "due_pkey":
		return nil, campaign.ErrStale
	case err != nil:
		return nil, fmt.Errorf("write intents: %w", err)
	case got == 0:
		return nil, db.refusal(ctx, b)
	}
	return verdicts, nil
}

// refusal says which check of the fence held the batch back. It looks a moment
// later, so it may find nothing wrong any more.
func (db *DB) refusal(ctx context.Context, b *campaign.IntentBatch) error {
	var holds, same, active, running, open, agrees, inOrder, behind bool
	var first int32
	for _, c := range b.Contacts {
		if !c.Due {
			first = c.N
			break
		}
	}
	err := db.pool.QueryRow(ctx, `
		SELECT l.term = @term AND l.node_id IS NOT DISTINCT FROM @node,
		       l.server = server_now(),
		       a.state = 'active',
		       c.state = 'running',
		       clock_timestamp() >= @opens AND clock_timestamp() < @closes,
		       abs(extract(epoch FROM clock_timestamp() - @now)) <= @skew,
		       (SELECT coalesce(max(seq), 0) FROM batch WHERE account_id = @account) = @seq::bigint - 1,
		       @first::int = 0 OR @first = 1 + coalesce((
		        SELECT upto_n FROM batch WHERE account_id = @account AND campaign_id = @campaign ORDER BY seq DESC LIMIT 1), 0)
		  FROM lease l
		  JOIN account a ON a.account_id = l.account_id
		  JOIN campaign c ON c.account_id = l.account_id AND c.campaign_id = @campaign
		 WHERE l.account_id = @account`,
		pgx.StrictNamedArgs{
			"account": b.Lease.Account, "term": b.Lease.Term, "node": b.Lease.Node, "campaign": b.Campaign, "seq": b.Seq,
			"opens": b.Window.Start, "closes": b.Window.End, "now": time.Now(), "skew": b.MaxSkew.Seconds(),
			"first": first,
		}).Scan(&holds, &same, &active, &running, &open, &agrees, &inOrder, &behind)
	switch {
	case err != nil:
		return fmt.Errorf("write intents: refused, and asking why: %w", err)
	case !same:
		return campaign.ErrServerChanged
	case !holds:
		return campaign.ErrLeaseLost
	case !inOrder:
		return campaign.ErrOutOfOrder
	case !behind:
		return campaign.ErrStale
	case !active:
		return campaign.ErrAccountPaused
	case !running:
		return campaign.ErrNotRunning
	case !agrees:
		return campaign.ErrClockSkew
	case !open:
		return campaign.ErrWindowClosed
	}
	return campaign.ErrNotRunning // it was, a moment ago
}

// takeNumber writes an empty batch: number @seq of the account, under a campaign whose
// running totals it repeats.
const takeNumber = `
	INSERT INTO batch (account_id, seq, campaign_id, node_id, term, at, upto_n, intents, suppressed, empty)
	SELECT @account, @seq, @campaign, @node, @term, @at, coalesce(b.upto_n, 0), coalesce(b.intents, 0), coalesce(b.suppressed, 0), true
	  FROM lease l
	  LEFT JOIN LATERAL (
	       SELECT upto_n, intents, suppressed FROM batch
	        WHERE account_id = @account AND campaign_id = @campaign
	        ORDER BY seq DESC LIMIT 1) b ON true
	 WHERE l.account_id = @account`

// Intended tells whether the batch was written and, if so, its verdicts, after
// WriteIntents could not tell. If it was not, it never will be: the statement may still
// be on its way or running, so its number is taken by an empty batch, and whichever of
// the two comes second is refused by the key. An error of the campaign package says that
// neither is so, and why nobody will write the batch here any more.
func (db *DB) Intended(ctx context.Context, b *campaign.IntentBatch) ([]campaign.Verdict, bool, error) {
	_, err := db.pool.Exec(ctx, takeNumber+`
		   AND l.term = @term AND l.node_id = @node AND l.server = server_now()
		   AND (SELECT coalesce(max(seq), 0) FROM batch WHERE account_id = @account) = @seq::bigint - 1
		ON CONFLICT DO NOTHING`, pgx.StrictNamedArgs{
		"account": b.Lease.Account, "term": b.Lease.Term, "node": b.Lease.Node,
		"campaign": b.Campaign, "seq": b.Seq, "at": b.At.Truncate(time.Microsecond),
	})
	if err != nil {
		return nil, false, fmt.Errorf("ask whether intents were written: %w", err)
	}
	// A statement of its own: it must see what the one before waited for.
	var empty bool
	err = db.pool.QueryRow(ctx, `SELECT empty FROM batch WHERE account_id = $1 AND seq = $2 AND node_id = $3 AND term = $4 AND at = $5`,
		b.Lease.Account, b.Seq, b.Lease.Node, b.Lease.Term, b.At.Truncate(time.Microsecond)).Scan(&empty)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, false, db.refusal(ctx, b)
	case err != nil:
		return nil, false, fmt.Errorf("ask whether intents were written: %w", err)
	case empty:
		return nil, false, nil
	}
	ids := make([]int64, len(b.Contacts))
	for i, c := range b.Contacts {
		ids[i] = int64(campaign.NewAttemptID(b.Campaign, c.N, c.Try))
	}
	rows, _ := db.pool.Query(ctx, `
		SELECT attempt_id FROM attempt
		 WHERE account_id = $1 AND attempt_id = ANY ($2) AND node_id = $3 AND intent_at = $4`,
		b.Lease.Account, ids, b.Lease.Node, b.At.Truncate(time.Microsecond))
	made, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, false, err
	}
	verdicts := make([]campaign.Verdict, len(ids))
	for i, id := range ids {
		for _, m := range made {
			if m == id {
				verdicts[i].Attempt = campaign.AttemptID(id)
			}
		}
	}
	return verdicts, true, nil
}

// OpenLines returns how many calls each caller ID of the account may be carrying:
// attempts since the given time that are not final.
func (db *DB) OpenLines(ctx context.Context, account campaign.AccountID, since time.Time) (map[campaign.AttemptID]string, error) {
	rows, _ := db.pool.Query(ctx, `
		SELECT a.attempt_id, a.caller_id
		  FROM attempt a
		  LEFT JOIN response r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id
		 WHERE a.account_id = $1 AND a.intent_at > $2
		   AND (r.class IS NULL OR r.class IN ('accepted', 'unknown'))
		   AND NOT EXISTS (SELECT FROM outcome o WHERE o.account_id = a.account_id AND o.attempt_id = a.attempt_id)
		   AND NOT EXISTS (SELECT FROM lost l WHERE l.account_id = a.account_id AND l.attempt_id = a.attempt_id)
		   AND NOT EXISTS (SELECT FROM settlement s WHERE s.account_id = a.account_id AND s.attempt_id = a.attempt_id)`, account, since)
	open := make(map[campaign.AttemptID]string)
	var id campaign.AttemptID
	var caller string
	_, err := pgx.ForEachRow(rows, []any{&id, &caller}, func() error {
		open[id] = caller
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open lines of account %d: %w", account, err)
	}
	return open, nil
}

// Settled returns those of the attempts that have an outcome, are lost, or were
// settled by a person.
func (db *DB) Settled(ctx context.Context, account campaign.AccountID, attempts []campaign.AttemptID) ([]campaign.AttemptID, error) {
	rows, _ := db.pool.Query(ctx, `
		SELECT id FROM unnest($2::bigint[]) id
		 WHERE EXISTS (SELECT FROM outcome o WHERE o.account_id = $1 AND o.attempt_id = id)
		    OR EXISTS (SELECT FROM lost l WHERE l.account_id = $1 AND l.attempt_id = id)
		    OR EXISTS (SELECT FROM settlement s WHERE s.account_id = $1 AND s.attempt_id = id)`, account, ints(attempts))
	ids, err := pgx.CollectRows(rows, pgx.RowTo[campaign.AttemptID])
	if err != nil {
		return nil, fmt.Errorf("settled attempts of account %d: %w", account, err)
	}
	return ids, nil
}

func ints(ids []campaign.AttemptID) []int64 {
	out := make([]int64, len(ids))
	for i, id := range ids {
		out[i] = int64(id)
	}
	return out
}
