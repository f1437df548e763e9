package postgres

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// auditLedger goes once through all contacts and their attempts, and counts them by
// run, states, and what is wrong with them.
//
// Clocks of nodes differ by some seconds, so an order in time counts as wrong only
// beyond ten.
const auditLedger = `
WITH rule AS MATERIALIZED (
	SELECT c.campaign_id, c.account_id, c.state = 'cancelled' AS cancelled,
	       coalesce((SELECT upto_n FROM batch b WHERE b.account_id = c.account_id AND b.campaign_id = c.campaign_id ORDER BY seq DESC LIMIT 1), 0) AS upto_n,
	       -- What any version of the file allowed.
	       v.most, v.redials,
	       ARRAY (SELECT DISTINCT k FROM campaign_version v, jsonb_object_keys(v.spec->'retry') k WHERE v.campaign_id = c.campaign_id) AS retries,
	       ARRAY (SELECT started_at FROM run WHERE run.campaign_id = c.campaign_id AND started_at IS NOT NULL ORDER BY started_at, run_id) AS starts,
	       ARRAY (SELECT coalesce(ended_at, 'infinity') + interval '1 minute' FROM run WHERE run.campaign_id = c.campaign_id AND started_at IS NOT NULL ORDER BY started_at, run_id) AS ends
	  FROM campaign c
	 CROSS JOIN LATERAL (SELECT max((v.spec->>'max_attempts')::int) AS most, bool_or(v.spec->>'lost' = 'redial') AS redials
	                       FROM campaign_version v WHERE v.campaign_id = c.campaign_id) v
), tried AS (
	SELECT a.account_id, a.attempt_id, a.campaign_id, a.n, a.phone, a.intent_at, a.send_by, a.try, a.chance,
	       r.class, r.counts, r.call_id, coalesce(r.class IN ('throttled', 'refused', 'unsent'), false) AS no,
	       o.outcome, o.source, o.call_id AS ended, l.attempt_id IS NOT NULL AS lost, s.verdict, s.redial,
	       lead(a.attempt_id) OVER w AS next, lead(a.chance) OVER w AS next_chance, lag(a.attempt_id) OVER w AS before
	  FROM attempt a
	  LEFT JOIN response   r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id
	  LEFT JOIN outcome    o ON o.account_id = a.account_id AND o.attempt_id = a.attempt_id
	  LEFT JOIN lost       l ON l.account_id = a.account_id AND l.attempt_id = a.attempt_id
	  LEFT JOIN settlement s ON s.account_id = a.account_id AND s.attempt_id = a.attempt_id
	 WHERE a.account_id = ANY ($1::int[]) AND a.attempt_id BETWEEN $2 AND $3
	WINDOW w AS (PARTITION BY a.account_id ORDER BY a.attempt_id)
), line AS (
	SELECT coalesce(k.campaign_id, t.campaign_id) AS campaign_id, coalesce(k.account_id, t.account_id) AS account_id, coalesce(k.n, t.n) AS n,
	       k.n IS NOT NULL AS is_contact, k.phone AS owner,
	       t.attempt_id, t.phone, t.intent_at, t.send_by, t.try, t.chance, t.class, t.counts, t.call_id, t.no, t.outcome, t.source, t.ended, t.lost, t.verdict, t.redial,
	       t.next_chance, t.before, t.next >> 10 = t.attempt_id >> 10 AS more, t.before >> 10 = t.attempt_id >> 10 AS has_before
	  FROM (SELECT account_id, campaign_id, n, phone FROM contact WHERE account_id = ANY ($1::int[]) AND campaign_id BETWEEN $2 >> 41 AND $3 >> 41) k
	  FULL JOIN tried t ON t.account_id = k.account_id AND t.campaign_id = k.campaign_id AND t.n = k.n
)
SELECT campaign_id, run, attempt_state, class, outcome, contact_state, problems, count(*), sum(settled::int), sum(waits::int), min(id)
  FROM (SELECT l.campaign_id, width_bucket(l.intent_at, r.starts) AS run, l.class::text, l.outcome::text,
               CASE WHEN l.attempt_id IS NULL                          THEN NULL
                    WHEN l.outcome IS NOT NULL                         THEN 'ended'
                    WHEN l.no                                          THEN l.class::text
                    WHEN l.verdict IS NOT NULL                         THEN 'settled'
                    WHEN l.lost                                        THEN 'lost'
                    WHEN l.class = 'accepted' OR e.reported                  THEN 'accepted'
                    WHEN e.doubtful                                    THEN 'unknown'
                    ELSE 'dialing' END AS attempt_state,
               CASE WHEN NOT l.is_contact OR l.more                    THEN NULL
                    WHEN s.n IS NOT NULL                               THEN s.reason::text
                    WHEN d.n IS NOT NULL OR l.attempt_id IS NULL       THEN CASE WHEN r.cancelled THEN 'cancelled' ELSE 'pending' END
                    WHEN l.outcome IS NOT NULL OR l.no OR l.verdict IS NOT NULL THEN 'done'
                    WHEN l.lost                                        THEN 'unknown'
                    ELSE 'open' END AS contact_state,
               coalesce(l.verdict IS NOT NULL, false) AS settled,
               -- In doubt, and the contact has not gone on.
               coalesce(l.attempt_id IS NOT NULL AND l.outcome IS NULL AND NOT l.no AND l.verdict IS NULL AND l.more IS NOT TRUE AND d.n IS NULL AND s.n IS NULL
                        AND (l.lost OR l.class IS DISTINCT FROM 'accepted' AND NOT e.reported AND e.doubtful), false) AS waits,
               array_remove(ARRAY[
                   CASE WHEN l.attempt_id IS NULL AND l.n <= r.upto_n AND s.n IS NULL AND d.n IS NULL THEN 'forgotten' END,
                   CASE WHEN l.n > r.upto_n AND (l.attempt_id IS NOT NULL OR s.n IS NOT NULL OR d.n IS NOT NULL) THEN 'before_the_cursor' END,
                   CASE WHEN d.n IS NOT NULL AND l.more IS NOT TRUE AND (s.n IS NOT NULL OR d.try <> coalesce(l.try, 0) + 1) THEN 'waits_wrongly' END,
                   CASE WHEN l.attempt_id IS NOT NULL AND l.owner IS DISTINCT FROM l.phone THEN 'not_the_contact' END,
                   CASE WHEN r.account_id <> l.account_id THEN 'wrong_account' END,
                   CASE WHEN l.try > 1 AND (l.has_before IS NOT TRUE OR l.before <> l.attempt_id - 1) THEN 'try_missing' END,
                   CASE WHEN l.more AND l.outcome IS NULL AND NOT l.no AND NOT (l.lost AND r.redials) AND l.redial IS NOT TRUE THEN 'again_in_doubt' END,
                   CASE WHEN l.more AND l.outcome IS NOT NULL AND NOT l.no AND NOT (l.lost AND r.redials) AND l.redial IS NOT TRUE
                             AND NOT l.outcome::text = ANY (r.retries) THEN 'again_without_a_rule' END,
                   CASE WHEN l.chance > r.most OR l.more AND l.next_chance <= l.chance AND l.counts IS NOT FALSE
                                                   AND l.verdict IS DISTINCT FROM 'not_called' THEN 'too_often' END,
                   CASE WHEN l.no AND l.outcome IS NOT NULL
                          OR l.class = 'accepted' AND l.source <> 'person' AND l.ended <> l.call_id
                          OR l.verdict = 'not_called' AND (l.outcome IS NOT NULL OR l.class = 'accepted') THEN 'contradiction' END,
                   CASE WHEN p.phone IS NOT NULL THEN 'suppressed' END,
                   CASE WHEN l.intent_at < r.starts[1] OR l.attempt_id IS NOT NULL AND cardinality(r.starts) = 0
                          OR l.intent_at > r.ends[width_bucket(l.intent_at, r.starts)] THEN 'outside_a_run' END], NULL) AS problems,
               coalesce(l.attempt_id, (l.campaign_id::bigint << 41) | (l.n::bigint << 10)) AS id
          FROM line l
          JOIN rule r ON r.campaign_id = l.campaign_id
          LEFT JOIN skip s ON s.account_id = l.account_id AND s.campaign_id = l.campaign_id AND s.n = l.n
          LEFT JOIN due  d ON d.account_id = l.account_id AND d.campaign_id = l.campaign_id AND d.n = l.n
          LEFT JOIN suppression p ON p.phone = l.phone AND p.added_at < l.intent_at - interval '10 seconds' AND (p.until IS NULL OR p.until > l.intent_at)
         CROSS JOIN LATERAL (SELECT CASE WHEN l.attempt_id IS NOT NULL AND l.outcome IS NULL AND l.class IS DISTINCT FROM 'accepted' AND NOT l.no
                                         THEN EXISTS (SELECT FROM receipt e WHERE e.account_id = l.account_id AND e.attempt_id = l.attempt_id) ELSE false END AS reported,
                                    coalesce(l.class = 'unknown', l.send_by < now() - interval '60 seconds') AS doubtful) e) q
 GROUP BY campaign_id, run, attempt_state, class, outcome, contact_state, problems
 ORDER BY campaign_id, min(id)`

