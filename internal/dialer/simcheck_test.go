package dialer_test

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
	"dialer/internal/simulator"
)

// believed is what our ledger says of one attempt.
type believed struct {
	ID             campaign.AttemptID
	Phone          int64
	N              int32
	Chance         int16
	IntentAt       time.Time
	SendBy         time.Time
	Node           string
	Class, CallID  *string
	Counts         *bool
	Outcome        *string
	OutcomeOf      *string // the CallId that it came with
	StatusCode     *string
	Source         *string
	RecordedAt     *time.Time
	Lost, Redialed bool

	outID string
}

// ledgers are both sides of the story.
type ledgers struct {
	attempts  []*believed
	byOutID   map[string]*believed
	requests  map[string][]simulator.Entry // by OutId
	calls     []simulator.Entry
	delivered map[string]bool // CallIds whose final report was acknowledged
}

// check compares what the dialer believes with what it may believe by itself, and
// loads it for checkLedgers. The nodes still work, but have nothing to do.
func (w *world) check() {
	t, ctx := w.t, context.WithoutCancel(w.t.Context())
	rows, _ := w.db.Pool().Query(ctx, `
		SELECT a.attempt_id AS id, a.phone, a.n, a.chance, a.intent_at, a.send_by, n.name AS node, r.class::text, r.call_id, r.counts,
		       o.outcome::text, o.call_id AS outcome_of, o.status_code, o.source::text, o.recorded_at, l.attempt_id IS NOT NULL AS lost,
		       EXISTS (SELECT FROM attempt b WHERE b.account_id = a.account_id AND b.attempt_id = a.attempt_id + 1) AS redialed
		  FROM attempt a
		  JOIN node n USING (node_id)
		  LEFT JOIN response r USING (account_id, attempt_id)
		  LEFT JOIN outcome o USING (account_id, attempt_id)
		  LEFT JOIN lost l USING (account_id, attempt_id)
		 ORDER BY a.attempt_id`)
	attempts, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByNameLax[believed])
	if err != nil {
		t.Fatal(err)
	}
	l := &ledgers{attempts: attempts, byOutID: make(map[string]*believed), requests: make(map[string][]simulator.Entry), delivered: make(map[string]bool)}
	for _, a := range attempts {
		a.outID = w.db.OutIDKey().OutID(a.ID)
		l.byOutID[a.outID] = a
	}
	p := w.progress()
	counts, err := w.db.Recount(ctx, w.campaign.ID)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int64{"pending": p.Pending, "open": p.Open, "done": p.Done, "suppressed": p.Suppressed, "cancelled": p.Cancelled, "expired": p.Expired, "unknown": p.Unknown}
	var sum int64
	for state, n := range told {
		sum += n
		if counts[state] != n {
			t.Errorf("progress says %d contacts are %s, a recount %d: %+v, %v", n, state, counts[state], p, counts)
		}
	}
	if sum != int64(w.plan.contacts) || p.Imported != sum {
		t.Errorf("%d contacts in all states together, want %d", sum, w.plan.contacts)
	}
	if p.Attempts != int64(len(attempts)) {
		t.Errorf("progress says %d attempts, there are %d", p.Attempts, len(attempts))
	}
	_, open := w.campaign.Spec.Windows.Open(time.Now(), shanghai)
	if p.Open != 0 || p.Pending != 0 && open {
		t.Errorf("somebody is forgotten: %+v", p)
	}
	var strangers, incidents string
	err = w.db.Pool().QueryRow(ctx, `
		SELECT coalesce((SELECT string_agg(reason, '; ') FROM stranger), ''),
		       coalesce((SELECT string_agg(kind || ': ' || detail, '; ') FROM incident WHERE kind IN ('two_calls', 'refused_call')), '')`).Scan(&strangers, &incidents)
	if err != nil || strangers != "" || incidents != "" {
		t.Errorf("%v; reports put aside: %q; incidents: %q; want none", err, strangers, incidents)
	}
	w.found = l
}

// checkLedgers compares what the dialer believes with what truly happened.
func (w *world) checkLedgers() {
	l := w.found
	for e, err := range simulator.ReadLedger(&w.ledger) {
		switch {
		case err != nil:
			w.t.Fatal(err)
		case e.Kind == simulator.KindRequest:
			l.requests[e.OutID] = append(l.requests[e.OutID], e)
		case e.Kind == simulator.KindCall:
			l.calls = append(l.calls, e)
		case e.Kind == simulator.KindPush && e.Acked && e.Report == "VoiceReport":
			for _, item := range e.Items {
				l.delivered[item.CallID] = true
			}
		}
	}
	w.checkRequests(l)
	w.checkLimit(l)
	for _, a := range l.attempts {
		w.checkResponse(l, a)
	}
	w.checkOutcomes(l)
	w.checkContacts(l)
	w.checkPeople(l)
}

