package torture

// What we believe, beside what happened.
var truthInvariants = []Invariant{
	{"I7", "Every outcome is what happened, and every call whose final report was acknowledged has one.", []string{`
		SELECT format('%s: %s, %s s, status %s, smart %s, early media %s, CallId %s by %s; in truth %s', witness.label(a), a.outcome, a.talk_s, a.status_code, a.smart_status_code, a.early_media_code,
		              a.ended_call_id, a.source, CASE WHEN k.call_id IS NULL THEN 'there is no such call' ELSE
		              format('%s, %s s, status %s, smart %s, early media %s', k.outcome, k.duration_s, k.status_code, k.smart_status_code, k.early_media_code) END)
		  FROM witness.rules
		 CROSS JOIN witness.attempt a
		  LEFT JOIN witness.call k ON k.call_id = a.ended_call_id AND k.attempt_id = a.attempt_id
		 WHERE a.outcome IS NOT NULL AND NOT (torn AND k.call_id IS NULL)
		   AND CASE a.source
		       WHEN 'push' THEN (k.outcome, k.duration_s, k.status_code, k.smart_status_code, k.early_media_code)
		                        IS DISTINCT FROM (a.outcome, a.talk_s, a.status_code, a.smart_status_code, a.early_media_code)
		       -- The answer to a query holds less, so that a failed call's outcome may be vaguer.
		       ELSE (k.outcome = 'answered', k.duration_s, k.status_code) IS DISTINCT FROM (a.outcome = 'answered', a.talk_s, a.status_code) END`, `
		SELECT format('%s: the final report on CallId %s was acknowledged, and there is no outcome', witness.label(a), r.call_id)
		  FROM witness.report r
		  JOIN witness.attempt a USING (attempt_id)
		 WHERE r.report = 'VoiceReport' AND r.acked > 0 AND r.inbox = 0 AND a.outcome IS NULL`, `
		SELECT format('%s: the outcome is said to come from a query, and none about CallId %s was answered', witness.label(a), a.ended_call_id)
		  FROM witness.rules
		 CROSS JOIN witness.attempt a
		 WHERE a.source = 'query' AND NOT torn
		   AND NOT EXISTS (SELECT FROM witness.query q WHERE q.call_id = a.ended_call_id AND q.attempt_id = a.attempt_id AND q.verdict = 'accepted')`}},

	{"I7b", "Every accepted call is one that we know may have been made.", []string{`
		SELECT format('%s: CallId %s was placed at %s', coalesce(witness.label(a), 'no attempt'), r.call_id, r.wall)
		  FROM witness.rules
		 CROSS JOIN witness.request r
		  LEFT JOIN witness.attempt a USING (attempt_id)
		 WHERE r.verdict = 'accepted'
		   AND (a.state IS NULL OR a.state NOT IN ('accepted', 'ended', 'unknown', 'lost', 'dialing') OR (quiescent AND a.state = 'dialing'))`}},

	{"I8", "Every report that we acknowledged is stored, once, and none is stored that was not pushed.", []string{`
		SELECT format('%s on CallId %s (OutId %s): acknowledged %s, stored %s as receipts, %s in the inbox, %s as strangers', report, call_id, out_id, acked, receipts, inbox, strangers)
		  FROM witness.report
		 WHERE acked > receipts + inbox + strangers OR receipts > pushed AND pushed > 0`, `
		SELECT format('%s on CallId %s (OutId %s): stored %s times, and never pushed', report, call_id, out_id, receipts)
		  FROM witness.rules, witness.report
		 WHERE pushed = 0 AND receipts > 0 AND quiescent AND NOT torn`}},

	{"I13", "What we wrote down as an answer is what was answered: nobody was rung by a request that was throttled, refused or not sent.", []string{`
		SELECT format('%s: answered %s (code %s, CallId %s), but %s', witness.label(a), a.class, a.code, coalesce(a.call_id, 'none'),
		              CASE WHEN a.arrivals = 0 THEN 'no request arrived'
		                   ELSE (SELECT format('the platform %s it (code %s, CallId %s)', verdict, code, coalesce(nullif(call_id, ''), 'none'))
		                           FROM witness.request r WHERE r.attempt_id = a.attempt_id ORDER BY verdict LIMIT 1) END)
		  FROM witness.rules
		 CROSS JOIN witness.attempt a
		 WHERE CASE a.class
		       WHEN 'unsent'    THEN a.arrivals > 0
		       WHEN 'accepted'  THEN NOT (torn AND a.arrivals = 0) AND NOT EXISTS (
		                             SELECT FROM witness.request r WHERE r.attempt_id = a.attempt_id AND r.verdict = 'accepted' AND a.call_id IN (r.call_id, r.second_id))
		       WHEN 'unknown'   THEN false
		       -- Refused by ourselves, before anything was sent.
		       WHEN 'refused'   THEN a.arrivals > 0 AND NOT EXISTS (SELECT FROM witness.request r WHERE r.attempt_id = a.attempt_id AND r.verdict IN ('refused', 'throttled'))
		                             OR a.arrivals = 0 AND a.sent_at IS NOT NULL AND NOT torn OR a.calls > 0
		       WHEN 'throttled' THEN a.calls > 0 OR a.arrivals = 0 AND NOT torn
		                             OR a.arrivals > 0 AND NOT EXISTS (SELECT FROM witness.request r WHERE r.attempt_id = a.attempt_id AND r.verdict IN ('refused', 'throttled')) END`}},
}