// problems say what is wrong with so many attempts or contacts.
var problems = map[string]string{
	"forgotten":            "%d contacts are used up and have no attempt, no skip and no place in the queue",
	"before_the_cursor":    "%d contacts were dialled, skipped or held, and the cursor has not passed them",
	"waits_wrongly":        "%d contacts wait for a try that they had, cannot have yet, or are skipped",
	"not_the_contact":      "%d attempts have no contact, or another number than theirs",
	"wrong_account":        "%d rows belong to another account than their campaign",
	"try_missing":          "%d attempts have none before them that they would follow",
	"again_in_doubt":       "%d attempts were followed by another while nobody knew what became of their call",
	"again_without_a_rule": "%d calls ended and were made again without a rule that wants it",
	"too_often":            "%d attempts go beyond the max_attempts of their campaign",
	"contradiction":        "%d attempts have a call although the platform or a person said there was none, or two calls",
	"suppressed":           "%d attempts went to a number that was on the list of those not to be called",
	"outside_a_run":        "%d attempts were intended while no run of their campaign was open",
}

// counted is what auditLedger counts of a campaign.
type counted struct {
	contacts map[string]int64 // by state
	attempts int64
	classes  map[string]int64
	answered int64
	problems map[string]int64
	first    map[string]int64
}

