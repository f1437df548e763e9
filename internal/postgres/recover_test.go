package postgres_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/journal"
	"dialer/internal/postgres"
)

// entryOf is what a node's journal holds of a batch.
func (w *world) entryOf(b *campaign.IntentBatch, verdicts []campaign.Verdict) journal.Entry {
	e := journal.Entry{
		Account: b.Lease.Account, Seq: b.Seq, Campaign: b.Campaign, Node: b.Lease.Node, Term: b.Lease.Term, At: b.At, SendBy: b.SendBy, CallerID: b.CallerID,
	}
	var phones, held []campaign.Phone
	for i, c := range b.Contacts {
		one := journal.Contact{N: c.N, Try: c.Try, Chance: c.Chance}
		if verdicts[i].Attempt != 0 {
			e.Attempts, phones = append(e.Attempts, one), append(phones, c.Phone)
		} else {
			e.Held, held = append(e.Held, one), append(held, c.Phone)
		}
	}
	e.Sum = journal.Sum(w.db.OutIDKey(), append(phones, held...)...)
	return e
}

// forget takes the rows of batches after seq out of the ledger, as a restored backup
// does.
func (w *world) forget(seq int64) {
	w.Helper()
	_, err := w.db.Pool().Exec(w.Context(), `
		BEGIN;
		SET LOCAL session_replication_role = replica;
		DELETE FROM attempt a USING batch b WHERE b.account_id = a.account_id AND b.campaign_id = a.campaign_id AND a.intent_at = b.at AND b.seq > `+strconv.FormatInt(seq, 10)+`;
		DELETE FROM skip; DELETE FROM due;
		DELETE FROM batch WHERE seq > `+strconv.FormatInt(seq, 10)+`;
		COMMIT`)
	w.must(err)
}

// What a restored database has forgotten is written into it again from the journal:
// nobody of the batch is pending, and the contacts that were held are judged anew.
func TestForgottenBatchesAreWrittenAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 6)
	contacts := w.fresh(id, 0, 6)
	w.must(w.db.Suppress(t.Context(), contacts[4].Phone, time.Time{}, "asked", "test", w.now))
	first := w.batch(id, w.now, contacts[:2]...)
	w.write(first)
	second := w.batch(id, w.now.Add(time.Second), contacts[2:5]...)
	e := w.entryOf(second, w.write(second))
	w.forget(first.Seq)
	if p := w.progress(id); p.Pending != 4 {
		t.Fatalf("%d pending after the restore, want 4", p.Pending)
	}

	skipped := e
	skipped.Seq++
	if err := w.db.Reinsert(t.Context(), skipped); err == nil {
		t.Error("a batch was written again although the one before it is missing")
	}
	others := e
	others.Sum = "0000000000000000"
	if err := w.db.Reinsert(t.Context(), others); !errors.Is(err, postgres.ErrOtherContacts) {
		t.Errorf("other persons: %v, want ErrOtherContacts", err)
	}
	beyond := e
	beyond.Held = append(journal.Contacts{{N: 99, Try: 1, Chance: 1}}, e.Held...)
	if err := w.db.Reinsert(t.Context(), beyond); !errors.Is(err, postgres.ErrOtherContacts) {
		t.Errorf("a contact that is not there: %v, want ErrOtherContacts", err)
	}
	w.must(w.db.Reinsert(t.Context(), e))
	if err := w.db.Reinsert(t.Context(), e); err == nil {
		t.Error("a batch was written twice")
	}

	p := w.progress(id)
	if p.Attempts != 4 || p.Open != 4 || p.Pending != 2 {
		t.Errorf("progress %+v, want 4 open and 2 pending: the suppressed one, to be judged anew, and the last", p)
	}
	runs, err := w.db.OpenRuns(t.Context(), w.account)
	w.must(err)
	if len(runs) != 1 || runs[0].UptoN != 5 {
		t.Errorf("the cursor is at %+v, want 5", runs)
	}
	w.balanced(id)
	due := w.due(id, w.now.Add(time.Minute))
	if len(due) != 1 || due[0].N != 5 {
		t.Errorf("due: %+v, want contact 5", due)
	}
}

// A server that was started again, or is another one, gets no intents until somebody
// has vouched for it.
func TestNoIntentOnAServerThatNobodyVouchedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 3)
	contacts := w.fresh(id, 0, 3)
	if w.lease.Server == "" || w.lease.Server != w.lease.Vouched {
		t.Fatalf("the lease of a new account: %+v, want it vouched for", w.lease)
	}
	_, err := w.db.Pool().Exec(t.Context(), `UPDATE lease SET server = 'another/1/2@3'`)
	w.must(err)
	b := w.batch(id, w.now, contacts[:1]...)
	if _, err := w.db.WriteIntents(t.Context(), b); !errors.Is(err, campaign.ErrServerChanged) {
		t.Fatalf("intents on another server: %v, want ErrServerChanged", err)
	}
	if p := w.progress(id); p.Attempts != 0 {
		t.Fatalf("%d attempts, want none", p.Attempts)
	}
	memories, err := w.db.Memories(t.Context())
	w.must(err)
	if len(memories) != 1 || memories[0].Name != "acme" || memories[0].Server != w.lease.Server || memories[0].Vouched != "another/1/2@3" || memories[0].Last.Seq != 0 {
		t.Errorf("memories: %+v", memories)
	}
	stale := w.lease
	stale.Term--
	if err := w.db.Vouch(t.Context(), stale); !errors.Is(err, campaign.ErrLeaseLost) {
		t.Errorf("vouched without the lease: %v", err)
	}
	gone := w.lease
	gone.Server = "gone/1/1@1"
	if err := w.db.Vouch(t.Context(), gone); !errors.Is(err, campaign.ErrLeaseLost) {
		t.Errorf("vouched for a server that is not this one: %v", err)
	}
	w.must(w.db.Vouch(t.Context(), w.lease))
	w.write(b)
}

