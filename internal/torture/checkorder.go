package torture

// What follows what in our own ledger.
var orderInvariants = []Invariant{
	{"I13b", "Every row of the ledger belongs to an attempt and comes after what it follows from.", []string{`
		SELECT format('attempt %s: a row in %s, and there is no such attempt', x.attempt_id, x.place)
		  FROM (SELECT account_id, attempt_id, 'response' AS place FROM response
		        UNION ALL SELECT account_id, attempt_id, 'outcome' FROM outcome
		        UNION ALL SELECT account_id, attempt_id, 'lost' FROM lost
		        UNION ALL SELECT DISTINCT account_id, attempt_id, 'receipt' FROM receipt) x
		  LEFT JOIN attempt a ON a.account_id = x.account_id AND a.attempt_id = x.attempt_id
		 WHERE a.attempt_id IS NULL`, `
		SELECT format('%s: intended %s, to be sent by %s, sent %s, answered %s, ended %s with %s final reports, lost %s', witness.label(a),
		              intent_at, send_by, sent_at, responded_at, recorded_at, finals, lost_at)
		  FROM witness.rules
		 CROSS JOIN witness.attempt a
		 WHERE lost_at < greatest(intent_at + lost_after, send_by)
		    OR recorded_at + commit < lost_at
		    OR (outcome IS NOT NULL AND finals = 0)
		    OR recorded_at < intent_at - clock
		    OR sent_at < intent_at - clock
		    OR responded_at < sent_at - clock`}},

	{"I13c", "A contact waits for a further attempt only after its last one ended in a way that permits it.", []string{`
		SELECT format('campaign %s, contact %s waits for try %s as chance %s, but %s', f.campaign_id, f.n, f.try, f.chance,
		              CASE WHEN a.attempt_id IS NULL THEN 'there is no try before it' ELSE witness.label(a) END)
		  FROM witness.further f
		  LEFT JOIN witness.attempt a ON a.attempt_id = f.previous_id
		 WHERE f.waits AND f.ended IS NULL`, `
		SELECT format('campaign %s, contact %s waits for try %s, and its last try was %s', d.campaign_id, d.n, d.try, a.try)
		  FROM due d
		  JOIN witness.contact k USING (account_id, campaign_id, n)
		  JOIN witness.attempt a ON a.attempt_id = k.last_attempt_id
		 WHERE d.try <> a.try + 1`}},

	{"I13d", "The batches of an account follow one another: terms, cursors and totals never go back.", []string{`
		SELECT format('account %s: batch %s of campaign %s has term %s, cursor %s, %s intents and %s suppressed after term %s, cursor %s, %s and %s', account_id, seq, campaign_id,
		              term, upto_n, intents, suppressed, last_term, last_n, last_intents, last_suppressed)
		  FROM (SELECT b.*, lag(term) OVER w AS last_term, lag(upto_n) OVER c AS last_n, lag(intents) OVER c AS last_intents, lag(suppressed) OVER c AS last_suppressed
		          FROM batch b
		        WINDOW w AS (PARTITION BY account_id ORDER BY seq), c AS (PARTITION BY account_id, campaign_id ORDER BY seq)) b
		 WHERE term < last_term OR upto_n < last_n OR intents < last_intents OR suppressed < last_suppressed`, `
		SELECT format('account %s: two batches have the number %s', account_id, seq) FROM batch GROUP BY account_id, seq HAVING count(*) > 1`}},

	{"I13e", "There is no incident but those that the faults may cause.", []string{`
		SELECT format('%s: campaign %s, OutId %s: %s', i.kind, i.campaign_id, coalesce(w.out_id, 'none'), i.detail)
		  FROM witness.rules
		 CROSS JOIN incident i
		  LEFT JOIN witness.name w USING (attempt_id)
		 WHERE i.kind <> ALL (incidents)`}},

	{"I15", "Every planned firing of a schedule has one run, whether it ran or was skipped, and no run is planned otherwise.", []string{`
		SELECT format('campaign %s: the firing planned for %s has %s runs', coalesce(f.campaign_id, r.campaign_id), coalesce(f.planned_at, r.planned_at), coalesce(r.runs, 0) ||
		              CASE WHEN f.planned_at IS NULL THEN ', and the schedule knows no such firing' ELSE '' END)
		  FROM (SELECT * FROM witness.firing WHERE said = 'planned') f
		  FULL JOIN (SELECT campaign_id, planned_at, count(*) AS runs FROM run WHERE planned_at IS NOT NULL GROUP BY campaign_id, planned_at) r USING (campaign_id, planned_at)
		 WHERE r.runs IS DISTINCT FROM 1 OR f.planned_at IS NULL`, `
		SELECT format('campaign %s waits for %s, its schedule''s next firing is %s', campaign_id, coalesce(c.next_run_at::text, 'none'), coalesce(f.planned_at::text, 'none'))
		  FROM witness.firing f
		  JOIN campaign c USING (campaign_id)
		 WHERE f.said = 'awaited'`}},

	{"I16", "Nothing is intended between the acknowledgement of a pause and the resumption.", []string{`
		SELECT format('%s: intended at %s; the pause was acknowledged at %s and lasted until %s', witness.label(a), a.intent_at, p.at, coalesce(p.resumed_at::text, 'now'))
		  FROM witness.pause p
		  JOIN witness.attempt a ON a.account_id = p.account_id AND (p.campaign_id IS NULL OR a.campaign_id = p.campaign_id)
		   AND a.intent_at > p.at AND a.intent_at < coalesce(p.resumed_at, 'infinity')`}},

	{"I16b", "Every intent lies within a run of its campaign.", []string{`
		SELECT format('%s: intended at %s; %s', witness.label(a), intent_at, CASE WHEN run_id IS NULL THEN 'no run had begun' ELSE format('run %s ended at %s: %s', run_id, run_ended_at, end_reason) END)
		  FROM witness.rules
		 CROSS JOIN witness.attempt a
		 WHERE run_id IS NULL OR intent_at > run_ended_at + commit`}},

	{"I18", "Everything is final by the deadline.", []string{`
		SELECT format('%s: intended %s, answered %s, ended %s, lost %s; the deadline was %s', witness.label(a), intent_at, responded_at, recorded_at, lost_at, deadline)
		  FROM witness.rules
		 CROSS JOIN witness.attempt a
		 WHERE deadline IS NOT NULL AND greatest(intent_at, responded_at, recorded_at, lost_at) > deadline`}},

	{"I19", "No more attempts are in doubt than the faults can explain.", []string{`
		SELECT format('%s attempts have no response or an unknown one, %s are explained', doubts, most_doubt)
		  FROM witness.rules, (SELECT count(*) AS doubts FROM witness.attempt WHERE class = 'unknown' OR (class IS NULL AND send_by < clock_timestamp())) d
		 WHERE doubts > most_doubt`}},

	{"I20", "No phone number stands in a text for people.", []string{`
		SELECT format('%s holds the number of %s', t.place, masked(k.phone))
		  FROM (SELECT 'the message of response ' || attempt_id AS place, message AS words FROM response WHERE message ~ '\d{10}'
		        UNION ALL SELECT 'the status message of outcome ' || attempt_id, status_msg FROM outcome WHERE status_msg ~ '\d{10}'
		        UNION ALL SELECT 'incident ' || incident_id, detail FROM incident
		        UNION ALL SELECT 'the reason of campaign ' || campaign_id, reason FROM campaign
		        UNION ALL SELECT 'the reason of account ' || account_id, reason FROM account
		        UNION ALL SELECT 'the note of run ' || run_id, note FROM run
		        UNION ALL SELECT 'stranger ' || stranger_id, reason FROM stranger) t
		 CROSS JOIN LATERAL regexp_matches(t.words, '(?:^|\D)0?(\d{10,11})(?!\d)', 'g') m
		  JOIN (SELECT DISTINCT phone FROM contact) k ON k.phone = m[1]::bigint`}},
}
