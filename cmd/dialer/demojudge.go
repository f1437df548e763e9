package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/simulator"
)

// demoResult is what the demo prints, and with --json its whole output.
type demoResult struct {
	OK          bool           `json:"ok"`
	Seconds     float64        `json:"seconds"` // the whole demo, set-up included
	Dialling    float64        `json:"dialling_seconds"`
	Limit       int            `json:"limit"`
	WorstSecond int            `json:"worst_second"` // at the simulator
	Pace        float64        `json:"pace"`         // requests per second while work remained
	Campaigns   []demoCampaign `json:"campaigns"`
	Checks      []demoCheck    `json:"checks"`
}

type demoCampaign struct {
	campaign.Progress
	Rows       int              `json:"rows"`
	Contacts   int              `json:"contacts"`
	Duplicates int              `json:"file_duplicates"`
	Rejects    int              `json:"file_rejects"`
	Outcomes   map[string]int64 `json:"outcomes"`
}

type demoCheck struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// judge compares what the dialer believes with what the simulator's own ledger says.
func (d *demo) judge(ctx context.Context) (*demoResult, error) {
	r := &demoResult{OK: true, Seconds: time.Since(d.began).Seconds(), Dialling: d.dialled.Seconds(), Limit: d.account.Limit}
	check := func(ok bool, what, format string, args ...any) {
		r.Checks = append(r.Checks, demoCheck{what, ok, fmt.Sprintf(format, args...)})
		r.OK = r.OK && ok
	}
	for i, c := range d.campaigns {
		p, err := d.db.Progress(ctx, c.ID)
		if err != nil {
			return nil, err
		}
		outcomes, err := d.db.Outcomes(ctx, c.ID)
		if err != nil {
			return nil, err
		}
		counted, err := d.db.Recount(ctx, c.ID)
		if err != nil {
			return nil, err
		}
		imp := d.imports[i]
		shown := demoCampaign{Progress: p, Rows: imp.Rows, Contacts: imp.Contacts, Duplicates: imp.Duplicates, Rejects: imp.Rejects, Outcomes: make(map[string]int64)}
		for _, o := range outcomes {
			shown.Outcomes[string(o.Outcome)] = o.Calls
		}
		r.Campaigns = append(r.Campaigns, shown)
		check(imp.Rows == imp.Contacts+imp.Duplicates+imp.Rejects && p.Imported == p.Done+p.Suppressed+p.Cancelled+p.Expired+p.Unknown+p.Open+p.Pending && p.Open == 0,
			c.Spec.Name+": nobody forgotten", "%d rows = %d contacts + %d duplicates + %d rejects; %d contacts = %d done + %d suppressed + %d unknown + %d waiting for a retry",
			imp.Rows, imp.Contacts, imp.Duplicates, imp.Rejects, p.Imported, p.Done, p.Suppressed, p.Unknown, p.Pending)
		check(counted["done"] == p.Done && counted["pending"] == p.Pending && counted["suppressed"] == p.Suppressed && counted["unknown"] == p.Unknown && counted["open"] == p.Open,
			c.Spec.Name+": the running totals are the ledger's", "recounted row by row: %d done, %d pending", counted["done"], counted["pending"])
	}
	truth, err := readTruth(d.ledger)
	if err != nil {
		return nil, err
	}
	st := d.sim.Stats()
	r.WorstSecond = st.Accounts[d.account.Name].WorstSecond
	r.Pace = truth.pace()
	ours := make(map[string]string) // CallId -> OutId
	wrong := 0
	err = d.db.Ask(ctx, `SELECT call_id, out_id, coalesce(outcome::text, '') FROM report.attempt WHERE call_id IS NOT NULL`, func([]string) {}, func(v []any) {
		ours[v[0].(string)] = v[1].(string)
		if truth.outcomes[v[0].(string)] != v[2].(string) {
			wrong++
		}
	})
	if err != nil {
		return nil, err
	}
	same := len(ours) == len(truth.accepted)
	for call, out := range truth.accepted {
		same = same && ours[call] == out
	}
	check(same, "the simulator's calls are ours, one by one", "%d calls accepted there, %d recorded here, by CallId and OutId", len(truth.accepted), len(ours))
	check(st.Repeats == 0 && st.Overlaps == 0 && truth.twice == 0, "nobody called twice", "%d OutIds with two calls, %d phones rung while in a call, %d numbers called again without a rule", st.Repeats, st.Overlaps, truth.twice)
	check(wrong == 0, "every outcome is what happened", "%d of %d differ", wrong, len(ours))
	check(r.WorstSecond <= r.Limit, "the limit holds", "worst sliding second at the simulator: %d of %d", r.WorstSecond, r.Limit)
	check(r.Pace >= 0.95*float64(r.Limit), "the pace is used", "%.0f requests/s while work remained, %.1f %% of the limit", r.Pace, 100*r.Pace/float64(r.Limit))
	return r, nil
}

