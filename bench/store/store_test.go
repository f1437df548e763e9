package store

import (
	"context"
	"fmt"
	"io"
	"testing"

	"dialer/bench/internal/lab"
)

// testServer starts a server for a test, in the short form.
func testServer(t *testing.T) *server {
	t.Helper()
	l, err := lab.Open(false, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s, err := start(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return s
}

// What is measured must be what happens in production: nobody is left out, whoever is
// suppressed or called too often is not called, and every call gets its outcome.
func TestADrainDoesTheWholeWork(t *testing.T) {
	s := testServer(t)
	w, err := newWorld(t.Context(), s.admin, "ledger", Scale{Accounts: 2, Contacts: 4000, History: 8000, Suppressed: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	const each = 1000
	cost, err := s.measure(t.Context(), 2*each, func() (did, error) {
		return w.dialAll(t.Context(), w.sets, drain{contacts: each, batch: 50})
	})
	if err != nil {
		t.Fatal(err)
	}
	// One contact in 100 is throttled at first, and some of those have had their second
	// attempt by now.
	redialled := count(t, w, `SELECT count(*) FROM attempt a JOIN campaign c USING (campaign_id) WHERE c.name LIKE 'dialled%' AND a.try = 2`)
	if got := cost.did.attempts - redialled + cost.did.suppressed + cost.did.held; got != 2*each {
		t.Errorf("%d attempts, %d of them second ones, %d suppressed, %d held: of %d contacts, %d", cost.did.attempts, redialled, cost.did.suppressed, cost.did.held, 2*each, got)
	}
	if cost.did.suppressed == 0 || cost.did.held == 0 {
		t.Errorf("%d suppressed, %d held; some of each must be among the contacts", cost.did.suppressed, cost.did.held)
	}
	const ended = `
		SELECT count(*) FROM response r
		  JOIN attempt a USING (account_id, attempt_id)
		  JOIN campaign c USING (campaign_id)
		  %s JOIN outcome o ON o.account_id = r.account_id AND o.attempt_id = r.attempt_id
		 WHERE c.name LIKE 'dialled%%' AND r.class = 'accepted'`
	accepted, ends := count(t, w, fmt.Sprintf(ended, "LEFT")), count(t, w, fmt.Sprintf(ended, ""))
	if accepted == 0 || ends != accepted {
		t.Errorf("%d calls were accepted, %d have an outcome", accepted, ends)
	}
	if n := count(t, w, `SELECT count(*) FROM inbox`); n != 0 {
		t.Errorf("%d pushes are not applied", n)
	}
	if cost.cpu <= 0 || cost.wal <= 0 || cost.intents.at(0.5) <= 0 {
		t.Errorf("nothing was measured: %s", cost)
	}
}

func TestABatchClaimFinishesEveryTask(t *testing.T) {
	s := testServer(t)
	c, err := newClaims(t.Context(), s.admin, "claims", 100, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if _, err := c.work(t.Context(), 900, 100, 3); err != nil {
		t.Fatal(err)
	}
	var finished int
	if err := c.pool.QueryRow(t.Context(), `SELECT count(*) FROM task WHERE status = 2 AND call_id IS NOT NULL`).Scan(&finished); err != nil || finished != 1000 {
		t.Errorf("%d tasks are finished, %v; want 1000", finished, err)
	}
	if _, err := c.work(t.Context(), 200, 100, 1); err == nil {
		t.Error("a queue of 100 gave 200 tasks")
	}
}

func count(t *testing.T, w *world, query string) (n int) {
	t.Helper()
	if err := w.pool.QueryRow(context.Background(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
