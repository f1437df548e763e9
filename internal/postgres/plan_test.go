package postgres_test

import (
	"testing"
	"time"
)

// Plans are made once per connection, often before there is anything to plan for.
func TestAPlanOfAnEmptyLedgerDoesNotReadItWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 40)
	w.exec(`VACUUM ANALYZE`) // the server knows now that the ledger is empty
	before := w.scans()
	for n := range 10 {
		at := w.now.Add(time.Duration(n) * time.Second)
		for _, attempt := range w.intend(id, at, w.fresh(id, int32(4*n), 4)...) {
			w.respond(w.accepted(attempt, "call"))
			w.push(receipt(attempt, "call", "answered", 1))
		}
	}
	for table, n := range w.scans() {
		if n > before[table] {
			t.Errorf("%s was read from end to end %d times", table, n-before[table])
		}
	}
}

// scans returns how often each table that grows was read from end to end.
func (w *world) scans() map[string]int64 {
	w.Helper()
	w.exec(`SELECT pg_stat_force_next_flush()`)
	w.db.Pool().Reset() // a connection reports what it did when it ends
	w.eventually(`SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'`)
	scans := make(map[string]int64)
	rows, err := w.db.Pool().Query(w.Context(), `
		SELECT relname, seq_scan FROM pg_stat_user_tables
		 WHERE relname IN ('contact', 'batch', 'attempt', 'response', 'receipt', 'outcome', 'lost', 'skip', 'due', 'settlement', 'progress', 'inbox', 'suppression')`)
	w.must(err)
	defer rows.Close()
	for rows.Next() {
		var table string
		var n int64
		w.must(rows.Scan(&table, &n))
		scans[table] = n
	}
	w.must(rows.Err())
	return scans
}
