package postgres_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestTheReaderSeesReportsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dial("c", 13800000000, 2)
	as := func(query string) error {
		return pgx.BeginFunc(t.Context(), w.db.Pool(), func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `SET LOCAL ROLE dialer_reader`); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), query)
			return err
		})
	}
	for _, view := range []string{"attempt", "contact", "campaign", "outcome", "hour", "caller_id", "run", "import", "suppression", "incident", "settlement"} {
		if err := as(`SELECT * FROM report.` + view); err != nil {
			t.Errorf("report.%s: %v", view, err)
		}
	}
	for _, table := range []string{"contact", "attempt", "instance", "inbox", "suppression", "receipt"} {
		if as(`SELECT * FROM public.`+table) == nil {
			t.Errorf("the reader sees %s", table)
		}
	}
	w.count(0, `SELECT count(*) FROM report.contact WHERE phone !~ '^138\*{4}\d{4}$'`)
}

func TestAskReadsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var names []string
	var rows [][]any
	ask := func(q string) error {
		return w.db.Ask(t.Context(), q, func(n []string) { names = n }, func(r []any) { rows = append(rows, r) })
	}
	w.must(ask(`SELECT 1.50 AS a, NULL AS b`))
	if len(names) != 2 || names[1] != "b" || len(rows) != 1 || rows[0][0] != "1.50" || rows[0][1] != nil {
		t.Errorf("%v %v", names, rows)
	}
	if ask(`DELETE FROM suppression`) == nil {
		t.Error("a question changed something")
	}
}
