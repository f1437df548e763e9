package postgres_test

import (
	"slices"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

func TestAnOutcomeIsStoredOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 2)
	early := receipt(ids[0], "call-1", campaign.Busy, 1) // before the response
	settled := w.push(receipt(ids[0], "call-1", "", 9), early, early)
	if !slices.Equal(settled, ids[:1]) {
		t.Errorf("settled %v, want %v", settled, ids[:1])
	}
	w.respond(w.accepted(ids[0], "call-1"))
	if again := w.push(early); len(again) != 0 {
		t.Errorf("settled again: %v", again)
	}
	w.count(1, `SELECT count(*) FROM outcome WHERE outcome = 'busy' AND call_id = 'call-1' AND source = 'push'`)
	w.count(2, `SELECT count(*) FROM receipt`)
	got, err := w.db.Outcomes(t.Context(), id)
	if err != nil || len(got) != 1 || got[0].Outcome != campaign.Busy || got[0].Calls != 1 || got[0].Percent != 100 {
		t.Errorf("outcomes %+v, %v", got, err)
	}
	w.must(w.db.ApplyAnswer(t.Context(), w.account, w.lease.Node, receipt(ids[1], "call-2", campaign.Answered, 2), w.now))
	w.count(1, `SELECT count(*) FROM outcome WHERE source = 'query'`)
	w.count(0, `SELECT count(*) FROM inbox`)
	w.count(0, `SELECT count(*) FROM incident`)
	w.balanced(id)
}

func TestStrangersChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 1)
	w.respond(w.accepted(ids[0], "call-1"))
	bad := receipt(ids[0], "call-1", campaign.Busy, 4)
	bad.Unreadable = "it is no JSON"
	w.push(receipt(campaign.NewAttemptID(id, 77, 1), "x", campaign.Busy, 1), receipt(0, "nobody", campaign.Busy, 2), bad)
	w.count(3, `SELECT count(*) FROM stranger`)
	w.count(0, `SELECT count(*) FROM outcome`)
	if settled := w.push(receipt(0, "call-1", campaign.Busy, 3)); !slices.Equal(settled, ids) {
		t.Errorf("not found by its CallId: %v", settled)
	}
	w.balanced(id)
}

func TestTwoCallsStopTheCampaign(t *testing.T) {
	t.Parallel()
	for _, responded := range []bool{true, false} {
		w := newWorld(t)
		id, ids := w.dial("c", 13800000000, 1)
		if responded {
			w.respond(w.accepted(ids[0], "call-1"))
		}
		w.push(receipt(ids[0], "call-1", campaign.Busy, 1), receipt(ids[0], "call-2", campaign.Busy, 2), receipt(ids[0], "call-2", campaign.Busy, 2))
		w.count(1, `SELECT count(*) FROM incident WHERE kind = 'two_calls'`)
		w.count(1, `SELECT count(*) FROM outcome WHERE call_id = 'call-1'`)
		w.state("c", campaign.Paused)
		w.balanced(id)
	}
}

func TestTwoOutcomesAreAnIncidentOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, ids := w.dial("c", 13800000000, 1)
	w.push(receipt(ids[0], "call-1", campaign.Busy, 1), receipt(ids[0], "call-1", campaign.Answered, 2))
	w.count(1, `SELECT count(*) FROM incident WHERE kind = 'two_outcomes'`)
	w.count(1, `SELECT count(*) FROM outcome WHERE outcome = 'busy'`)
	w.state("c", campaign.Running)
}

func TestAReceiptForARefusedCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 1, retryBusy)
	w.respond(w.refused(ids[0]))
	w.push(receipt(ids[0], "call-1", campaign.Busy, 1))
	w.count(1, `SELECT count(*) FROM incident WHERE kind = 'refused_call'`)
	w.count(0, `SELECT count(*) FROM due`)
	w.state("c", campaign.Paused)
	w.balanced(id)
}

func TestPoisonDoesNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 4)
	all := []campaign.Receipt{
		receipt(ids[0], "a", campaign.Busy, 1), receipt(ids[1], "b", campaign.Busy, 2),
		receipt(ids[2], "c", campaign.Busy, 3), receipt(ids[3], "d", campaign.Busy, 4),
	}
	all[0].Raw = []byte(`{"a":"\u0000"}`) // made storable
	all[1].Raw = []byte(`{"a":1e999999}`) // valid JSON that jsonb refuses
	all[2].Raw = []byte(`{"a":"\ud800"}`)
	w.must(w.db.StorePushes(t.Context(), w.account, []postgres.Push{{ReceivedAt: w.now, Body: []byte("all")}}))
	settled, n, err := w.db.ApplyInbox(t.Context(), w.account, w.lease.Node, 10, w.now, func([]byte) []campaign.Receipt { return all })
	if err != nil || n != 1 || !slices.Equal(settled, []campaign.AttemptID{ids[0], ids[3]}) {
		t.Errorf("settled %v of %d pushes, %v", settled, n, err)
	}
	w.count(2, `SELECT count(*) FROM stranger WHERE reason LIKE 'it cannot be stored%'`)
	w.count(2, `SELECT count(*) FROM outcome`)
	w.count(0, `SELECT count(*) FROM inbox`)
	w.balanced(id)
}

func TestTheRetryRuleMakesTheContactDue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 2, retryBusy)
	r := receipt(ids[0], "a", campaign.Busy, 1)
	r.EndedAt = w.now.Add(-time.Minute)
	w.push(r, receipt(ids[1], "b", campaign.Answered, 2))
	w.count(1, `SELECT count(*) FROM due WHERE n = 1 AND try = 2 AND chance = 2 AND reason = 'retry' AND due_at = $1`, w.now.Add(9*time.Minute))
	w.count(1, `SELECT count(*) FROM due`)
	w.balanced(id)
	for try := 2; try <= 3; try++ {
		w.now = w.now.Add(2 * time.Hour)
		next := w.intend(id, w.now, w.due(id, w.now)...)
		w.push(receipt(next[0], "again"+string(rune('0'+try)), campaign.Busy, byte(10+try)))
	}
	w.count(0, `SELECT count(*) FROM due`) // three chances are used up
	w.balanced(id)
}

// A node that slept between its clock and its statement does not write the end of a call
// before its beginning.
func TestAnOutcomeIsNotBeforeItsIntent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, ids := w.dial("c", 13800000000, 1)
	w.respond(w.accepted(ids[0], "call-1"))
	w.now = w.now.Add(-time.Minute)
	w.push(receipt(ids[0], "call-1", campaign.Busy, 1))
	w.count(1, `SELECT count(*) FROM outcome o JOIN attempt a USING (account_id, attempt_id) WHERE o.recorded_at >= a.intent_at`)
}
