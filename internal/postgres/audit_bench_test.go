package postgres_test

import "testing"

// ledgerOf fills a campaign's ledger as a long night leaves it: of 100 contacts 3 are
// throttled and dialled again, 1 is refused, 1 is unknown and lost, the others end.
const ledgerOf = `
	WITH c AS (SELECT account_id, campaign_id FROM campaign WHERE campaign_id = $1),
	i AS (INSERT INTO import (account_id, campaign_id, file, sha256, rows, contacts, duplicates, rejects, first_n, last_n, imported_at)
	      SELECT account_id, campaign_id, 'made up', sha256(''), $2, $2, 0, 0, 1, $2, now() FROM c),
	k AS (INSERT INTO contact SELECT account_id, campaign_id, n, 13000000000 + n * 7919::bigint % 1999999973, '{"name":"x"}', n + 1 FROM c, generate_series(1, $2) n),
	t AS MATERIALIZED (SELECT account_id, campaign_id, n, try, (campaign_id::bigint << 41) | (n::bigint << 10) | try AS id, now() - interval '1 hour' + n * interval '1 ms' + (try - 1) * interval '20 minutes' AS at,
	             CASE WHEN n % 100 < 3 AND try = 1 THEN 'throttled' WHEN n % 100 = 3 THEN 'refused' WHEN n % 100 = 4 THEN 'unknown' ELSE 'accepted' END::response_class AS class
	        FROM c, generate_series(1, $2) n, generate_series(1, CASE WHEN n % 100 < 3 THEN 2 ELSE 1 END) try),
	a AS (INSERT INTO attempt SELECT account_id, id, 13000000000 + n * 7919::bigint % 1999999973, at, at + interval '5 s', campaign_id, n, 1, try, 1, '057100000000' FROM t),
	r AS (INSERT INTO response SELECT account_id, id, class, class IN ('accepted', 'unknown'), at + interval '3 ms', at + interval '30 ms', class::text, '', CASE class WHEN 'accepted' THEN md5(id::text) END, NULL FROM t),
	e AS (INSERT INTO receipt SELECT account_id, id, sha256(id::text::bytea), at + interval '1 minute', 'report', true, '{}' FROM t WHERE class = 'accepted'),
	o AS (INSERT INTO outcome SELECT account_id, id, 'answered', md5(id::text), '200000', '', '', '', '', 7, NULL, NULL, NULL, 'push', at + interval '1 minute' FROM t WHERE class = 'accepted'),
	l AS (INSERT INTO lost SELECT account_id, id, now(), '' FROM t WHERE class = 'unknown'),
	b AS (INSERT INTO batch SELECT account_id, 1, campaign_id, 1, 1, now(), $2, (SELECT count(*) FROM t), 0 FROM c)
	INSERT INTO progress
	SELECT account_id, campaign_id, label, 1, 1, n FROM c, (
	       SELECT 'response:' || class AS label, count(*) AS n FROM t GROUP BY 1
	       UNION ALL SELECT 'closed', count(*) FROM t
	       UNION ALL SELECT 'unknown', count(*) FROM t WHERE class = 'unknown'
	       UNION ALL SELECT 'outcome:answered', count(*) FROM t WHERE class = 'accepted') x`

func BenchmarkAudit(b *testing.B) {
	const contacts = 1_000_000
	w := newWorld(b)
	id := w.running("c", 13800000000, 0)
	w.exec(`UPDATE run SET started_at = now() - interval '2 hours'`)
	w.exec(`UPDATE account SET spec = jsonb_set(spec, '{limit}', '1000')`)
	w.exec(ledgerOf, id, contacts)
	w.exec(`VACUUM ANALYZE`)
	for b.Loop() {
		a, err := w.db.Audit(b.Context(), 0, 20)
		if err != nil {
			b.Fatal(err)
		}
		if len(a.Findings) > 0 || a.Campaigns[0].Unknown != contacts/100 {
			b.Fatalf("findings %+v of %+v", a.Findings, a.Campaigns)
		}
	}
}
