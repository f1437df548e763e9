package postgres_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

// settlement is what anna says about attempts.
func (w *world) settlement(verdict string, ids ...campaign.AttemptID) postgres.Settlement {
	s := postgres.Settlement{Verdict: verdict, Reason: "seen in the console", Person: "anna"}
	for _, id := range ids {
		s.OutIDs = append(s.OutIDs, w.db.OutIDKey().OutID(id))
	}
	return s
}

func (w *world) settle(s postgres.Settlement, want int) {
	w.Helper()
	settled, err := w.db.Settle(w.Context(), s, w.now)
	if err != nil || len(settled) != want {
		w.Errorf("settled %+v, %v; want %d", settled, err, want)
	}
}

// refuse settles, which must be refused with why.
func (w *world) refuse(s postgres.Settlement, why string) {
	w.Helper()
	_, err := w.db.Settle(w.Context(), s, w.now)
	if refused, ok := errors.AsType[postgres.Refusals](err); !ok || !strings.Contains(refused.Error(), why) {
		w.Errorf("got %v, want a refusal with %q", err, why)
	}
}

func TestSettledAsAnOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 3, retryBusy)
	w.respond(w.unsure(ids[0]), w.accepted(ids[1], "call-2"), w.unsure(ids[2]))
	w.settle(w.settlement("busy", ids[0]), 1)
	w.lose(2)
	w.settle(w.settlement("busy", ids[1], ids[2], ids[2]), 2)
	w.count(0, `SELECT count(*) FROM due`) // no rule fires by itself
	w.count(1, `SELECT count(*) FROM outcome WHERE source = 'person' AND outcome = 'busy' AND call_id = 'call-2'`)
	w.count(2, `SELECT count(*) FROM outcome WHERE source = 'person' AND call_id = ''`)
	w.count(3, `SELECT count(*) FROM report.settlement WHERE verdict = 'busy' AND settled_by = 'anna' AND reason = 'seen in the console' AND NOT redial`)
	w.count(3, `SELECT count(*) FROM report.attempt WHERE state = 'ended' AND settled_by = 'anna'`)
	if p := w.progress(id); p.Done != 3 || p.Open != 0 || p.Unknown != 0 {
		t.Errorf("progress %+v", p)
	}
	w.balanced(id)
	w.refuse(w.settlement("busy", ids[0]), "settled by anna already")
	// The platform agrees about the first, and not about the second.
	w.push(receipt(ids[0], "call-1", campaign.Busy, 1), receipt(ids[1], "call-2", campaign.Answered, 2))
	w.count(1, `SELECT count(*) FROM incident`)
	w.count(1, `SELECT count(*) FROM incident WHERE kind = 'two_outcomes' AND attempt_id = $1`, ids[1])
	w.respond(w.accepted(ids[2], "call-3")) // a person need not know the CallId
	w.count(1, `SELECT count(*) FROM incident`)
	w.state("c", campaign.Running)
	w.count(3, `SELECT count(*) FROM outcome WHERE outcome = 'busy'`)
	w.balanced(id)
}

func TestSettledAsNotCalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 2)
	w.respond(w.unsure(ids[0]), w.unsure(ids[1]))
	w.lose(2)
	w.settle(w.settlement(postgres.NotCalled, ids[0]), 1)
	redial := w.settlement(postgres.NotCalled, ids[1])
	redial.Redial = true
	w.settle(redial, 1)
	w.count(2, `SELECT count(*) FROM report.attempt WHERE state = 'settled' AND outcome IS NULL`)
	w.count(1, `SELECT count(*) FROM report.contact WHERE contact = 1 AND state = 'done'`)
	// Its chance is given back: max_attempts is one.
	w.count(1, `SELECT count(*) FROM due WHERE n = 2 AND try = 2 AND chance = 1 AND reason = 'settled'`)
	w.balanced(id)
	w.intend(id, w.now.Add(time.Second), w.due(id, w.now.Add(time.Second))...)
	w.balanced(id)
	// A late no changes nothing: the first contact is done because a person said so.
	w.respond(w.throttled(ids[0], w.now))
	w.count(0, `SELECT count(*) FROM due`)
	w.balanced(id)
	for _, table := range []string{`UPDATE settlement SET reason = 'x'`, `DELETE FROM settlement`, `TRUNCATE settlement`} {
		w.refusedSQL("append-only", table)
	}
}

