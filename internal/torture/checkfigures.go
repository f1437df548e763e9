package torture

// The figures that people are shown.
var figureInvariants = []Invariant{
	{"I14", "The figures of a campaign are those of its contacts and attempts, counted row by row, and add up.", []string{`
		SELECT format('campaign %s: %s %s by report.campaign, %s counted', c.campaign_id, shown, what, coalesce(counted, 0))
		  FROM report.campaign c
		  LEFT JOIN (SELECT campaign_id, count(*) AS imported,
		                    count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FILTER (WHERE state = 'open') AS open, count(*) FILTER (WHERE state = 'done') AS done,
		                    count(*) FILTER (WHERE state = 'suppressed') AS suppressed, count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
		                    count(*) FILTER (WHERE state = 'expired') AS expired, count(*) FILTER (WHERE state = 'unknown') AS unknown
		               FROM witness.contact GROUP BY campaign_id) k USING (campaign_id)
		  LEFT JOIN (SELECT campaign_id, count(*) AS attempts, count(*) FILTER (WHERE class = 'accepted') AS accepted, count(*) FILTER (WHERE class = 'throttled') AS throttled,
		                    count(*) FILTER (WHERE class = 'refused') AS refused, count(*) FILTER (WHERE class = 'unsent') AS unsent, count(*) FILTER (WHERE class = 'unknown') AS doubtful,
		                    count(*) FILTER (WHERE outcome = 'answered') AS answered
		               FROM witness.attempt GROUP BY campaign_id) a USING (campaign_id)
		 CROSS JOIN LATERAL (VALUES
		       ('contacts', c.imported, k.imported), ('pending', c.pending, k.pending), ('open', c.open, k.open), ('done', c.done, k.done), ('suppressed', c.suppressed, k.suppressed),
		       ('cancelled', c.cancelled, k.cancelled), ('expired', c.expired, k.expired), ('unknown', c.unknown, k.unknown),
		       ('attempts', c.attempts, a.attempts), ('accepted', c.accepted, a.accepted), ('throttled', c.throttled, a.throttled), ('refused', c.refused, a.refused),
		       ('unsent', c.unsent, a.unsent), ('doubtful', c.doubtful, a.doubtful), ('answered', c.answered, a.answered),
		       ('contacts in all states together', c.pending + c.open + c.done + c.suppressed + c.cancelled + c.expired + c.unknown, k.imported)) v (what, shown, counted)
		 WHERE shown <> coalesce(counted, 0)`, `
		SELECT format('campaign %s: %s contacts are %s by report.contact, %s by the ledger', campaign_id, coalesce(r.n, 0), state, coalesce(k.n, 0))
		  FROM (SELECT campaign_id, state::text, count(*) AS n FROM report.contact GROUP BY 1, 2) r
		  FULL JOIN (SELECT campaign_id, state, count(*) AS n FROM witness.contact GROUP BY 1, 2) k USING (campaign_id, state)
		 WHERE r.n IS DISTINCT FROM k.n`}},

	{"I14b", "Every running total is the count of its rows, and never goes back.", []string{`
		SELECT format('campaign %s: %s is %s by the running totals, %s by its rows', campaign_id, label, coalesce(shown, 0), coalesce(counted, 0))
		  FROM (SELECT campaign_id, label, sum(total) AS shown
		          FROM (SELECT DISTINCT ON (campaign_id, label, node_id) campaign_id, label, total FROM progress ORDER BY campaign_id, label, node_id, seq DESC) p
		         WHERE label LIKE 'response:%' OR label LIKE 'outcome:%' OR label = 'closed'
		         GROUP BY campaign_id, label) p
		  FULL JOIN (SELECT campaign_id, 'response:' || class AS label, count(*) AS counted FROM witness.attempt WHERE class IS NOT NULL GROUP BY 1, 2
		             UNION ALL SELECT campaign_id, 'outcome:' || outcome, count(*) FROM witness.attempt WHERE outcome IS NOT NULL GROUP BY 1, 2
		             UNION ALL SELECT campaign_id, 'closed', count(*) FROM witness.attempt a
		                        WHERE lost_at IS NOT NULL OR outcome IS NOT NULL OR class IN ('throttled', 'refused', 'unsent')
		                           OR EXISTS (SELECT FROM settlement s WHERE s.account_id = a.account_id AND s.attempt_id = a.attempt_id) GROUP BY 1) c USING (campaign_id, label)
		 WHERE coalesce(shown, 0) <> coalesce(counted, 0)`, `
		SELECT format('campaign %s, node %s: %s goes from %s back to %s', campaign_id, node_id, label, last, total)
		  FROM (SELECT p.*, lag(total) OVER (PARTITION BY account_id, campaign_id, label, node_id ORDER BY seq) AS last FROM progress p WHERE label <> 'unknown') p
		 WHERE total < last`}},

	{"I14c", "By campaign and outcome we count the calls that the platform made and told us of.", []string{`
		WITH apart AS (
			-- The answer to a query may be vaguer than the truth; of one request with two calls,
			-- by a fault of the platform, either may be the outcome.
			SELECT attempt_id, campaign_id, outcome FROM witness.attempt a
			 WHERE source = 'query' OR EXISTS (SELECT FROM witness.request r WHERE r.attempt_id = a.attempt_id AND r.second_id <> '')
		), shown AS (
			SELECT campaign_id, outcome, sum(n) AS n
			  FROM (SELECT campaign_id, outcome::text, calls AS n FROM report.outcome
			        UNION ALL
			        SELECT campaign_id, outcome, -1 FROM apart WHERE outcome IS NOT NULL) s
			 GROUP BY campaign_id, outcome HAVING sum(n) <> 0
		), truth AS (
			SELECT a.campaign_id, k.outcome, count(DISTINCT a.attempt_id) AS n
			  FROM witness.report p
			  JOIN witness.attempt a USING (attempt_id)
			  JOIN witness.call k ON k.call_id = p.call_id
			 WHERE p.report = 'VoiceReport' AND (p.acked > 0 OR p.receipts > 0) AND a.attempt_id NOT IN (SELECT attempt_id FROM apart)
			 GROUP BY a.campaign_id, k.outcome
		)
		SELECT format('campaign %s: %s calls are %s by report.outcome, %s in truth', campaign_id, coalesce(s.n, 0), outcome, coalesce(t.n, 0))
		  FROM shown s
		  FULL JOIN truth t USING (campaign_id, outcome)
		 WHERE s.n IS DISTINCT FROM t.n AND (SELECT quiescent AND NOT torn FROM witness.rules)`}},
}
