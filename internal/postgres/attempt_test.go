package postgres_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"dialer/internal/campaign"
)

func TestIntentsAreWrittenAndTheCursorMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 5)
	first := w.batch(id, w.now, w.fresh(id, 0, 3)...)
	got := w.write(first)
	for i, v := range got {
		if want := campaign.NewAttemptID(id, int32(i+1), 1); v != (campaign.Verdict{Attempt: want}) {
			t.Errorf("contact %d: got %+v, want attempt %d", i+1, v, want)
		}
	}
	w.count(3, `SELECT count(*) FROM attempt WHERE caller_id = '057100000000' AND chance = 1 AND try = 1 AND intent_at = $1`, w.now)
	runs, err := w.db.OpenRuns(t.Context(), w.account)
	w.must(err)
	if len(runs) != 1 || runs[0].UptoN != 3 || runs[0].Contacts != 5 || !runs[0].Running || runs[0].Spec.Name != "c" {
		t.Errorf("open runs: %+v", runs)
	}
	if last, err := w.db.LastBatch(t.Context(), w.account); err != nil || last.Seq != 1 {
		t.Errorf("last batch: %+v, %v", last, err)
	}
	again, written, err := w.db.Intended(t.Context(), first)
	if err != nil || !written || !slices.Equal(again, got) {
		t.Errorf("intended: %+v, %t, %v; want %+v", again, written, err, got)
	}
	if v, written, err := w.db.Intended(t.Context(), w.batch(id, w.now, w.fresh(id, 3, 2)...)); err != nil || written || v != nil {
		t.Errorf("intended, of a batch that was not: %+v, %t, %v", v, written, err)
	}
	w.balanced(id)
}

func TestIntentsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 3)
	other := w.node()
	for _, test := range []struct {
		what string
		want error
		set  func(*campaign.IntentBatch)
	}{
		{"old term", campaign.ErrLeaseLost, func(b *campaign.IntentBatch) { b.Lease.Term-- }},
		{"another node", campaign.ErrLeaseLost, func(b *campaign.IntentBatch) { b.Lease.Node = other }},
		{"window over", campaign.ErrWindowClosed, func(b *campaign.IntentBatch) { b.Window.End = w.now.Add(-time.Minute) }},
		{"window not yet open", campaign.ErrWindowClosed, func(b *campaign.IntentBatch) { b.Window.Start = w.now.Add(time.Minute) }},
		{"clocks differ", campaign.ErrClockSkew, func(b *campaign.IntentBatch) { b.MaxSkew = -time.Second }},
		{"batch left out", campaign.ErrOutOfOrder, func(b *campaign.IntentBatch) { b.Seq++ }},
		{"batch written already", campaign.ErrOutOfOrder, func(b *campaign.IntentBatch) { b.Seq-- }},
	} {
		b := w.batch(id, w.now, w.fresh(id, 0, 3)...)
		test.set(b)
		if _, err := w.db.WriteIntents(t.Context(), b); err == nil {
			t.Errorf("%s: written", test.what)
		} else {
			wantErr(t, err, test.want)
		}
	}
	late := w.batch(id, w.now.Add(-time.Hour), w.fresh(id, 0, 3)...)
	late.MaxSkew = time.Second
	if _, err := w.db.WriteIntents(t.Context(), late); err == nil {
		t.Error("a batch an hour old was written")
	}
	try := func() error {
		_, err := w.db.WriteIntents(t.Context(), w.batch(id, w.now, w.fresh(id, 0, 3)...))
		return err
	}
	w.must(w.db.PauseAccount(t.Context(), w.account, "out of credit", w.now))
	wantErr(t, try(), campaign.ErrAccountPaused)
	w.must(w.db.ResumeAccount(t.Context(), "acme", w.now))
	w.must(w.db.Pause(t.Context(), id, "by hand", w.now))
	wantErr(t, try(), campaign.ErrNotRunning)
	w.must(w.db.Cancel(t.Context(), id, w.now))
	wantErr(t, try(), campaign.ErrNotRunning)
	idle := w.idle("idle", 13900000000, 1)
	_, err := w.db.WriteIntents(t.Context(), w.batch(idle, w.now, w.fresh(idle, 0, 1)...))
	wantErr(t, err, campaign.ErrNotRunning)
	w.count(0, `SELECT count(*) FROM attempt`)
	w.count(0, `SELECT count(*) FROM batch`)
}

func TestTheSameContactTwiceIsStale(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 2)
	contacts := w.fresh(id, 0, 2)
	w.intend(id, w.now.Add(-time.Hour), contacts[0])
	w.respond(w.accepted(campaign.NewAttemptID(id, 1, 1), "call-1"))
	w.push(receipt(campaign.NewAttemptID(id, 1, 1), "call-1", campaign.Answered, 1))
	_, err := w.db.WriteIntents(t.Context(), w.batch(id, w.now, contacts...))
	wantErr(t, err, campaign.ErrStale)
	w.count(1, `SELECT count(*) FROM attempt`)
	w.count(1, `SELECT count(*) FROM batch`)
}

