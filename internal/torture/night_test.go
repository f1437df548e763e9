package torture

import (
	"fmt"
	"testing"
	"time"

	"dialer/internal/postgres"
	"dialer/internal/simulator"
)

// settle waits until all that can be known of a night is known: every contact has an
// attempt, none waits, and every call has its outcome. A campaign that was paused,
// because much is unknown, is resumed as a person would.
func (n *Night) settle(t *testing.T, db *postgres.DB, within time.Duration) {
	t.Helper()
	Eventually(t, within, "everything that can be known", func() (bool, string) {
		var untried, waiting, underway, pushed, outcomes int
		var paused []string
		must(t, db.Pool().QueryRow(t.Context(), `
			SELECT (SELECT count(*) FROM contact k WHERE NOT EXISTS (
			          SELECT FROM attempt a WHERE (a.account_id, a.campaign_id, a.n) = (k.account_id, k.campaign_id, k.n))),
			       (SELECT count(*) FROM due),
			       (SELECT count(*) FROM attempt a WHERE a.send_by > clock_timestamp() AND NOT EXISTS (
			          SELECT FROM response r WHERE (r.account_id, r.attempt_id) = (a.account_id, a.attempt_id))),
			       (SELECT count(*) FROM inbox), (SELECT count(*) FROM outcome),
			       (SELECT array_agg(name) FROM campaign WHERE state = 'paused')`).Scan(&untried, &waiting, &underway, &pushed, &outcomes, &paused))
		for _, name := range paused {
			n.Dialer("campaign", "resume", name)
		}
		st := n.Simulator.Stats()
		return untried == 0 && waiting == 0 && underway == 0 && pushed == 0 && st.Open == 0 && int64(outcomes) == st.Accepted,
			fmt.Sprintf("%d without an attempt, %d due, %d to be answered, %d pushes to apply, %d calls open, %d outcomes of %d calls, %d reports given up",
				untried, waiting, underway, pushed, st.Open, outcomes, st.Accepted, st.GivenUp)
	})
	n.Quiet()
}

// verdict counts what became of contacts, by the ledgers of both sides.
type verdict struct {
	called    int // contacts with exactly one call
	neverSent int // without a call: nothing was recorded of their attempt
	unknown   int // without a call: their request came to nothing, and nobody can know
	doubted   int // attempts without an understood answer, whatever came of them
	unsent    int // attempts of which not one byte was sent
	silent    int // attempts without a response, whatever came of them
}

// judge compares the ledger of the nodes, which have stopped, with that of the platform.
// No number and no OutId may have two calls, and each contact has one or is accounted
// for; what the nodes believe of a call is what happened.
func (n *Night) judge(t *testing.T, db *postgres.DB) verdict {
	t.Helper()
	byOutID := make(map[string]simulator.Entry)
	byCallee := make(map[string]int)
	for _, e := range n.Requests() {
		if e.Verdict != simulator.VerdictAccepted {
			continue
		}
		if _, twice := byOutID[e.OutID]; twice {
			t.Errorf("two calls for OutId %s", e.OutID)
		}
		byOutID[e.OutID] = e
		if byCallee[e.Callee]++; byCallee[e.Callee] > 1 {
			t.Errorf("%s was called %d times", e.Callee, byCallee[e.Callee])
		}
	}
	rows, err := db.Pool().Query(t.Context(), `
		SELECT k.campaign_id, k.n, out_id(a.attempt_id), coalesce(r.class::text, ''), coalesce(r.call_id, ''), coalesce(o.call_id, '')
		  FROM contact k
		  LEFT JOIN attempt a USING (account_id, campaign_id, n)
		  LEFT JOIN response r USING (account_id, attempt_id)
		  LEFT JOIN outcome o USING (account_id, attempt_id)
		 ORDER BY k.campaign_id, k.n, a.attempt_id`)
	must(t, err)
	defer rows.Close()
	type contact struct{ campaign, n int }
	type account struct {
		calls int
		class string // of an attempt without a call of which nobody knows what came
	}
	contacts := make(map[contact]account)
	var v verdict
	for rows.Next() {
		var k contact
		var outID *string
		var class, responded, ended string
		must(t, rows.Scan(&k.campaign, &k.n, &outID, &class, &responded, &ended))
		if outID == nil {
			t.Errorf("contact %+v has no attempt", k)
			continue
		}
		a := contacts[k]
		call, called := byOutID[*outID]
		switch {
		case called:
			a.calls++
		case class == "unknown" || class == "":
			a.class = class
		}
		switch {
		case class == "unknown":
			v.doubted++
		case class == "unsent":
			v.unsent++
		case class == "":
			v.silent++
		}
		if called && class != "accepted" && class != "unknown" && class != "" {
			t.Errorf("contact %+v was called, and its response says %s", k, class)
		}
		if class == "accepted" && responded != call.CallID || ended != "" && ended != call.CallID {
			t.Errorf("contact %+v: response with CallId %q, outcome with %q; the call is %q", k, responded, ended, call.CallID)
		}
		if called && ended == "" {
			t.Errorf("contact %+v was called and has no outcome", k)
		}
		contacts[k] = a
	}
	must(t, rows.Err())
	for k, a := range contacts {
		switch {
		case a.calls == 1:
			v.called++
		case a.calls > 1:
			t.Errorf("contact %+v was called %d times", k, a.calls)
		case a.class == "unknown":
			v.unknown++
		default:
			v.neverSent++
		}
	}
	if st := n.Simulator.Stats(); st.Repeats != 0 || st.Overlaps != 0 || st.Accounts[nightAccount].WorstSecond > 1000 {
		t.Errorf("the platform counts %d repeats, %d overlaps, a worst second of %d", st.Repeats, st.Overlaps, st.Accounts[nightAccount].WorstSecond)
	}
	return v
}