// What a person said was not called neither holds the number nor counts.
func TestWhatWasNotCalledDoesNotHoldTheNumber(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, ids := w.dial("past", 13800000000, 2)
	w.respond(w.unsure(ids[0]), w.unsure(ids[1]))
	id := w.running("now", 13800000000, 2)
	w.settle(w.settlement(postgres.NotCalled, ids[0], ids[1]), 2)
	if open, err := w.db.OpenLines(t.Context(), w.account, w.now.Add(-time.Hour)); err != nil || len(open) != 0 {
		t.Errorf("open lines %v, %v", open, err)
	}
	if settled, err := w.db.Settled(t.Context(), w.account, ids); err != nil || len(settled) != 2 {
		t.Errorf("settled %v, %v", settled, err)
	}
	// The second was called after all: it counts again.
	w.push(receipt(ids[1], "call-2", campaign.Busy, 1))
	w.must(w.db.Resume(t.Context(), id, w.now))
	b := w.batch(id, w.now, w.fresh(id, 0, 2)...)
	b.Caps = campaign.Caps{PerMinute: 1, PerDay: 1, Per30Days: 1}
	if v := w.write(b); v[0].Attempt == 0 || v[1].Attempt != 0 {
		t.Errorf("got %+v, want only the second held", v)
	}
}

func TestEvidenceThatComesAfterNotCalled(t *testing.T) {
	t.Parallel()
	for what, evidence := range map[string]func(w *world, id campaign.AttemptID){
		"receipt":  func(w *world, id campaign.AttemptID) { w.push(receipt(id, "call-1", campaign.Busy, 1)) },
		"report":   func(w *world, id campaign.AttemptID) { w.push(receipt(id, "call-1", "", 1)) },
		"response": func(w *world, id campaign.AttemptID) { w.respond(w.accepted(id, "call-1")) },
		"response that was written at the same moment": func(w *world, id campaign.AttemptID) {
			w.exec(`INSERT INTO response (account_id, attempt_id, class, counts, sent_at, answered_at, code, call_id) VALUES ($1, $2, 'accepted', true, $3, $3, 'OK', 'call-1')`, w.account, id, w.now)
			w.exec(`INSERT INTO progress VALUES ($1, $2, 'response:accepted', 0, 99, 1)`, w.account, id.Campaign())
			for _, want := range []int{1, 0} {
				if n, err := w.db.Contradict(w.Context(), w.account, w.now.Add(-time.Hour), w.now); err != nil || n != want {
					w.Errorf("contradictions: %d, %v; want %d", n, err, want)
				}
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			id, ids := w.dial("c", 13800000000, 1, retryBusy)
			w.lose(1)
			w.settle(w.settlement(postgres.NotCalled, ids[0]), 1)
			evidence(w, ids[0])
			w.count(1, `SELECT count(*) FROM incident WHERE kind = 'settled_call' AND detail LIKE '%anna%' AND detail LIKE '%call-1%'`)
			w.count(0, `SELECT count(*) FROM due`)
			w.state("c", campaign.Paused)
			if what == "receipt" { // it wins
				w.count(1, `SELECT count(*) FROM report.attempt WHERE state = 'ended' AND outcome = 'busy' AND settled_by = 'anna'`)
			}
			w.balanced(id)
		})
	}
}

func TestARedialIsWithinMaxAttempts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	once, ids := w.dial("once", 13800000000, 1)
	_, more := w.dial("more", 13900000000, 1, retryBusy)
	w.respond(w.unsure(ids[0]), w.unsure(more[0]))
	s := w.settlement("no_answer", ids[0], more[0])
	s.Redial = true
	w.refuse(s, "the 1 of its max_attempts")
	w.count(0, `SELECT count(*) FROM settlement`) // all or none
	s = w.settlement("no_answer", more[0])
	s.Redial = true
	w.settle(s, 1)
	w.count(1, `SELECT count(*) FROM due WHERE try = 2 AND chance = 2 AND reason = 'settled'`)
	w.must(w.db.Cancel(t.Context(), once, w.now))
	s = w.settlement(postgres.NotCalled, ids[0])
	s.Redial = true
	w.refuse(s, "its campaign is cancelled")
}

// A lost attempt whose contact waits for its redial: the person decides instead.
func TestAPersonBeforeTheRedial(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 3, redialLost)
	w.lose(3)
	w.settle(w.settlement("answered", ids[0]), 1)
	w.count(0, `SELECT count(*) FROM due WHERE n = 1`)
	s := w.settlement(postgres.NotCalled, ids[1])
	s.Redial = true
	w.settle(s, 1)
	w.count(1, `SELECT count(*) FROM due WHERE n = 2 AND try = 2 AND chance = 1 AND reason = 'settled'`)
	w.balanced(id)
	w.intend(id, w.now.Add(time.Second), w.due(id, w.now.Add(time.Second))...)
	s = w.settlement(postgres.NotCalled, ids[2])
	s.Redial = true
	w.refuse(s, "gone on already")
	w.settle(w.settlement("busy", ids[2]), 1)
	w.balanced(id)
}