// A contact before the cursor has had its attempt, even if only the database knows; one
// that is skipped would never be read again.
func TestFreshContactsBeginBehindTheCursor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 6)
	all := w.fresh(id, 0, 6)
	w.intend(id, w.now, all[:2]...)
	later := w.now.Add(time.Second)
	for what, contacts := range map[string][]campaign.Pending{"an open attempt": all[1:3], "a gap": all[3:4]} {
		if _, err := w.db.WriteIntents(t.Context(), w.batch(id, later, contacts...)); !errors.Is(err, campaign.ErrStale) {
			t.Errorf("%s: %v, want %v", what, err, campaign.ErrStale)
		}
	}
	w.count(0, `SELECT count(*) FROM due`)
	w.intend(id, later, all[2:]...)
	w.balanced(id)
}

// The database said that a batch is not written, and then the statement arrived. The
// next batch has its number, and is another one.
func TestABatchThatArrivesLateIsNotTheNextOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 4)
	late := w.batch(id, w.now, w.fresh(id, 0, 1)...)
	next := w.batch(id, w.now.Add(time.Second), w.fresh(id, 0, 4)...)
	w.write(late)
	if _, err := w.db.WriteIntents(t.Context(), next); !errors.Is(err, campaign.ErrOutOfOrder) {
		t.Errorf("the next batch: %v, want %v", err, campaign.ErrOutOfOrder)
	}
	if v, written, err := w.db.Intended(t.Context(), next); !errors.Is(err, campaign.ErrOutOfOrder) || written {
		t.Errorf("the next batch: %+v, %t, %v; want ErrOutOfOrder", v, written, err)
	}
}

func TestSuppressedContactsAreSkipped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 3)
	w.must(w.db.Suppress(t.Context(), 13800000000, time.Time{}, "asked", "test", w.now))
	w.must(w.db.Suppress(t.Context(), 13800000001, w.now.Add(-time.Minute), "was ill", "test", w.now))
	w.must(w.db.Suppress(t.Context(), 13800000002, w.now.Add(time.Minute), "is ill", "test", w.now))
	v := w.write(w.batch(id, w.now, w.fresh(id, 0, 3)...))
	if !v[0].Suppressed || v[0].Attempt != 0 || v[1].Suppressed || v[1].Attempt == 0 || !v[2].Suppressed {
		t.Errorf("got %+v", v)
	}
	w.count(2, `SELECT count(*) FROM skip WHERE reason = 'suppressed' AND n IN (1, 3)`)
	w.balanced(id)
	// A second suppression never makes the first shorter.
	w.must(w.db.Suppress(t.Context(), 13800000000, w.now.Add(time.Second), "again", "test", w.now))
	w.count(1, `SELECT count(*) FROM suppression WHERE phone = 13800000000 AND until IS NULL`)
	for _, want := range []bool{true, false} {
		if was, err := w.db.Unsuppress(t.Context(), 13800000000); err != nil || was != want {
			t.Errorf("unsuppress: %t, %v; want %t", was, err, want)
		}
	}
}