// checkRequests: at most one request for an attempt, of its number, in its time and in
// the window.
func (w *world) checkRequests(l *ledgers) {
	for outID, times := range w.network.left {
		a := l.byOutID[outID]
		switch {
		case a == nil:
			w.t.Errorf("request %s has no intent", outID)
		case len(times) > 1:
			w.t.Errorf("request %s left %d times", outID, len(times))
		case times[0].Before(a.IntentAt.Truncate(time.Microsecond)) || !times[0].Before(a.SendBy):
			w.t.Errorf("request %s left at %v, intended at %v, to be sent by %v", outID, times[0], a.IntentAt, a.SendBy)
		}
	}
	for outID, entries := range l.requests {
		a, e := l.byOutID[outID], entries[0]
		_, open := w.campaign.Spec.Windows.Open(e.Wall, shanghai)
		switch {
		case a == nil:
			w.t.Errorf("the platform saw request %q that has no intent", outID)
		case len(entries) > 1:
			w.t.Errorf("the platform saw request %s %d times", outID, len(entries))
		case e.Callee != strconv.FormatInt(a.Phone, 10):
			w.t.Errorf("request %s called %s, intended was %d", outID, e.Callee, a.Phone)
		case !open:
			w.t.Errorf("request %s arrived at %v, outside the window", outID, e.Wall)
		case e.Repeat, e.Overlap:
			w.t.Errorf("request %s rang a phone that rang or had rung: %+v", outID, e)
		}
	}
}

// checkLimit: no sliding second above the limit, whatever the network did.
func (w *world) checkLimit(l *ledgers) {
	if worst := w.platform.Stats().Accounts["main"].WorstSecond; worst > w.plan.limit {
		w.t.Errorf("%d requests arrived within a second, the limit is %d", worst, w.plan.limit)
	}
	for _, entries := range l.requests {
		if e := entries[0]; e.Verdict == simulator.VerdictThrottled && e.Fault == "" {
			w.t.Errorf("request %s was throttled by the limit", e.OutID)
		}
	}
}

// checkResponse: a definite yes or no is true, and a doubt has its reason.
func (w *world) checkResponse(l *ledgers, a *believed) {
	var e simulator.Entry
	if entries := l.requests[a.outID]; len(entries) > 0 {
		e = entries[0]
	}
	if a.Class == nil {
		if s := w.nodeCalled(a.Node); s == nil || !s.isCut() && !(w.plan.late > 0 && len(w.network.left[a.outID]) == 0) {
			w.t.Errorf("attempt %s has no response, and %s did not crash", a.outID, a.Node)
		}
		return
	}
	switch *a.Class {
	case "accepted":
		if e.Verdict != simulator.VerdictAccepted || e.CallID != *a.CallID {
			w.t.Errorf("attempt %s is accepted as %s, the platform says %s %s", a.outID, *a.CallID, e.Verdict, e.CallID)
		}
	case "unknown":
		if w.network.doubt[a.outID] == "" && (e.Answered || e.Kind == "") && (e.Fault == "" || e.Fault == "throttle") {
			w.t.Errorf("attempt %s is unknown, and nothing happened to it: %+v", a.outID, e)
		}
	case "unsent":
		if e.Kind != "" {
			w.t.Errorf("attempt %s is unsent, and the platform saw it: %+v", a.outID, e)
		}
	case "refused", "throttled":
		if e.Verdict != *a.Class {
			w.t.Errorf("attempt %s is %s, the platform says %+v", a.outID, *a.Class, e)
		}
	}
}

func (w *world) nodeCalled(name string) *simNode {
	for _, s := range w.nodes {
		if s.name == name {
			return s
		}
	}
	return nil
}

