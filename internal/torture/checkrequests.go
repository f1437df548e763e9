package torture

// What arrived at the platform, and when.
var requestInvariants = []Invariant{
	{"I1", "No OutId has more than one accepted request.", []string{`
		SELECT format('OutId %s has %s accepted requests, with the CallIds %s', out_id, count(*), string_agg(call_id, ', ' ORDER BY line))
		  FROM witness.request
		 WHERE verdict = 'accepted' AND out_id <> ''
		 GROUP BY out_id HAVING count(*) > 1`, `
		-- The simulator remembers every OutId; a fault of its own may double a call.
		SELECT format('OutId %s had a call before the one with CallId %s', out_id, call_id)
		  FROM witness.request
		 WHERE repeat AND fault <> 'ring_twice'`}},

	{"I1b", "No phone is rung for an account while it rings or talks for it already.", []string{`
		SELECT format('%s is called at %s (OutId %s) while a call before it lasts until %s', masked(phone), wall, out_id, nullif(busy_until, 'infinity'))
		  FROM (SELECT r.*, max(coalesce(k.ended_at, 'infinity')) OVER (PARTITION BY r.account, r.phone ORDER BY r.wall, r.line
		                                                                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS busy_until
		          FROM witness.request r
		          LEFT JOIN witness.call k ON k.call_id = r.call_id
		         WHERE r.verdict = 'accepted' AND r.phone IN (SELECT phone FROM witness.request WHERE verdict = 'accepted' GROUP BY phone HAVING count(*) > 1)) s
		 WHERE wall < busy_until`}},

	{"I2", "Every request that arrived had an intent before it, for that number and with that number shown.", []string{`
		SELECT CASE WHEN a.attempt_id IS NULL THEN format('a request at %s with OutId %s to %s names no attempt (answered %s)', r.wall, coalesce(nullif(r.out_id, ''), 'none'), coalesce(masked(r.phone), 'no number'), r.code)
		            WHEN a.phone IS DISTINCT FROM r.phone THEN format('%s: the request was to %s', witness.label(a), masked(r.phone))
		            WHEN a.caller_id <> r.caller THEN format('%s: the request showed another number', witness.label(a))
		            ELSE format('%s: the request arrived at %s, the intent is of %s', witness.label(a), r.wall, a.intent_at) END
		  FROM witness.rules
		 CROSS JOIN witness.request r
		  LEFT JOIN witness.attempt a USING (attempt_id)
		 WHERE a.attempt_id IS NULL OR a.phone IS DISTINCT FROM r.phone OR a.caller_id <> r.caller OR a.intent_at > r.wall + clock`}},

	{"I2b", "An attempt is at most one request on the wire, whatever was answered.", []string{`
		SELECT format('OutId %s arrived %s times: %s', out_id, count(*), string_agg(verdict, ', ' ORDER BY line))
		  FROM witness.request
		 WHERE out_id <> ''
		 GROUP BY out_id HAVING count(*) > 1`}},

	{"I2c", "No request is written after its send_by.", []string{`
		SELECT format('%s: written at %s, to be sent by %s', witness.label(a), sent_at, send_by)
		  FROM witness.attempt a
		 WHERE sent_at > send_by`, `
		SELECT format('%s: arrived at %s, to be sent by %s', witness.label(a), last_arrived_at, send_by)
		  FROM witness.rules
		 CROSS JOIN witness.attempt a
		 WHERE last_arrived_at > send_by + transit + clock`}},

	{"I9", "Not one sliding second holds more requests than the account's limit.", []string{`
		SELECT format('account %s: %s requests in the second until %s, the limit is %s', account, within, wall, most)
		  FROM witness.second
		  JOIN witness.rate USING (account)
		 WHERE within > most`}},

	{"I10", "Every intent and every arrival lies in a window of the campaign.", []string{`
		WITH closed AS MATERIALIZED (
			-- Windows begin and end with a minute, so one look at each minute is enough.
			SELECT campaign_id, version, minute, zone
			  FROM (SELECT DISTINCT campaign_id, version, date_trunc('minute', intent_at) AS minute FROM witness.attempt
			        UNION
			        SELECT DISTINCT campaign_id, version, date_trunc('minute', first_arrived_at) FROM witness.attempt
			        UNION
			        SELECT DISTINCT campaign_id, version, date_trunc('minute', last_arrived_at) FROM witness.attempt) m
			  JOIN witness.spec s USING (campaign_id, version)
			 CROSS JOIN LATERAL (SELECT extract(hour FROM minute AT TIME ZONE zone) * 60 + extract(minute FROM minute AT TIME ZONE zone) AS of_day) t
			 WHERE minute IS NOT NULL AND NOT EXISTS (
			       SELECT FROM witness.open o
			        WHERE o.campaign_id = s.campaign_id AND o.version = s.version
			          AND CASE WHEN from_minute < to_minute THEN of_day >= from_minute AND of_day < to_minute ELSE of_day >= from_minute OR of_day < to_minute END)
		)
		SELECT format('%s: intended at %s, arrived at %s, %s', witness.label(a), (a.intent_at AT TIME ZONE zone)::time(0), (a.last_arrived_at AT TIME ZONE zone)::time(0), zone)
		  FROM witness.attempt a
		  JOIN closed c ON c.campaign_id = a.campaign_id AND c.version = a.version
		   AND c.minute IN (date_trunc('minute', a.intent_at), date_trunc('minute', a.first_arrived_at), date_trunc('minute', a.last_arrived_at))`}},

	{"I11", "Nobody on the list of suppressed numbers is called by an intent after the entry.", []string{`
		SELECT format('%s: suppressed at %s, intended at %s, arrived at %s', coalesce(witness.label(a), masked(r.phone)), s.added_at, a.intent_at, r.wall)
		  FROM witness.rules
		 CROSS JOIN witness.request r
		  JOIN suppression s USING (phone)
		  LEFT JOIN witness.attempt a USING (attempt_id)
		 WHERE coalesce(a.intent_at, r.wall) > s.added_at + commit + clock AND (s.until IS NULL OR s.until > coalesce(a.intent_at, r.wall))`}},

	{"I12", "No number is called more often than the caps permit, over all campaigns of its account.", []string{`
		SELECT format('%s: call %s within %s, the cap is %s', witness.label(a), most, span, cap)
		  FROM (SELECT attempt_id, campaign_id, version,
		               count(*) OVER (PARTITION BY account_id, phone ORDER BY intent_at RANGE BETWEEN interval '59.999999 seconds' PRECEDING AND CURRENT ROW) AS minute,
		               count(*) OVER (PARTITION BY account_id, phone ORDER BY intent_at RANGE BETWEEN interval '23:59:59.999999'   PRECEDING AND CURRENT ROW) AS day,
		               count(*) OVER (PARTITION BY account_id, phone ORDER BY intent_at RANGE BETWEEN interval '719:59:59.999999'  PRECEDING AND CURRENT ROW) AS month
		          FROM witness.attempt
		         -- What rang counts, whatever we believe of it.
		         WHERE (counts IS NOT FALSE OR calls > 0)
		           AND phone IN (SELECT phone FROM witness.attempt GROUP BY phone HAVING count(*) > 1)) c
		  JOIN witness.spec s USING (campaign_id, version)
		  JOIN witness.attempt a USING (attempt_id)
		 CROSS JOIN LATERAL (VALUES (minute, 'a minute', per_minute), (day, '24 hours', per_day), (month, '30 days', per_30_days)) v (most, span, cap)
		 WHERE cap > 0 AND most > cap`}},

	{"I17", "Every OutId that arrived has 15 characters of 0-9 and A-Z, and is one of ours; database and program name an attempt alike.", []string{`
		SELECT format('a request at %s has the OutId %s', wall, coalesce(nullif(out_id, ''), 'none'))
		  FROM witness.request
		 WHERE out_id !~ '^[0-9A-Z]{15}$' OR attempt_id IS NULL`, `
		SELECT format('attempt %s is %s to the program and %s to the database', attempt_id, out_id, out_id(attempt_id))
		  FROM (SELECT * FROM witness.name ORDER BY out_id LIMIT 100) sample
		 WHERE out_id(attempt_id) <> out_id OR attempt_id(out_id) IS DISTINCT FROM attempt_id`}},
}
