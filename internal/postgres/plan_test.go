package postgres_test

import (
	"testing"
	"time"

	"dialer/internal/campaign"
)

// Plans are made once per connection, often before there is anything to plan for, and
// stay in force while the ledger grows: each row must be found by its whole key.
func TestAPlanOfAnEmptyLedgerDoesNotReadItWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 44)
	w.exec(`VACUUM ANALYZE`) // the server knows now that the ledger is empty
	before := w.scans()
	walk := func(n int) {
		at := w.now.Add(time.Duration(n) * time.Second)
		var ends []campaign.Receipt
		for _, attempt := range w.intend(id, at, w.fresh(id, int32(4*n), 4)...) {
			w.respond(w.accepted(attempt, "call"))
			ends = append(ends, receipt(attempt, "call", campaign.Answered, 1))
		}
		w.push(ends...)
	}
	walk(0)
	const rows, walks = 2000, 10
	for table, columns := range map[string]string{
		"attempt":    `phone, intent_at, send_by, campaign_id, n, node_id, try, chance, caller_id) SELECT $1, id, 15000000000 + n, now(), now() + interval '1 s', 999, n, 1, 1, 1, 'x'`,
		"response":   `class, counts, answered_at, code) SELECT $1, id, 'refused', false, now(), 'x'`,
		"outcome":    `outcome, call_id, status_code, status_msg, smart_status_code, early_media_code, hangup, talk_s, source, recorded_at) SELECT $1, id, 'busy', '', '', '', '', '', '', 0, 'push', now()`,
		"lost":       `at, note) SELECT $1, id, now(), ''`,
		"settlement": `verdict, redial, reason, person, settled_at) SELECT $1, id, 'not_called', false, 'x', 'y', now()`,
	} {
		w.exec(`INSERT INTO `+table+` (account_id, attempt_id, `+columns+` FROM generate_series(1, $2::int) n, LATERAL (SELECT (999::bigint << 41) | (n::bigint << 10) | 1 AS id) i`, w.account, rows)
	}
	for n := range walks {
		walk(n + 1)
	}
	for table, after := range w.scans() {
		if n := after.whole - before[table].whole; n > 0 {
			t.Errorf("%s was read from end to end %d times", table, n)
		}
		if n := after.rows - before[table].rows; n > rows {
			t.Errorf("%d rows of %s were read for %d contacts", n, table, 4*walks)
		}
	}
}

// read is what was read of a table so far.
type read struct {
	whole int64 // how often from end to end
	rows  int64 // by an index
}

// scans returns what was read of each table that grows.
func (w *world) scans() map[string]read {
	w.Helper()
	w.db.Pool().Reset() // a connection reports what it did when it ends
	w.eventually(`SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'`)
	scans := make(map[string]read)
	rows, err := w.db.Pool().Query(w.Context(), `
		SELECT t.relname, t.seq_scan, (SELECT sum(i.idx_tup_read)::bigint FROM pg_stat_user_indexes i WHERE i.relid = t.relid)
		  FROM pg_stat_user_tables t
		 WHERE t.relname IN ('contact', 'batch', 'attempt', 'response', 'receipt', 'outcome', 'lost', 'skip', 'due', 'settlement', 'progress', 'inbox', 'suppression')`)
	w.must(err)
	defer rows.Close()
	for rows.Next() {
		var table string
		var r read
		w.must(rows.Scan(&table, &r.whole, &r.rows))
		scans[table] = r
	}
	w.must(rows.Err())
	return scans
}