// checkOutcomes: each call whose report was acknowledged has its outcome.
func (w *world) checkOutcomes(l *ledgers) {
	for _, c := range l.calls {
		if !l.delivered[c.CallID] {
			continue
		}
		a := l.byOutID[c.OutID]
		// The platform's record has fewer codes than its receipt, so an outcome that was
		// asked for may have another word.
		if a == nil || a.Outcome == nil || *a.Source == "push" && *a.Outcome != c.Outcome || *a.OutcomeOf != c.CallID || *a.StatusCode != c.StatusCode {
			w.t.Errorf("call %s was %s %s, believed is %+v", c.CallID, c.Outcome, c.StatusCode, a)
		}
	}
}

// checkContacts: a contact is called again only after its last attempt ended in a way
// that allows it, and not more often than it may be.
func (w *world) checkContacts(l *ledgers) {
	spec := w.campaign.Spec
	calls := make(map[string]int) // by number
	for _, entries := range l.requests {
		for _, e := range entries {
			if e.Verdict == simulator.VerdictAccepted {
				calls[e.Callee]++
			}
		}
	}
	for phone, n := range calls {
		if n > spec.MaxAttempts {
			w.t.Errorf("%s was called %d times, allowed is %d", phone, n, spec.MaxAttempts)
		}
	}
	counted := make(map[int64][]time.Time)
	for i, a := range l.attempts {
		if a.Counts == nil || *a.Counts {
			counted[a.Phone] = append(counted[a.Phone], a.IntentAt)
		}
		if int(a.Chance) > spec.MaxAttempts {
			w.t.Errorf("attempt %s is chance %d of %d", a.outID, a.Chance, spec.MaxAttempts)
		}
		if a.ID.Try() == 1 {
			continue
		}
		last := l.attempts[max(i-1, 0)]
		if last.ID != a.ID-1 {
			w.t.Errorf("attempt %s: the try before it is missing", a.outID)
			continue
		}
		if last.Outcome != nil {
			_, again := spec.Retry.Delay(campaign.Outcome(*last.Outcome), int(last.Chance))
			if !again || last.RecordedAt.After(a.IntentAt) || last.Class != nil && !slices.Contains([]string{"accepted", "unknown"}, *last.Class) {
				w.t.Errorf("attempt %s after %+v", a.outID, last)
			}
			continue
		}
		if last.Class == nil || !slices.Contains([]string{"throttled", "refused", "unsent"}, *last.Class) {
			w.t.Errorf("attempt %s after one in doubt: %+v", a.outID, last)
		}
	}
	for phone, times := range counted {
		slices.SortFunc(times, func(a, b time.Time) int { return cmp.Compare(a.UnixNano(), b.UnixNano()) })
		for i, at := range times {
			if k := i - spec.Caps.PerMinute; k >= 0 && at.Sub(times[k]) < time.Minute {
				w.t.Errorf("%d was called %d times within %v", phone, spec.Caps.PerMinute+1, at.Sub(times[k]))
			}
		}
	}
}

// checkPeople: what a person said was obeyed from the moment it was acknowledged.
func (w *world) checkPeople(l *ledgers) {
	for _, p := range w.pauses {
		if p.before != p.after {
			w.t.Errorf("%d attempts while the campaign was paused", p.after-p.before)
		}
		w.checkSilence(l, "the pause", p.from, p.to, func(*believed) bool { return true })
	}
	for _, s := range w.skewed {
		w.checkSilence(l, "the wrong clock", s.from, s.to, func(*believed) bool { return true })
	}
	for phone, at := range w.suppressed {
		w.checkSilence(l, "the suppression", at, time.Time{}, func(a *believed) bool { return a.Phone == int64(phone) })
	}
	if !w.cancelled.IsZero() {
		w.checkSilence(l, "the end", w.cancelled, time.Time{}, func(*believed) bool { return true })
	}
}

// checkSilence: no intent after from, no request later than send_by after it.
func (w *world) checkSilence(l *ledgers, what string, from, to time.Time, of func(*believed) bool) {
	for _, a := range l.attempts {
		if !of(a) {
			continue
		}
		// Intents that arrive late are judged when they arrive, which may be after to.
		if a.IntentAt.After(from) && (to.IsZero() || a.IntentAt.Before(to) && w.plan.late == 0) {
			w.t.Errorf("attempt %s was intended at %v, %v after %s", a.outID, a.IntentAt, a.IntentAt.Sub(from), what)
		}
		for _, left := range w.network.left[a.outID] {
			if left.After(from.Add(simSendWithin)) && (to.IsZero() || left.Before(to)) {
				w.t.Errorf("request %s left %v after %s", a.outID, left.Sub(from), what)
			}
		}
	}
}