// A person lets an account dial again, and what the journals know beyond the database is
// not taken for forgotten a second time.
func TestRecover(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 3)
	contacts := w.fresh(id, 0, 3)
	w.write(w.batch(id, w.now, contacts[:1]...))
	_, err := w.db.Pool().Exec(t.Context(), `UPDATE lease SET server = 'another/1/2@3'`)
	w.must(err)
	w.must(w.db.PauseAccount(t.Context(), w.account, "the database has forgotten intents", w.now))

	w.must(w.db.Recover(t.Context(), w.account, 40, "the backup of tonight", "li", w.now))
	last, err := w.db.LastBatch(t.Context(), w.account)
	w.must(err)
	if last.Seq != 40 {
		t.Errorf("the last batch is %d, want 40", last.Seq)
	}
	b := w.batch(id, w.now, contacts[1:]...)
	b.Seq = 41
	if _, err := w.db.WriteIntents(t.Context(), b); err != nil {
		t.Errorf("intents after the recovery: %v", err)
	}
	if p := w.progress(id); p.Attempts != 3 || p.Open != 3 {
		t.Errorf("progress %+v, want 3 attempts", p)
	}
	var incidents int
	w.must(w.db.Pool().QueryRow(t.Context(), `SELECT count(*) FROM incident WHERE kind = 'recovered' AND detail = 'li: the backup of tonight'`).Scan(&incidents))
	if incidents != 1 {
		t.Errorf("%d incidents, want 1", incidents)
	}
}

// A node that the database does not know cannot take an account.
func TestForgottenNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.db.Release(t.Context(), w.lease, nil))
	if _, err := w.db.Acquire(t.Context(), []campaign.AccountID{w.account}, 77, time.Hour); !errors.Is(err, campaign.ErrNodeForgotten) {
		t.Errorf("%v, want ErrNodeForgotten", err)
	}
}

// A report on an attempt that only this database can have named, and that it does not
// have, stops the account. When the attempt is written again, the report counts.
func TestAReportOnAForgottenAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 4)
	contacts := w.fresh(id, 0, 4)
	w.write(w.batch(id, w.now, contacts[:1]...))
	second := w.batch(id, w.now.Add(time.Second), contacts[1:3]...)
	verdicts := w.write(second)
	e := w.entryOf(second, verdicts)
	w.forget(1)

	never := campaign.NewAttemptID(id, 99, 1)
	w.push(receipt(never, "X", campaign.Answered, 1))
	if a, err := w.db.Account(t.Context(), "acme"); err != nil || !a.Active {
		t.Fatalf("a report on a contact that never was stopped the account: %+v, %v", a, err)
	}
	reported, alone := verdicts[0].Attempt, verdicts[1].Attempt
	w.push(receipt(reported, "A", campaign.Answered, 2))
	a, err := w.db.Account(t.Context(), "acme")
	w.must(err)
	if a.Active || !strings.Contains(a.Reason, "dialer recover") {
		t.Fatalf("the account is %+v, want it paused", a)
	}
	memories, err := w.db.Memories(t.Context())
	w.must(err)
	if memories[0].Forgotten != 1 {
		t.Errorf("memories: %+v, want one forgotten attempt", memories)
	}

	w.must(w.db.Reinsert(t.Context(), e))
	w.must(w.db.Recover(t.Context(), w.account, e.Seq, "found in the journal", "li", w.now))
	w.count(1, `SELECT count(*) FROM inbox WHERE body = '[{"a":1}]'`)
	w.count(0, `SELECT count(*) FROM stranger WHERE reason LIKE 'the database%'`)
	_, err = w.db.Pool().Exec(t.Context(), `DELETE FROM inbox`) // it is no push of this fixture
	w.must(err)
	if a, err := w.db.Account(t.Context(), "acme"); err != nil || !a.Active {
		t.Errorf("the account is %+v, %v; want it active", a, err)
	}

	// What no journal holds is accepted as lost, and stops the account no more.
	w.push(receipt(alone, "B", campaign.Busy, 3))
	w.forget(1)
	w.push(receipt(alone, "B", campaign.Busy, 3))
	w.must(w.db.Recover(t.Context(), w.account, e.Seq, "accepted", "li", w.now))
	w.count(1, `SELECT count(*) FROM stranger WHERE reason LIKE 'a person accepted%'`)
}

// What came of a request whose attempt the database has forgotten is not recorded beside
// an attempt that is not there, and makes nobody pending.
func TestAResponseOfAForgottenAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, attempts := w.dial("c", 13800000000, 2)
	w.forget(0)
	w.respond(w.throttled(attempts[0], w.now), w.accepted(attempts[1], "A"))
	w.count(0, `SELECT count(*) FROM response`)
	w.count(0, `SELECT count(*) FROM due`)
	w.balanced(id)
}