// truth is what the simulator's ledger says.
type truth struct {
	accepted map[string]string // CallId -> OutId
	outcomes map[string]string // CallId -> outcome
	arrivals []int64           // of accepted requests, in microseconds
	twice    int               // numbers with more than one call
}

func readTruth(path string) (*truth, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := &truth{accepted: make(map[string]string), outcomes: make(map[string]string)}
	called := make(map[string]bool)
	for e, err := range simulator.ReadLedger(f) {
		if err != nil {
			return nil, err
		}
		switch {
		case e.Kind == simulator.KindRequest && e.Verdict == simulator.VerdictAccepted:
			t.accepted[e.CallID] = e.OutID
			t.arrivals = append(t.arrivals, e.MonoUS)
			if called[e.Callee] {
				t.twice++
			}
			called[e.Callee] = true
		case e.Kind == simulator.KindCall:
			t.outcomes[e.CallID] = e.Outcome
		}
	}
	slices.Sort(t.arrivals)
	return t, nil
}

// pace is the rate of arrivals while there was work for sure: without the first
// hundredth, in which things start, and the last twentieth, in which contacts run out.
func (t *truth) pace() float64 {
	n := len(t.arrivals)
	first, last := n/100, n-1-n/20
	if last <= first {
		return 0
	}
	return float64(last-first) / (float64(t.arrivals[last]-t.arrivals[first]) / 1e6)
}

// demoQueries are two of docs/queries.md.
var demoQueries = []struct{ title, sql string }{
	{"Which numbers shown are answered best?", `
SELECT campaign, caller_id, attempts, answered, answered_percent
  FROM report.caller_id
 ORDER BY campaign, caller_id`},
	{"Who was talked to the longest?", `
SELECT campaign, phone, talk_s, outcome, hangup, to_char(answered_at AT TIME ZONE 'Asia/Shanghai', 'HH24:MI:SS') AS answered
  FROM report.attempt
 WHERE outcome = 'answered'
 ORDER BY talk_s DESC, attempt_id
 LIMIT 5`},
}

func (d *demo) show(ctx context.Context, r *demoResult) error {
	fmt.Fprintln(d.stdout)
	header := []string{"campaign", "imported", "done", "waiting"}
	for _, o := range campaign.Outcomes {
		header = append(header, string(o))
	}
	t := newTable(d.stdout, header...)
	for _, c := range r.Campaigns {
		row := []any{c.Campaign, c.Imported, c.Done, c.Pending}
		for _, o := range campaign.Outcomes {
			row = append(row, c.Outcomes[string(o)])
		}
		t.row(row...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	quiet := &app{getenv: d.getenv, stdout: d.stdout, stderr: d.stderr}
	for _, q := range demoQueries {
		fmt.Fprintf(d.stdout, "\n%s%s\n\n", q.title, q.sql)
		if err := printQuery(ctx, quiet, d.db, q.sql); err != nil {
			return err
		}
	}
	fmt.Fprintln(d.stdout)
	for _, c := range r.Checks {
		fmt.Fprintf(d.stdout, "%s  %s: %s\n", map[bool]string{true: "ok  ", false: "FAIL"}[c.OK], c.What, c.Detail)
	}
	fmt.Fprintf(d.stdout, "\n%.1f s, of which %.1f s dialling\n", r.Seconds, r.Dialling)
	return nil
}
