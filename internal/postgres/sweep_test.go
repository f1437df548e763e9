package postgres_test

import (
	"testing"
	"time"

	"dialer/internal/campaign"
)

func (w *world) lose(want int) {
	w.Helper()
	ids, err := w.db.Lose(w.Context(), w.account, w.lease.Node, w.now.Add(-time.Hour), w.now, w.now)
	if err != nil || len(ids) != want {
		w.Errorf("lost %v, %v; want %d", ids, err, want)
	}
}

func TestLostAttemptsWaitForAPerson(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 5)
	w.respond(w.accepted(ids[1], "b"), w.unsure(ids[2]), w.refused(ids[3]))
	w.push(receipt(ids[4], "e", campaign.Busy, 1))
	w.lose(3)
	w.lose(0)
	w.count(0, `SELECT count(*) FROM due`)
	if p := w.progress(id); p.Unknown != 3 || p.Open != 0 {
		t.Errorf("progress %+v", p)
	}
	w.balanced(id)
	w.push(receipt(ids[1], "b", campaign.Busy, 2)) // late
	if p := w.progress(id); p.Unknown != 2 || p.Done != 3 {
		t.Errorf("progress %+v", p)
	}
	w.balanced(id)
}

func TestLostAttemptsAreRedialled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, _ := w.dial("c", 13800000000, 2, redialLost)
	w.lose(2)
	w.count(2, `SELECT count(*) FROM due WHERE try = 2 AND chance = 2 AND reason = 'lost'`)
	w.balanced(id)
	w.now = w.now.Add(time.Minute)
	w.intend(id, w.now, w.due(id, w.now)...)
	w.balanced(id)
}

func TestALateOutcomeOfARedialledAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 1, redialLost)
	w.lose(1)
	w.push(receipt(ids[0], "a", campaign.Busy, 1))
	w.count(1, `SELECT count(*) FROM outcome`)
	w.count(1, `SELECT count(*) FROM due`)
	w.balanced(id)
}

func TestALateResponseOfALostAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 1, redialLost)
	w.lose(1)
	w.respond(w.throttled(ids[0], w.now))
	w.balanced(id)
}

func TestCompactKeepsTheTotals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 4)
	for n := range int32(4) {
		ids := w.intend(id, w.now, w.fresh(id, n, 1)...)
		w.respond(w.accepted(ids[0], "x"))
	}
	before := w.progress(id)
	w.must(w.db.Compact(t.Context(), w.account))
	w.count(1, `SELECT count(*) FROM batch`)
	w.count(1, `SELECT count(*) FROM progress`)
	if after := w.progress(id); after != before {
		t.Errorf("%+v became %+v", before, after)
	}
	if worst, err := w.db.WorstSecond(t.Context(), w.account); err != nil || worst != 4 {
		t.Errorf("worst second: %d, %v", worst, err)
	}
	w.balanced(id)
}
