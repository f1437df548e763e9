package postgres_test

import (
	"testing"
	"time"

	"dialer/internal/campaign"
)

func TestTheLedgerIsAppendOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, ids := w.dial("c", 13800000000, 1)
	w.respond(w.accepted(ids[0], "call-1"))
	w.push(receipt(ids[0], "call-1", campaign.Busy, 1))
	for _, table := range []string{"contact", "attempt", "response", "receipt", "outcome", "lost", "skip", "settlement"} {
		w.refusedSQL("append-only", `DELETE FROM `+table)
		w.refusedSQL("append-only", `UPDATE `+table+` SET account_id = account_id`)
		w.refusedSQL("append-only", `TRUNCATE `+table)
	}
}

func TestNobodyIsPendingAgainWhoMayHaveBeenCalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 5)
	const put = `INSERT INTO due (account_id, campaign_id, n, try, chance, due_at, reason) VALUES ($1, $2, $3, 2, 1, now(), $4)`
	w.respond(w.accepted(ids[1], "b"), w.unsure(ids[2]), w.throttled(ids[3], time.Time{}), w.accepted(ids[4], "e"))
	if _, err := w.db.Lose(t.Context(), w.account, w.lease.Node, w.now.Add(-time.Hour), w.now, w.now); err != nil {
		t.Fatal(err)
	}
	for n := range int32(3) {
		w.refusedSQL("cannot be pending again", put, w.account, id, n+1, "retry")
	}
	w.refusedSQL("cannot be pending again", put, w.account, id, 99, "lost") // never dialled
	for n, reason := range map[int32]string{1: "lost", 4: "throttled"} {
		if _, err := w.db.Pool().Exec(t.Context(), put, w.account, id, n, reason); err != nil {
			t.Error(err)
		}
	}
	// Nor can a row be moved to a later try.
	w.refusedSQL("cannot be pending again", `UPDATE due SET try = 3 WHERE n = 4`)
}

func TestResponsesAreWrittenOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 3)
	odd := w.refused(ids[2])
	odd.Message = "zero \x00 and half \xe4\xb8"
	all := []campaign.Response{w.accepted(ids[0], "call-1"), w.throttled(ids[1], w.now), odd}
	for range 3 {
		w.respond(all...)
	}
	w.respond(w.accepted(ids[2], "call-3")) // a second response changes nothing
	w.count(3, `SELECT count(*) FROM response`)
	w.count(1, `SELECT count(*) FROM response WHERE class = 'refused' AND call_id IS NULL AND message LIKE 'zero%'`)
	w.count(1, `SELECT count(*) FROM due WHERE n = 2 AND try = 2 AND chance = 1 AND reason = 'throttled'`)
	p := w.progress(id)
	if p.Accepted != 1 || p.Throttled != 1 || p.Refused != 1 || p.Attempts != 3 {
		t.Errorf("progress %+v", p)
	}
	w.balanced(id)
}

func TestAResponseThatContradictsAnOutcome(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		what string
		kind string // of the incident; "" for none
		of   func(w *world, id campaign.AttemptID) campaign.Response
	}{
		{"same call", "", func(w *world, id campaign.AttemptID) campaign.Response { return w.accepted(id, "call-1") }},
		{"unknown", "", func(w *world, id campaign.AttemptID) campaign.Response { return w.unsure(id) }},
		{"another call", "two_calls", func(w *world, id campaign.AttemptID) campaign.Response { return w.accepted(id, "call-2") }},
		{"throttled", "refused_call", func(w *world, id campaign.AttemptID) campaign.Response { return w.throttled(id, w.now) }},
		{"refused", "refused_call", func(w *world, id campaign.AttemptID) campaign.Response { return w.refused(id) }},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			id, ids := w.dial("c", 13800000000, 2)
			w.push(receipt(ids[0], "call-1", campaign.Busy, 1))
			r := test.of(w, ids[0])
			w.respond(r)
			w.respond(r)
			want := 0
			if test.kind != "" {
				want = 1
				w.state("c", campaign.Paused)
				w.count(1, `SELECT count(*) FROM incident WHERE kind = $1 AND attempt_id = $2`, test.kind, ids[0])
			} else {
				w.state("c", campaign.Running)
			}
			if n, err := w.db.Incidents(t.Context(), w.account); err != nil || n != want {
				t.Errorf("%d incidents, %v; want %d", n, err, want)
			}
			if found, err := w.db.Contradict(t.Context(), w.account, w.now.Add(-time.Hour), w.now); err != nil || found != 0 {
				t.Errorf("found again: %d, %v", found, err)
			}
			w.count(0, `SELECT count(*) FROM due`)
			w.balanced(id)
		})
	}
}

func TestResponseChecks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, ids := w.dial("c", 13800000000, 1)
	for what, r := range map[string]campaign.Response{
		"accepted without a call":      {Attempt: ids[0], State: campaign.Accepted, Counts: true, SentAt: w.now, AnsweredAt: w.now},
		"accepted that does not count": {Attempt: ids[0], State: campaign.Accepted, SentAt: w.now, AnsweredAt: w.now, CallID: "x"},
		"unsent that was sent":         {Attempt: ids[0], State: campaign.Unsent, SentAt: w.now, AnsweredAt: w.now},
		"throttled that counts":        {Attempt: ids[0], State: campaign.Throttled, Counts: true, SentAt: w.now, AnsweredAt: w.now},
		"no class":                     {Attempt: ids[0], State: campaign.Dialing, AnsweredAt: w.now},
	} {
		if err := w.db.WriteResponses(t.Context(), w.account, w.lease.Node, []campaign.Response{r}, w.now); err == nil {
			t.Errorf("%s: written", what)
		}
	}
	w.count(0, `SELECT count(*) FROM response`)
}
