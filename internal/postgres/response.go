package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// writeResponses records what came of requests. It may be repeated: a response
// that is there already is left alone and counts nothing twice. A contact is pending
// again only if its response is a definite no, which the trigger on due checks too.
//
// found: the new ones, and what the ledger said of their attempts before, looked up by key
// as in ins. A receipt or a person may have come first; if the two cannot both be true,
// the campaign is paused and an incident is written. Or the attempt was lost, and its
// contact may have gone on.
const writeResponses = `
WITH r AS MATERIALIZED (
	SELECT DISTINCT ON (attempt_id) attempt_id, class::response_class, counts, sent_at, answered_at, code, message, call_id, request_id, again_at, again_reason::due_reason, again_chance,
	       (attempt_id >> 41)::int AS campaign_id, ((attempt_id >> 10) & 2147483647)::int AS n
	  FROM unnest($3::bigint[], $4::text[], $5::boolean[], $6::timestamptz[], $7::timestamptz[], $8::text[], $9::text[], $10::text[], $11::text[],
	              $12::timestamptz[], $13::text[], $14::smallint[]) WITH ORDINALITY
	       r (attempt_id, class, counts, sent_at, answered_at, code, message, call_id, request_id, again_at, again_reason, again_chance, place)
	 ORDER BY attempt_id, place
), ins AS (
	INSERT INTO response (account_id, attempt_id, class, counts, sent_at, answered_at, code, message, call_id, request_id)
	SELECT $1, attempt_id, class, counts, sent_at, answered_at, code, message, call_id, request_id FROM r
	 -- A database that was restored may have forgotten the attempt: see campaign.Trust. Each
	 -- is looked up by its key: a plan made while the ledger was small would rather read all
	 -- attempts of the account for every batch, and go on doing so while it grows.
	 CROSS JOIN LATERAL (SELECT FROM attempt a WHERE a.account_id = $1 AND a.attempt_id = r.attempt_id LIMIT 1) known
	ON CONFLICT DO NOTHING
	RETURNING attempt_id, class
), found AS MATERIALIZED (
	SELECT r.attempt_id, r.campaign_id, r.n, r.class, r.call_id, r.again_at, r.again_reason, r.again_chance,
	       r.class IN ('throttled', 'refused', 'unsent') AS no,
	       o.outcome, o.source, o.call_id AS ended, s.verdict, s.person, l.attempt_id IS NOT NULL AS lost,
	       CASE WHEN l.attempt_id IS NOT NULL THEN gone_on($1, r.attempt_id) ELSE false END AS gone_on
	  FROM r
	  JOIN ins USING (attempt_id)
	  LEFT JOIN LATERAL (SELECT * FROM outcome    o WHERE o.account_id = $1 AND o.attempt_id = r.attempt_id LIMIT 1) o ON true
	  LEFT JOIN LATERAL (SELECT * FROM settlement s WHERE s.account_id = $1 AND s.attempt_id = r.attempt_id LIMIT 1) s ON true
	  LEFT JOIN LATERAL (SELECT * FROM lost       l WHERE l.account_id = $1 AND l.attempt_id = r.attempt_id LIMIT 1) l ON true
), contradiction AS MATERIALIZED (
	SELECT campaign_id, attempt_id,
	       CASE WHEN no THEN 'refused_call' WHEN outcome IS NULL THEN 'settled_call' ELSE 'two_calls' END AS kind,
	       'response ' || class || ' with CallId ' || coalesce(call_id, 'none') || ', ' ||
	       CASE WHEN verdict IS NOT NULL AND (outcome IS NULL OR source = 'person') THEN 'settled as ' || verdict || ' by ' || person
	            ELSE 'receipt with CallId ' || ended END AS detail
	  FROM found
	 WHERE no AND outcome IS NOT NULL
	    OR class = 'accepted' AND outcome IS NOT NULL AND source <> 'person' AND ended <> call_id
	    OR class = 'accepted' AND outcome IS NULL AND verdict = 'not_called'
), told AS (
	INSERT INTO incident (at, account_id, campaign_id, attempt_id, kind, detail)
	SELECT $15, $1, campaign_id, attempt_id, kind, detail FROM contradiction
), paused AS (
	UPDATE campaign SET state = 'paused', reason = 'a receipt contradicts a response: see the incidents', changed_at = $15
	 WHERE state = 'running' AND campaign_id IN (SELECT campaign_id FROM contradiction)
), again AS (
	INSERT INTO due (account_id, campaign_id, n, try, chance, due_at, reason)
	SELECT $1, campaign_id, n, (attempt_id & 1023) + 1, again_chance, again_at, again_reason
	  FROM found
	 WHERE again_at IS NOT NULL AND outcome IS NULL AND verdict IS NULL AND NOT gone_on
	ON CONFLICT DO NOTHING
)
INSERT INTO progress (account_id, campaign_id, label, node_id, seq, total)
SELECT $1, k.campaign_id, k.label, $2, coalesce(p.seq, 0) + 1, coalesce(p.total, 0) + k.n
  FROM (SELECT campaign_id, 'response:' || class AS label, count(*) AS n FROM found GROUP BY 1, 2
        UNION ALL
        SELECT campaign_id, 'closed', count(*) FROM found WHERE no AND NOT lost AND outcome IS NULL AND verdict IS NULL GROUP BY 1
        UNION ALL
        SELECT campaign_id, 'unknown', -count(*) FROM found WHERE no AND lost AND outcome IS NULL AND verdict IS NULL AND NOT gone_on GROUP BY 1) k
  LEFT JOIN LATERAL (
       SELECT seq, total FROM progress
        WHERE account_id = $1 AND campaign_id = k.campaign_id AND label = k.label AND node_id = $2
        ORDER BY seq DESC LIMIT 1) p ON true`

// lockCampaigns makes those wait for each other who end attempts of a campaign, so
// that each counts what it ends by what the ledger says. It is a statement of its own:
// the one after it sees what was committed while it waited. The locks are taken in one
// order, so that nobody waits in a circle.
const lockCampaigns = `
	SELECT pg_advisory_xact_lock(id) FROM (SELECT DISTINCT id FROM unnest($1::bigint[]) id ORDER BY id) i`

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
		over                              []int64 // campaigns of which attempts are over by this
	)
	for i, r := range responses {
		attempt[i], class[i], code[i], counts[i] = int64(r.Attempt), string(r.State), text(r.Code), r.Counts
		sent[i], answered[i] = null(r.SentAt), r.AnsweredAt
		switch r.State {
		case campaign.Throttled, campaign.Refused, campaign.Unsent:
			over = append(over, int64(r.Attempt.Campaign()))
		}
		message[i], callID[i], requestID[i] = nullText(text(r.Message)), nullText(text(r.CallID)), nullText(text(r.RequestID))
		if !r.Again.At.IsZero() {
			againAt[i], again[i], chance[i] = null(r.Again.At), new(string(r.Again.Reason)), new(int16(r.Again.Chance))
		}
	}
	// One round trip and one transaction, whether there is something to lock or not.
	b := new(pgx.Batch)
	if len(over) > 0 {
		b.Queue(lockCampaigns, over)
	}
	b.Queue(writeResponses, account, node, attempt, class, counts, sent, answered, code, message, callID, requestID, againAt, again, chance, at)
	if err := db.pool.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("write %d responses: %w", n, err)
	}
	return nil
}