func (w *auditor) ledger(ctx context.Context, _ campaign.ID) error {
	// The groups are few, which the planner cannot know: it would sort all rows first.
	if _, err := w.tx.Exec(ctx, `SET LOCAL enable_sort = off`); err != nil {
		return err
	}
	rows, _ := w.tx.Query(ctx, auditLedger, w.accounts, w.from, w.to)
	all := make(map[campaign.ID]*counted)
	var id campaign.ID
	var run *int32
	var attempt, class, outcome, contact *string
	var wrong []string
	var n, settled, waits, example int64
	_, err := pgx.ForEachRow(rows, []any{&id, &run, &attempt, &class, &outcome, &contact, &wrong, &n, &settled, &waits, &example}, func() error {
		k, c := all[id], w.byID[id]
		if k == nil {
			k = &counted{contacts: make(map[string]int64), classes: make(map[string]int64), problems: make(map[string]int64), first: make(map[string]int64)}
			all[id] = k
		}
		if contact != nil {
			k.contacts[*contact] += n
		}
		if attempt != nil {
			k.attempts += n
			if *attempt == string(campaign.Unknown) || *attempt == string(campaign.Lost) {
				c.InDoubt += n
			}
			if run != nil && *run > 0 && int(*run) <= len(c.Runs) {
				c.Runs[*run-1].Attempts[*attempt] += n
			}
		}
		if class != nil {
			k.classes[*class] += n
		}
		if outcome != nil && *outcome == string(campaign.Answered) {
			k.answered += n
		}
		c.Settled += settled
		c.Waiting += waits
		for _, kind := range wrong {
			if k.problems[kind] += n; k.first[kind] == 0 {
				k.first[kind] = example
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := w.tx.Exec(ctx, `SET LOCAL enable_sort = on`); err != nil {
		return err
	}
	for i := range w.audit.Campaigns {
		c := &w.audit.Campaigns[i]
		k := all[c.id]
		if k == nil {
			k = new(counted)
		}
		w.compare(c, k)
		for _, kind := range slices.Sorted(maps.Keys(k.problems)) {
			w.found(kind, c.id, k.problems[kind], k.first[kind], problems[kind], k.problems[kind])
		}
	}
	return nil
}

// compare holds the running totals against what was counted.
func (w *auditor) compare(c *AuditedCampaign, k *counted) {
	var sum int64
	for _, n := range k.contacts {
		sum += n
	}
	if sum != c.Imported {
		w.found("conservation", c.id, c.Imported-sum, 0, "%d contacts were imported, and the states add up to %d", c.Imported, sum)
	}
	for _, t := range []struct {
		what         string
		total, count int64
	}{
		{"contacts pending", c.Pending, k.contacts["pending"]}, {"contacts open", c.Open, k.contacts["open"]}, {"contacts done", c.Done, k.contacts["done"]},
		{"contacts suppressed", c.Suppressed, k.contacts["suppressed"]}, {"contacts cancelled", c.Cancelled, k.contacts["cancelled"]},
		{"contacts expired", c.Expired, k.contacts["expired"]}, {"contacts unknown", c.Unknown, k.contacts["unknown"]},
		{"attempts", c.Attempts, k.attempts}, {"attempts accepted", c.Accepted, k.classes["accepted"]}, {"attempts throttled", c.Throttled, k.classes["throttled"]},
		{"attempts refused", c.Refused, k.classes["refused"]}, {"attempts unsent", c.Unsent, k.classes["unsent"]},
		{"attempts doubtful", c.Doubtful, k.classes["unknown"]}, {"calls answered", c.Answered, k.answered},
	} {
		if t.total != t.count {
			w.found("totals", c.id, t.total-t.count, 0, "%d %s by the running totals, %d counted row by row", t.total, t.what, t.count)
		}
	}
}

// strays looks for rows of attempts, and of contacts, that are not there.
func (w *auditor) strays(ctx context.Context, _ campaign.ID) error {
	rows, _ := w.tx.Query(ctx, `
		SELECT 'attempts', kind, (attempt_id >> 41)::int, count(*), min(attempt_id)
		  FROM (SELECT 'response' AS kind, account_id, attempt_id FROM response
		        UNION ALL SELECT 'outcome', account_id, attempt_id FROM outcome
		        UNION ALL SELECT 'receipt', account_id, attempt_id FROM receipt
		        UNION ALL SELECT 'lost', account_id, attempt_id FROM lost
		        UNION ALL SELECT 'settlement', account_id, attempt_id FROM settlement) x
		 WHERE account_id = ANY ($1::int[]) AND attempt_id BETWEEN $2 AND $3
		   AND NOT EXISTS (SELECT FROM attempt a WHERE a.account_id = x.account_id AND a.attempt_id = x.attempt_id)
		 GROUP BY 2, 3
		UNION ALL
		SELECT 'contacts', kind, campaign_id, count(*), min((campaign_id::bigint << 41) | (n::bigint << 10))
		  FROM (SELECT 'due' AS kind, account_id, campaign_id, n FROM due
		        UNION ALL SELECT 'skip', account_id, campaign_id, n FROM skip) x
		 WHERE account_id = ANY ($1::int[]) AND campaign_id BETWEEN $2 >> 41 AND $3 >> 41
		   AND NOT EXISTS (SELECT FROM contact k WHERE k.account_id = x.account_id AND k.campaign_id = x.campaign_id AND k.n = x.n)
		 GROUP BY 2, 3`, w.accounts, w.from, w.to)
	var of, kind string
	var id campaign.ID
	var n, example int64
	_, err := pgx.ForEachRow(rows, []any{&of, &kind, &id, &n, &example}, func() error {
		w.found("stray", id, n, example, "%d rows of %s are about %s that are not there", n, kind, of)
		return nil
	})
	return err
}

// numbers looks at the calls to each number over all campaigns of its account: are they
// within the caps, and was nobody called while another call to them was open? A cap
// counts what any version of the campaign's file allowed.
func (w *auditor) numbers(ctx context.Context, id campaign.ID) error {
	rows, _ := w.tx.Query(ctx, `
		WITH cap AS (
			SELECT campaign_id, max((spec->'caps'->>'per_minute')::int) AS per_minute, max((spec->'caps'->>'per_day')::int) AS per_day, max((spec->'caps'->>'per_30_days')::int) AS per_30_days
			  FROM campaign_version
			 GROUP BY campaign_id
		), often AS (
			SELECT account_id, phone FROM attempt WHERE account_id = ANY ($1::int[]) GROUP BY account_id, phone HAVING count(*) > 1
		), rung AS (
			SELECT a.account_id, a.campaign_id, a.attempt_id, a.phone, a.intent_at,
			       CASE WHEN r.class = 'refused' THEN r.answered_at
			            ELSE least(o.recorded_at, l.at, s.settled_at) END AS over_at
			  FROM often
			  JOIN attempt a USING (account_id, phone)
			  LEFT JOIN response   r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id
			  LEFT JOIN outcome    o ON o.account_id = a.account_id AND o.attempt_id = a.attempt_id
			  LEFT JOIN lost       l ON l.account_id = a.account_id AND l.attempt_id = a.attempt_id
			  LEFT JOIN settlement s ON s.account_id = a.account_id AND s.attempt_id = a.attempt_id
			 WHERE r.counts IS NOT FALSE AND NOT (s.verdict IS NOT DISTINCT FROM 'not_called' AND o.attempt_id IS NULL)
		), number AS (
			SELECT account_id, campaign_id, attempt_id, intent_at,
			       count(*) OVER (w RANGE BETWEEN interval '59.999999 seconds' PRECEDING AND CURRENT ROW) AS minute,
			       count(*) OVER (w RANGE BETWEEN interval '86399.999999 seconds' PRECEDING AND CURRENT ROW) AS day,
			       count(*) OVER (w RANGE BETWEEN interval '2591999.999999 seconds' PRECEDING AND CURRENT ROW) AS month,
			       max(coalesce(over_at, 'infinity')) OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) > intent_at + interval '10 seconds' AS while_open
			  FROM rung
			WINDOW w AS (PARTITION BY account_id, phone ORDER BY intent_at)
		)
		SELECT n.campaign_id, p.kind, count(*), min(n.attempt_id)
		  FROM number n
		  JOIN cap USING (campaign_id)
		 CROSS JOIN LATERAL (VALUES ('a minute', minute > per_minute), ('24 hours', day > per_day), ('30 days', month > per_30_days), ('', while_open)) p (kind, wrong)
		 WHERE p.wrong AND $2 IN (0, n.campaign_id)
		 GROUP BY n.campaign_id, p.kind
		 ORDER BY n.campaign_id, p.kind`, w.accounts, id)
	var of campaign.ID
	var kind string
	var n, example int64
	_, err := pgx.ForEachRow(rows, []any{&of, &kind, &n, &example}, func() error {
		if kind == "" {
			w.found("while_open", of, n, example, "%d attempts went to a number while another call to it was open", n)
		} else {
			w.found("cap", of, n, example, "%d attempts went to a number more often within %s than the caps allow", n, kind)
		}
		return nil
	})
	return err
}

// calls looks for names that two attempts share.
func (w *auditor) calls(ctx context.Context, _ campaign.ID) error {
	rows, _ := w.tx.Query(ctx, `
		SELECT 'CallId', (min(attempt_id) >> 41)::int, count(*), min(attempt_id)
		  FROM response
		 WHERE account_id = ANY ($1::int[]) AND attempt_id BETWEEN $2 AND $3 AND call_id IS NOT NULL
		 GROUP BY account_id, call_id
		HAVING count(*) > 1
		UNION ALL
		SELECT 'OutId', (attempt_id >> 41)::int, count(*), attempt_id
		  FROM attempt
		 WHERE attempt_id BETWEEN $2 AND $3
		 GROUP BY attempt_id
		HAVING count(*) > 1`, w.accounts, w.from, w.to)
	type key struct {
		kind string
		id   campaign.ID
	}
	var order []key
	doubled, first := make(map[key]int64), make(map[key]int64)
	var k key
	var n, example int64
	_, err := pgx.ForEachRow(rows, []any{&k.kind, &k.id, &n, &example}, func() error {
		if doubled[k]++; doubled[k] == 1 {
			order = append(order, k)
			first[k] = example
		}
		return nil
	})
	for _, k := range order {
		w.found("doubled", k.id, doubled[k], first[k], "%d %ss are of more than one attempt", doubled[k], k.kind)
	}
	return err
}
