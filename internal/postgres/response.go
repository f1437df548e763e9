package postgres

import (
	"context"
	"fmt"
	"time"

	"dialer/internal/campaign"
)

// writeResponses records what came of requests. It may be repeated: a response
// that is there already is left alone and counts nothing twice. A contact is pending
// again only if its response is a definite no, which the trigger on due checks too.
// A receipt may have come before the response; if the two cannot both be true, the
// campaign is paused and an incident is written.
const writeResponses = `
WITH r AS MATERIALIZED (
	SELECT attempt_id, class::response_class, counts, sent_at, answered_at, code, message, call_id, request_id, again_at, again_reason::due_reason, again_chance,
	       (attempt_id >> 41)::int AS campaign_id, ((attempt_id >> 10) & 2147483647)::int AS n
	  FROM unnest($3::bigint[], $4::text[], $5::boolean[], $6::timestamptz[], $7::timestamptz[], $8::text[], $9::text[], $10::text[], $11::text[],
	              $12::timestamptz[], $13::text[], $14::smallint[])
	       r (attempt_id, class, counts, sent_at, answered_at, code, message, call_id, request_id, again_at, again_reason, again_chance)
), ins AS (
	INSERT INTO response (account_id, attempt_id, class, counts, sent_at, answered_at, code, message, call_id, request_id)
	SELECT $1, attempt_id, class, counts, sent_at, answered_at, code, message, call_id, request_id FROM r
	ON CONFLICT DO NOTHING
	RETURNING attempt_id, class
), contradiction AS MATERIALIZED (
	SELECT r.campaign_id, r.attempt_id,
	       CASE r.class WHEN 'accepted' THEN 'two_calls' ELSE 'refused_call' END AS kind,
	       'response ' || r.class || ' with CallId ' || coalesce(r.call_id, 'none') || ', receipt with CallId ' || o.call_id AS detail
	  FROM r
	  JOIN ins USING (attempt_id)
	  JOIN outcome o ON o.account_id = $1 AND o.attempt_id = r.attempt_id
	 WHERE r.class IN ('throttled', 'refused', 'unsent') OR (r.class = 'accepted' AND o.call_id <> r.call_id)
), told AS (
	INSERT INTO incident (at, account_id, campaign_id, attempt_id, kind, detail)
	SELECT $15, $1, campaign_id, attempt_id, kind, detail FROM contradiction
), paused AS (
	UPDATE campaign SET state = 'paused', reason = 'a receipt contradicts a response: see the incidents', changed_at = $15
	 WHERE state = 'running' AND campaign_id IN (SELECT campaign_id FROM contradiction)
), again AS (
	INSERT INTO due (account_id, campaign_id, n, try, chance, due_at, reason)
	SELECT $1, campaign_id, n, (attempt_id & 1023) + 1, again_chance, again_at, again_reason
	  FROM r
	  JOIN ins USING (attempt_id)
	 WHERE again_at IS NOT NULL AND attempt_id NOT IN (SELECT attempt_id FROM contradiction)
	ON CONFLICT DO NOTHING
)
INSERT INTO progress (account_id, campaign_id, label, node_id, seq, total)
SELECT $1, k.campaign_id, k.label, $2, coalesce(p.seq, 0) + 1, coalesce(p.total, 0) + k.n
  FROM (SELECT (attempt_id >> 41)::int AS campaign_id, 'response:' || class AS label, count(*) AS n FROM ins GROUP BY 1, 2
        UNION ALL
        SELECT campaign_id, 'contradiction:response', count(*) FROM contradiction WHERE kind = 'refused_call' GROUP BY 1
        UNION ALL
        SELECT (attempt_id >> 41)::int,
               CASE WHEN EXISTS (SELECT FROM attempt n WHERE n.account_id = $1 AND n.attempt_id = l.attempt_id + 1)
                      OR EXISTS (SELECT FROM due d WHERE d.account_id = $1 AND d.campaign_id = (l.attempt_id >> 41)::int AND d.n = ((l.attempt_id >> 10) & 2147483647)::int)
                    THEN 'lost:redialled:response' ELSE 'lost:settled:response' END, count(*)
          FROM ins
          JOIN lost l USING (attempt_id)
         WHERE l.account_id = $1 AND class IN ('throttled', 'refused', 'unsent')
         GROUP BY 1, 2) k
  LEFT JOIN LATERAL (
       SELECT seq, total FROM progress
        WHERE account_id = $1 AND campaign_id = k.campaign_id AND label = k.label AND node_id = $2
        ORDER BY seq DESC LIMIT 1) p ON true`

// WriteResponses records what came of the requests of attempts of one account, in
// one transaction. It is idempotent: after an error it is to be repeated until it
// succeeds. Only one goroutine of a node may call it at a time for an account.
func (db *DB) WriteResponses(ctx context.Context, account campaign.AccountID, node campaign.NodeID, responses []campaign.Response, at time.Time) error {
	n := len(responses)
	var (
		attempt                           = make([]int64, n)
		class, code                       = make([]string, n), make([]string, n)
		counts                            = make([]bool, n)
		sent, answered, againAt           = make([]*time.Time, n), make([]time.Time, n), make([]*time.Time, n)
		message, callID, requestID, again = make([]*string, n), make([]*string, n), make([]*string, n), make([]*string, n)
		chance                            = make([]*int16, n)
	)
	for i, r := range responses {
		attempt[i], class[i], code[i], counts[i] = int64(r.Attempt), string(r.State), text(r.Code), r.Counts
		sent[i], answered[i] = null(r.SentAt), r.AnsweredAt
		message[i], callID[i], requestID[i] = nullText(text(r.Message)), nullText(text(r.CallID)), nullText(text(r.RequestID))
		if !r.Again.At.IsZero() {
			againAt[i], again[i], chance[i] = null(r.Again.At), new(string(r.Again.Reason)), new(int16(r.Again.Chance))
		}
	}
	_, err := db.pool.Exec(ctx, writeResponses, account, node,
		attempt, class, counts, sent, answered, code, message, callID, requestID, againAt, again, chance, at)
	if err != nil {
		return fmt.Errorf("write %d responses: %w", n, err)
	}
	return nil
}
