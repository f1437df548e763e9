package torture

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// derive joins both ledgers once, so that each invariant reads a few wide tables.
//
// attempt.state is written here a second time, after docs/state-machine.md and not
// after report.attempt, which is among the things that are checked. Further evidence
// about an attempt, such as a person's word, belongs into this one CASE.
func (c *check) derive(ctx context.Context) error {
	for _, sql := range deriveSQL {
		if _, err := c.tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("join both ledgers: %w", err)
		}
	}
	return nil
}

var deriveSQL = []string{`
		CREATE INDEX ON witness.request (attempt_id);
		CREATE INDEX ON witness.call (call_id);
		ANALYZE witness.request, witness.call, witness.item, witness.name;
		-- A run of minutes may have ended before the server looked at what it filled.
		ANALYZE contact, skip, due, attempt, response, outcome, lost, receipt, batch, progress;`, `

		CREATE UNLOGGED TABLE witness.attempt AS
		SELECT a.account_id, a.attempt_id, a.campaign_id, a.n, a.try, a.chance, a.phone, a.node_id, a.caller_id, a.intent_at, a.send_by,
		       w.out_id, r.class::text, r.counts, r.sent_at, r.answered_at AS responded_at, r.code, r.call_id,
		       o.outcome::text, o.call_id AS ended_call_id, o.status_code, o.smart_status_code, o.early_media_code, o.talk_s,
		       o.ended_at, o.recorded_at, o.source::text, l.at AS lost_at,
		       coalesce(e.receipts, 0) AS receipts, coalesce(e.finals, 0) AS finals, coalesce(s.arrivals, 0) AS arrivals, coalesce(s.calls, 0) AS calls,
		       s.first_arrived_at, s.last_arrived_at,
		       u.run_id, u.version, u.ended_at AS run_ended_at, u.end_reason::text,
		       CASE WHEN o.attempt_id IS NOT NULL                      THEN 'ended'
		            WHEN r.class IN ('throttled', 'refused', 'unsent') THEN r.class::text
		            WHEN l.attempt_id IS NOT NULL                      THEN 'lost'
		            WHEN r.class = 'accepted' OR e.receipts > 0        THEN 'accepted'
		            WHEN r.class = 'unknown'                           THEN 'unknown'
		            WHEN a.send_by < clock_timestamp() - interval '60 seconds' THEN 'unknown'
		            ELSE 'dialing' END AS state
		  FROM attempt a
		  JOIN witness.name w USING (attempt_id)
		  LEFT JOIN response r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id
		  LEFT JOIN outcome  o ON o.account_id = a.account_id AND o.attempt_id = a.attempt_id
		  LEFT JOIN lost     l ON l.account_id = a.account_id AND l.attempt_id = a.attempt_id
		  LEFT JOIN (SELECT attempt_id, count(*) AS receipts, count(*) FILTER (WHERE final) AS finals FROM receipt GROUP BY attempt_id) e ON e.attempt_id = a.attempt_id
		  LEFT JOIN (SELECT attempt_id, count(*) AS arrivals, count(*) FILTER (WHERE verdict = 'accepted') AS calls, min(wall) AS first_arrived_at, max(wall) AS last_arrived_at
		               FROM witness.request WHERE attempt_id IS NOT NULL GROUP BY attempt_id) s ON s.attempt_id = a.attempt_id
		  -- The run that was open, or the last one before.
		  LEFT JOIN (SELECT campaign_id, run_id, version, started_at, ended_at, end_reason,
		                    lead(started_at, 1, 'infinity') OVER (PARTITION BY campaign_id ORDER BY started_at, run_id) AS next_at
		               FROM run WHERE started_at IS NOT NULL) u
		         ON u.campaign_id = a.campaign_id AND a.intent_at >= u.started_at AND a.intent_at < u.next_at;
		ALTER TABLE witness.attempt ADD PRIMARY KEY (attempt_id);
		ANALYZE witness.attempt;`, `

		CREATE FUNCTION witness.label(a witness.attempt) RETURNS text LANGUAGE sql STABLE AS $$
			SELECT format('campaign %s, contact %s, try %s to %s (%s, OutId %s)', a.campaign_id, a.n, a.try, masked(a.phone), a.state, a.out_id)
		$$;`, `

		-- A contact's state, after docs/state-machine.md, and its last attempt.
		CREATE UNLOGGED TABLE witness.contact AS
		SELECT k.account_id, k.campaign_id, k.n, k.phone, c.state AS campaign_state, s.n IS NOT NULL AS skipped, s.at AS skipped_at, d.n IS NOT NULL AS waits,
		       a.attempt_id AS last_attempt_id,
		       CASE WHEN s.n IS NOT NULL                          THEN s.reason::text
		            WHEN d.n IS NOT NULL OR a.attempt_id IS NULL  THEN CASE c.state WHEN 'cancelled' THEN 'cancelled' ELSE 'pending' END
		            WHEN a.state IN ('ended', 'throttled', 'refused', 'unsent') THEN 'done'
		            WHEN a.state = 'lost'                         THEN 'unknown'
		            ELSE 'open' END AS state
		  FROM contact k
		  JOIN campaign c USING (campaign_id)
		  LEFT JOIN skip s ON s.account_id = k.account_id AND s.campaign_id = k.campaign_id AND s.n = k.n
		  LEFT JOIN due  d ON d.account_id = k.account_id AND d.campaign_id = k.campaign_id AND d.n = k.n
		  LEFT JOIN (SELECT DISTINCT ON (campaign_id, n) * FROM witness.attempt ORDER BY campaign_id, n, try DESC) a
		         ON a.account_id = k.account_id AND a.campaign_id = k.campaign_id AND a.n = k.n;
		ANALYZE witness.contact;`, `

		-- A further try of a contact, made or waiting, beside the one before it.
		-- ended: how that one ended, if it did so in a way that permits this one.
		CREATE UNLOGGED TABLE witness.further AS
		SELECT f.*, p.attempt_id AS previous_id,
		       CASE WHEN p.class IN ('throttled', 'unsent') AND f.chance = p.chance AND f.at >= p.responded_at THEN 'definite no'
		            -- Refused, and the platform counted it: too often, a chance is used up. Refused
		            -- for a fault of campaign, account or hour: the chance is given back.
		            WHEN p.class = 'refused' AND p.counts AND f.chance = p.chance + 1 AND f.at >= p.responded_at THEN 'too often'
		            WHEN p.class = 'refused' AND NOT p.counts AND f.chance = p.chance AND f.at >= p.responded_at AND p.code <> ALL (` + finalCodes + `) THEN 'held'
		            WHEN f.chance = p.chance + 1 AND (f.waits OR f.at >= p.recorded_at) AND EXISTS (
		                 SELECT FROM witness.retry y
		                  WHERE y.campaign_id = p.campaign_id AND y.outcome = p.outcome AND y.chance = p.chance
		                    AND f.at >= least(coalesce(p.ended_at, p.recorded_at), p.recorded_at) + y.delay) THEN 'retry'
		            WHEN f.chance = p.chance + 1 AND f.at >= p.lost_at AND EXISTS (
		                 SELECT FROM witness.spec s WHERE s.campaign_id = p.campaign_id AND s.redial AND p.chance < s.max_attempts) THEN 'redial'
		       END AS ended
		  FROM (SELECT attempt_id, campaign_id, n, try, chance, intent_at AS at, false AS waits FROM witness.attempt WHERE try > 1
		        UNION ALL
		        SELECT (campaign_id::bigint << 41) | (n::bigint << 10) | try, campaign_id, n, try, chance, due_at, true FROM due WHERE try > 1) f
		  LEFT JOIN witness.attempt p ON p.attempt_id = f.attempt_id - 1;`, `

		-- How many requests arrived within the second that each one ends.
		CREATE UNLOGGED TABLE witness.second AS
		SELECT account, wall, count(*) OVER (PARTITION BY account ORDER BY mono_us RANGE BETWEEN 999999 PRECEDING AND CURRENT ROW)::int AS within
		  FROM witness.request
		 WHERE action = 'SmartCall';`, `

		-- Every report that was pushed, and what is stored of it. A VoiceCallReport is one
		-- of several of its call, which the simulator's ledger does not tell apart.
		CREATE UNLOGGED TABLE witness.report AS
		SELECT call_id, out_id, report, coalesce(i.attempt_id, r.attempt_id) AS attempt_id, coalesce(i.pushed, 0) AS pushed, coalesce(i.acked, 0) AS acked,
		       coalesce(r.receipts, 0) AS receipts, coalesce(w.inbox, 0) AS inbox, coalesce(w.strangers, 0) AS strangers
		  FROM (SELECT call_id, out_id, report, min(attempt_id) AS attempt_id,
		               CASE report WHEN 'VoiceCallReport' THEN count(DISTINCT (push_id, pos)) ELSE 1 END AS pushed,
		               CASE report WHEN 'VoiceCallReport' THEN count(DISTINCT (push_id, pos)) FILTER (WHERE acked) ELSE count(DISTINCT true) FILTER (WHERE acked) END AS acked
		          FROM witness.item GROUP BY call_id, out_id, report) i
		  FULL JOIN (SELECT coalesce(e.raw->>'call_id', '') AS call_id, w.out_id, e.kind AS report, min(attempt_id) AS attempt_id, count(*) AS receipts
		               FROM receipt e JOIN witness.name w USING (attempt_id)
		              WHERE e.kind <> 'query' GROUP BY 1, 2, 3) r USING (call_id, out_id, report)
		  LEFT JOIN (SELECT call_id, out_id, report, count(*) FILTER (WHERE place = 'inbox') AS inbox, count(*) FILTER (WHERE place = 'stranger') AS strangers
		               FROM witness.aside GROUP BY call_id, out_id, report) w USING (call_id, out_id, report);`,
}

// finalCodes are those after which a contact is done: the platform, or we, said that
// it cannot be called with these values (errors of the SmartCall page).
const finalCodes = `ARRAY['template', 'isv.MOBILE_NUMBER_ILLEGAL', 'Mobile.Invalid', 'isv.DISPLAY_NUMBER_ILLEGAL', 'isv.COMPLAINT_REJECT', 'ComplaintReject',
	'isv.BLACK_KEY_CONTROL_LIMIT', 'isv.TEMPLATE_MISSING_PARAMETERS', 'isv.TEMPLATE_PARAMS_ILLEGAL', 'isv.PARAM_LENGTH_LIMIT', 'isv.PARAM_NOT_SUPPORT_URL',
	'isv.INVALID_PARAMETERS', 'InvalidParameters', 'InvalidParameter']`