func TestCaps(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, test := range []struct {
		what  string
		caps  campaign.Caps
		calls []time.Duration // ago, the oldest first; each was accepted and ended
		held  time.Duration   // from now; 0: let through
	}{
		{"a minute", campaign.Caps{PerMinute: 1, PerDay: 9, Per30Days: 9}, []time.Duration{20 * time.Second}, 40 * time.Second},
		{"a minute ago", campaign.Caps{PerMinute: 1, PerDay: 9, Per30Days: 9}, []time.Duration{60 * time.Second}, 0},
		{"a day", campaign.Caps{PerMinute: 9, PerDay: 2, Per30Days: 9}, []time.Duration{20 * time.Hour, time.Hour}, 4 * time.Hour},
		{"a day ago", campaign.Caps{PerMinute: 9, PerDay: 2, Per30Days: 9}, []time.Duration{25 * time.Hour, time.Hour}, 0},
		{"one of two", campaign.Caps{PerMinute: 9, PerDay: 2, Per30Days: 9}, []time.Duration{time.Hour}, 0},
		{"30 days", campaign.Caps{PerMinute: 9, PerDay: 9, Per30Days: 3}, []time.Duration{29 * day, 20 * day, 10 * day}, day},
		{"30 days ago", campaign.Caps{PerMinute: 9, PerDay: 9, Per30Days: 3}, []time.Duration{31 * day, 20 * day, 10 * day}, 0},
		{"the longest holds", campaign.Caps{PerMinute: 1, PerDay: 1, Per30Days: 9}, []time.Duration{10 * time.Second}, day - 10*time.Second},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for i, ago := range test.calls {
				// Each from a campaign of its own: caps count over all of the account.
				id := w.running("past"+string(rune('a'+i)), 13800000000, 1)
				ids := w.intend(id, w.now.Add(-ago), w.fresh(id, 0, 1)...)
				w.respond(w.accepted(ids[0], "call"+string(rune('a'+i))))
				w.push(receipt(ids[0], "call"+string(rune('a'+i)), campaign.Busy, byte(i)))
			}
			id := w.running("now", 13800000000, 1)
			b := w.batch(id, w.now, w.fresh(id, 0, 1)...)
			b.Caps = test.caps
			v := w.write(b)[0]
			if test.held == 0 {
				if v.Attempt == 0 {
					t.Errorf("held: %+v", v)
				}
				return
			}
			if v.Attempt != 0 || !v.HeldUntil.Equal(w.now.Add(test.held)) {
				t.Errorf("attempt %d, held for %s; want %s", v.Attempt, v.HeldUntil.Sub(w.now), test.held)
			}
			w.count(1, `SELECT count(*) FROM due WHERE campaign_id = $1 AND n = 1 AND try = 1 AND chance = 1 AND reason = 'cap' AND due_at = $2`, id, w.now.Add(test.held))
			w.balanced(id)
		})
	}
}

func TestThrottledAndUnsentDoNotCountAgainstCaps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, ids := w.dial("past", 13800000000, 4)
	w.respond(
		w.throttled(ids[0], w.now),
		campaign.Response{Attempt: ids[1], State: campaign.Unsent, AnsweredAt: w.now, Code: "dial"},
		w.refused(ids[2]),
		campaign.Response{Attempt: ids[3], State: campaign.Refused, Counts: true, SentAt: w.now, AnsweredAt: w.now, Code: "limit"},
	)
	id := w.running("now", 13800000000, 4)
	b := w.batch(id, w.now, w.fresh(id, 0, 4)...)
	b.Caps = campaign.Caps{PerMinute: 1, PerDay: 1, Per30Days: 1}
	v := w.write(b)
	if v[0].Attempt == 0 || v[1].Attempt == 0 || v[2].Attempt == 0 || v[3].Attempt != 0 {
		t.Errorf("got %+v, want only the last held", v)
	}
}

func TestAnOpenAttemptElsewhereHoldsTheNumber(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, ids := w.dial("past", 13800000000, 3)
	w.respond(w.accepted(ids[1], "call-2"), w.unsure(ids[2]))
	id := w.running("now", 13800000000, 3)
	later := w.now.Add(time.Minute)
	for i, v := range w.write(w.batch(id, later, w.fresh(id, 0, 3)...)) {
		if v.Attempt != 0 || !v.HeldUntil.Equal(later.Add(time.Minute)) {
			t.Errorf("contact %d: %+v", i+1, v)
		}
	}
	w.count(3, `SELECT count(*) FROM due WHERE reason = 'open'`)
	w.push(receipt(ids[0], "call-1", campaign.Busy, 1), receipt(ids[1], "call-2", campaign.Busy, 2), receipt(ids[2], "call-3", campaign.Busy, 3))
	w.intend(id, later.Add(time.Minute), w.due(id, later.Add(time.Minute))...)
	w.count(0, `SELECT count(*) FROM due`)
	w.count(3, `SELECT count(*) FROM attempt WHERE campaign_id = $1 AND try = 1`, id)
	w.balanced(id)
}

func TestDueContactsAreDialledWithTheirTry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, ids := w.dial("c", 13800000000, 2)
	w.respond(w.throttled(ids[0], w.now.Add(time.Second)), w.throttled(ids[1], w.now.Add(time.Hour)))
	if n, first, err := w.db.Waiting(t.Context(), w.account, id); err != nil || n != 2 || !first.Equal(w.now.Add(time.Second)) {
		t.Errorf("waiting: %d, first %s, %v", n, first, err)
	}
	if early := w.due(id, w.now); len(early) != 0 {
		t.Errorf("due before their time: %+v", early)
	}
	due := w.due(id, w.now.Add(2*time.Second))
	if len(due) != 1 || due[0].N != 1 || due[0].Try != 2 || due[0].Chance != 1 || !due[0].Due || due[0].Phone != 13800000000 || due[0].Vars["name"] != "x" {
		t.Fatalf("due: %+v", due)
	}
	got := w.intend(id, w.now.Add(2*time.Second), due...)
	if got[0] != campaign.NewAttemptID(id, 1, 2) {
		t.Errorf("attempt %d", got[0])
	}
	w.count(1, `SELECT count(*) FROM attempt WHERE n = 1 AND try = 2 AND chance = 1`)
	if n, _, err := w.db.Waiting(t.Context(), w.account, id); err != nil || n != 1 {
		t.Errorf("waiting: %d, %v", n, err)
	}
	w.balanced(id)
}