func TestACapHoldsARedial(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 2, redialLost)
	w.lose(2)
	s := w.settlement("busy", ids[1])
	s.Redial = true
	w.settle(s, 1)
	b := w.batch(id, w.now.Add(time.Minute), w.due(id, w.now.Add(time.Minute))...)
	b.Caps = campaign.Caps{PerMinute: 1, PerDay: 1, Per30Days: 9}
	for _, v := range w.write(b) {
		if v.HeldUntil.IsZero() {
			t.Errorf("not held: %+v", v)
		}
	}
	w.count(1, `SELECT count(*) FROM due WHERE n = 1 AND reason = 'lost' AND due_at = $1`, w.now.Add(24*time.Hour))
	w.count(1, `SELECT count(*) FROM due WHERE n = 2 AND reason = 'settled' AND due_at = $1`, w.now.Add(24*time.Hour))
	w.balanced(id)
}

func TestWhatCannotBeSettled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 4)
	w.refuse(w.settlement("busy", ids[0]), "its state is dialing")
	w.respond(w.accepted(ids[1], "call-2"))
	w.push(receipt(ids[2], "call-3", "", 1))
	w.refuse(w.settlement("busy", ids[2]), "its state is accepted")
	w.lose(4)
	w.refuse(w.settlement(postgres.NotCalled, ids[1]), "accepted it with CallId call-2")
	w.refuse(w.settlement(postgres.NotCalled, ids[2]), "has reported on its call")
	for what, change := range map[string]func(*postgres.Settlement){
		"no verdict": func(s *postgres.Settlement) { s.Verdict = "" }, "no reason": func(s *postgres.Settlement) { s.Reason = " " },
		"no person": func(s *postgres.Settlement) { s.Person = "" }, "the same person twice": func(s *postgres.Settlement) { s.Second = s.Person },
		"many by one": func(s *postgres.Settlement) { s.OutIDs = make([]string, postgres.SettleAlone+1) },
	} {
		s := w.settlement("busy", ids[0])
		change(&s)
		if _, err := w.db.Settle(t.Context(), s, w.now); err == nil {
			t.Errorf("%s: settled", what)
		}
	}
	w.count(0, `SELECT count(*) FROM settlement`)
	const put = `INSERT INTO due (account_id, campaign_id, n, try, chance, due_at, reason) VALUES ($1, $2, 1, 2, 1, now(), $3)`
	w.refusedSQL("cannot be pending again", put, w.account, id, "settled")
	w.settle(w.settlement("busy", ids[0]), 1)
	for _, reason := range []string{"settled", "retry", "lost"} { // the person did not say so
		w.refusedSQL("cannot be pending again", put, w.account, id, reason)
	}
	doubtful, err := w.db.Doubtful(t.Context(), id, 4)
	if err != nil || len(doubtful) != 1 || doubtful[0] != w.db.OutIDKey().OutID(ids[3]) {
		t.Errorf("in doubt: %v, %v", doubtful, err)
	}
	if none, err := w.db.Doubtful(t.Context(), id, 1); err != nil || len(none) != 0 {
		t.Errorf("in doubt: %v, %v", none, err)
	}
}

// A contact that has gone on cannot be brought back by what is told of an older try.
func TestALateNoOfARedialledAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 2, redialLost)
	w.lose(2)
	w.must(w.db.Suppress(t.Context(), 13800000001, time.Time{}, "asked", "test", w.now))
	later := w.now.Add(time.Minute)
	w.write(w.batch(id, later, w.due(id, later)...))
	w.respond(w.throttled(ids[0], w.now), w.throttled(ids[1], w.now))
	w.count(0, `SELECT count(*) FROM due`)
	w.balanced(id)
	const put = `INSERT INTO due (account_id, campaign_id, n, try, chance, due_at, reason) VALUES ($1, $2, $3, 2, 1, now(), 'throttled')`
	w.refusedSQL("has gone on", put, w.account, id, 1)
	w.refusedSQL("has gone on", put, w.account, id, 2)
}

// A definite no, a receipt and a loss that meet: each waits for its turn, and the attempt
// is over once.
func TestThoseWhoEndAnAttemptWaitForEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 2)
	holder, err := w.db.Pool().Acquire(t.Context())
	w.must(err)
	defer holder.Release()
	tx, err := holder.Begin(t.Context())
	w.must(err)
	_, err = tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock($1)`, int64(id))
	w.must(err)
	var all sync.WaitGroup
	all.Go(func() { w.respond(w.refused(ids[0])) })
	all.Go(func() {
		if err := w.db.ApplyAnswer(t.Context(), w.account, w.lease.Node, receipt(ids[0], "call-1", campaign.Busy, 1), w.now); err != nil {
			t.Error(err)
		}
	})
	all.Go(func() {
		if _, err := w.db.Lose(t.Context(), w.account, w.lease.Node, w.now.Add(-time.Hour), w.now, w.now); err != nil {
			t.Error(err)
		}
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for waiting := 0; waiting < 3; {
		select {
		case <-tick.C:
			w.must(tx.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&waiting))
		case <-deadline:
			t.Fatalf("%d of three wait for the campaign", waiting)
		}
	}
	w.must(tx.Commit(t.Context()))
	all.Wait()
	w.balanced(id)
}
