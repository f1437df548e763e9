package torture

// Nobody twice, nobody forgotten: contacts and the order of their attempts.
var contactInvariants = []Invariant{
	{"I3", "A contact has no more accepted calls than max_attempts, and no chance beyond it.", []string{`
		SELECT format('campaign %s, contact %s (%s): %s accepted calls and chance %s, max_attempts is %s', campaign_id, n, masked(phone), calls, chance, most)
		  FROM (SELECT a.campaign_id, a.n, a.phone, sum(a.calls) AS calls, max(a.chance) AS chance, max(s.max_attempts) AS most
		          FROM witness.attempt a
		          JOIN (SELECT campaign_id, max(max_attempts) AS max_attempts FROM witness.spec GROUP BY campaign_id) s USING (campaign_id)
		         GROUP BY a.campaign_id, a.n, a.phone) c
		 WHERE calls > most OR chance > most`}},

	{"I4", "A further attempt is made only after the one before it ended as a definite no, by an outcome with a retry, or by a loss that the campaign redials.", []string{`
		SELECT format('%s: intended at %s as chance %s, but %s', witness.label(a), f.at, f.chance,
		              CASE WHEN p.attempt_id IS NULL THEN 'there is no try before it'
		                   ELSE format('try %s is %s%s (chance %s, code %s; answered %s, ended %s, lost %s)', p.try, p.state, ', ' || p.outcome, p.chance, coalesce(p.code, 'none'),
		                               p.responded_at, p.recorded_at, p.lost_at) END)
		  FROM witness.further f
		  JOIN witness.attempt a USING (attempt_id)
		  LEFT JOIN witness.attempt p ON p.attempt_id = f.previous_id
		 WHERE NOT f.waits AND f.ended IS NULL`}},

	{"I5", "Every row of every file is a contact, a duplicate or a reject, and contacts have the numbers 1 to n.", []string{`
		SELECT format('import %s of campaign %s: %s rows are not %s contacts + %s duplicates + %s rejects', import_id, campaign_id, rows, contacts, duplicates, rejects)
		  FROM import
		 WHERE rows <> contacts + duplicates + rejects`, `
		SELECT format('import %s of campaign %s: %s contacts, of which %s are there', i.import_id, i.campaign_id, i.contacts, count(k.n))
		  FROM import i
		  LEFT JOIN contact k ON k.account_id = i.account_id AND k.campaign_id = i.campaign_id AND k.n BETWEEN i.first_n AND i.last_n
		 GROUP BY i.import_id, i.campaign_id, i.contacts HAVING count(k.n) <> i.contacts`, `
		SELECT format('campaign %s: %s contacts up to number %s, %s were imported', c.campaign_id, count(k.n), coalesce(max(k.n), 0), i.contacts)
		  FROM campaign c
		 CROSS JOIN LATERAL (SELECT coalesce(sum(contacts), 0) AS contacts FROM import WHERE account_id = c.account_id AND campaign_id = c.campaign_id) i
		  LEFT JOIN contact k ON k.account_id = c.account_id AND k.campaign_id = c.campaign_id
		 GROUP BY c.campaign_id, i.contacts HAVING count(k.n) <> i.contacts OR coalesce(max(k.n), 0) <> i.contacts`, `
		SELECT format('campaign %s, contact %s: %s for a contact that does not exist or has another number', x.campaign_id, x.n, x.what)
		  FROM (SELECT account_id, campaign_id, n, phone, 'an attempt' AS what FROM attempt
		        UNION ALL SELECT account_id, campaign_id, n, NULL, 'a skip' FROM skip
		        UNION ALL SELECT account_id, campaign_id, n, NULL, 'a due row' FROM due) x
		  LEFT JOIN contact k ON k.account_id = x.account_id AND k.campaign_id = x.campaign_id AND k.n = x.n
		 WHERE k.n IS NULL OR x.phone <> k.phone`}},

	{"I5b", "Nobody is forgotten: a contact that is used up was called, skipped or waits, and one that may be called again waits.", []string{`
		SELECT format('campaign %s, contact %s (%s): %s', k.campaign_id, k.n, masked(k.phone),
		              CASE WHEN k.n <= coalesce(u.upto_n, 0) THEN 'the cursor is past it, and it was not called, is not skipped and does not wait'
		                   ELSE 'the cursor is before it, and yet it was called, is skipped or waits' END)
		  FROM witness.contact k
		  LEFT JOIN (SELECT DISTINCT ON (campaign_id) campaign_id, upto_n FROM batch ORDER BY campaign_id, seq DESC) u USING (campaign_id)
		 WHERE (k.n <= coalesce(u.upto_n, 0)) <> (k.last_attempt_id IS NOT NULL OR k.skipped OR k.waits)`, `
		SELECT format('campaign %s, contact %s (%s): skipped, and yet it waits or was called later', k.campaign_id, k.n, masked(k.phone))
		  FROM witness.contact k
		  LEFT JOIN witness.attempt a ON a.attempt_id = k.last_attempt_id
		 WHERE k.skipped AND (k.waits OR a.intent_at > k.skipped_at)`, `
		SELECT format('%s is to be called again and does not wait', witness.label(a))
		  FROM witness.contact k
		  JOIN witness.attempt a ON a.attempt_id = k.last_attempt_id
		  -- By every version of the file: which one was in force is not written down.
		  JOIN (SELECT campaign_id, min(max_attempts) AS max_attempts, bool_and(redial) AS redial, count(*) AS versions FROM witness.spec GROUP BY campaign_id) s
		       ON s.campaign_id = k.campaign_id
		 WHERE NOT k.waits AND NOT k.skipped AND a.try < 1023
		   AND CASE WHEN a.class IN ('throttled', 'refused', 'unsent') THEN
		                 -- After a contradiction a person decides.
		                 a.outcome IS NULL AND CASE WHEN a.class <> 'refused' THEN true
		                                            WHEN a.counts THEN a.chance < s.max_attempts
		                                            ELSE a.code <> ALL (` + finalCodes + `) END
		            WHEN k.campaign_state = 'cancelled' THEN false
		            WHEN a.outcome IS NOT NULL THEN
		                 s.versions = (SELECT count(*) FROM witness.retry y WHERE y.campaign_id = a.campaign_id AND y.outcome = a.outcome AND y.chance = a.chance)
		            ELSE a.lost_at IS NOT NULL AND s.redial AND a.chance < s.max_attempts END`}},

	{"I6", "When all is quiet nothing is under way, and a run that is done has left nobody over.", []string{`
		SELECT format('%s: still %s', witness.label(a), state)
		  FROM witness.rules, witness.attempt a
		 WHERE quiescent AND state IN ('dialing', 'accepted', 'unknown')`, `
		SELECT format('account %s: %s pushes are in the inbox', account_id, count(*))
		  FROM witness.rules, inbox
		 WHERE quiescent
		 GROUP BY account_id`, `
		SELECT format('campaign %s, contact %s (%s): %s, and yet run %s is done', k.campaign_id, k.n, masked(k.phone), k.state, u.run_id)
		  FROM (SELECT DISTINCT ON (campaign_id) * FROM run WHERE started_at IS NOT NULL ORDER BY campaign_id, started_at DESC) u
		  JOIN witness.contact k USING (campaign_id)
		 WHERE u.end_reason = 'done' AND k.state IN ('pending', 'open')
		   AND NOT EXISTS (SELECT FROM import i WHERE i.campaign_id = u.campaign_id AND i.imported_at > u.ended_at - interval '1 minute')`}},
}