func TestOpenLinesAndSettled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, ids := w.dial("c", 13800000000, 5)
	w.respond(w.accepted(ids[1], "b"), w.unsure(ids[2]), w.refused(ids[3]), w.accepted(ids[4], "e"))
	w.push(receipt(ids[4], "e", campaign.Busy, 1))
	open, err := w.db.OpenLines(t.Context(), w.account, w.now.Add(-time.Minute))
	w.must(err)
	if want := (map[campaign.AttemptID]string{ids[0]: callerID, ids[1]: callerID, ids[2]: callerID}); !maps.Equal(open, want) {
		t.Errorf("open lines %v, want %v", open, want)
	}
	if open, err := w.db.OpenLines(t.Context(), w.account, w.now); err != nil || len(open) != 0 {
		t.Errorf("open lines since: %v, %v", open, err)
	}
	lost, err := w.db.Lose(t.Context(), w.account, w.lease.Node, w.now.Add(-time.Hour), w.now, w.now)
	if err != nil || len(lost) != 3 {
		t.Errorf("lost %v, %v", lost, err)
	}
	settled, err := w.db.Settled(t.Context(), w.account, ids)
	w.must(err)
	slices.Sort(settled)
	if want := []campaign.AttemptID{ids[0], ids[1], ids[2], ids[4]}; !slices.Equal(settled, want) {
		t.Errorf("settled %v, want %v", settled, want)
	}
}

// A batch of which nobody knew whether it was written, and that was not, never is: its
// number is taken, however late the statement comes.
func TestABatchInDoubtIsNeverWrittenLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 3)
	contacts := w.fresh(id, 0, 3)
	w.write(w.batch(id, w.now, contacts[:1]...))
	late := w.batch(id, w.now, contacts[1:]...)
	for range 2 { // the answer may be lost, too
		if _, written, err := w.db.Intended(t.Context(), late); err != nil || written {
			t.Fatalf("intended: %t, %v; want no", written, err)
		}
	}
	if _, err := w.db.WriteIntents(t.Context(), late); !errors.Is(err, campaign.ErrOutOfOrder) {
		t.Fatalf("the late batch: %v, want ErrOutOfOrder", err)
	}
	w.seq++
	w.write(w.batch(id, w.now, contacts[1:]...))
	if p := w.progress(id); p.Attempts != 3 || p.Open != 3 {
		t.Errorf("progress %+v, want 3 attempts", p)
	}
	w.balanced(id)
}

// While the statement still runs, the question waits for it.
func TestABatchInDoubtThatIsStillWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 2)
	b := w.batch(id, w.now, w.fresh(id, 0, 2)...)
	// Whoever holds a campaign's row holds up the intents.
	tx, err := w.db.Pool().Begin(t.Context())
	w.must(err)
	_, err = tx.Exec(t.Context(), `SELECT FROM campaign FOR UPDATE`)
	w.must(err)
	wrote := make(chan error, 1)
	go func() {
		_, err := w.db.WriteIntents(t.Context(), b)
		wrote <- err
	}()
	w.eventually(`SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%fence AS MATERIALIZED%' AND pid <> pg_backend_pid()`)
	_, written, err := w.db.Intended(t.Context(), b)
	if err != nil || written {
		t.Errorf("intended while it waits for a lock: %t, %v; want no", written, err)
	}
	w.must(tx.Commit(t.Context()))
	if err := <-wrote; !errors.Is(err, campaign.ErrOutOfOrder) {
		t.Errorf("the statement: %v, want ErrOutOfOrder: its number was taken", err)
	}
	if p := w.progress(id); p.Attempts != 0 {
		t.Errorf("%d attempts, want none", p.Attempts)
	}
}

// A number is not taken on a server that may have forgotten some: that would hide it.
func TestNoNumberIsTakenOnAnotherServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 2)
	b := w.batch(id, w.now, w.fresh(id, 0, 2)...)
	_, err := w.db.Pool().Exec(t.Context(), `UPDATE lease SET server = 'another/1/2@3'`)
	w.must(err)
	if _, written, err := w.db.Intended(t.Context(), b); !errors.Is(err, campaign.ErrServerChanged) || written {
		t.Errorf("intended: %t, %v; want ErrServerChanged", written, err)
	}
	if last, err := w.db.LastBatch(t.Context(), w.account); err != nil || last.Seq != 0 {
		t.Errorf("the last batch is %+v, %v; want none", last, err)
	}
}
