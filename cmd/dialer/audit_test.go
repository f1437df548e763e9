package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// audited is what 'dialer audit --json' prints.
type audited struct {
	OK       bool
	Verdict  string
	Findings []struct {
		Kind, Campaign, What string
		Count                int64
	}
	InDoubt   []struct{ State, Node, Phone, Why string } `json:"in_doubt"`
	Campaigns []struct {
		Rows int64
		Runs []struct{ Attempts map[string]int64 }
	}
}

func (n *night) auditJSON(t *testing.T) (code int, a audited) {
	t.Helper()
	code, stdout, _ := n.dialer(t, "audit", "--json")
	if err := json.Unmarshal([]byte(stdout), &a); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	return code, a
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	return lines[len(lines)-1]
}

func TestAudit(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	for _, args := range [][]string{{"audit"}, {"audit", "greeting"}} {
		stdout := n.must(t, args...)
		if want := "OK: 8 contacts, nobody twice, nobody forgotten, worst second 4 of 1000 on tests, 1 pending, 3 open, 3 wait for a person: dialer resolve"; lastLine(stdout) != want {
			t.Errorf("dialer %v: the verdict is\n%s\nwant\n%s", args, lastLine(stdout), want)
		}
		for _, want := range []string{
			"worst second (limit 1000)", "may be 1 ms off", "138****0004", "lost     ", "no understood answer (timeout), and no receipt",
			"its node recorded nothing: it may not have been sent", "blue", n.outIDs["lost"], n.outIDs["unknown"], n.outIDs["silent"],
		} {
			if !strings.Contains(stdout, want) {
				t.Errorf("dialer %v does not say %q:\n%s", args, want, stdout)
			}
		}
		for _, what := range []string{"answered", "accepted", "refused"} {
			if strings.Contains(stdout, n.outIDs[what]) {
				t.Errorf("dialer %v lists the attempt that is %s", args, what)
			}
		}
	}
	code, a := n.auditJSON(t)
	if code != exitOK || !a.OK || len(a.InDoubt) != 3 || a.Campaigns[0].Rows != 8 {
		t.Errorf("--json: exit code %d, %+v", code, a)
	}
	want := map[string]int64{"ended": 2, "throttled": 1, "refused": 1, "lost": 1, "unknown": 2, "accepted": 1}
	for state, n := range want {
		if got := a.Campaigns[0].Runs[0].Attempts[state]; got != n {
			t.Errorf("%d attempts of the run %s, want %d", got, state, n)
		}
	}
	if code, _, stderr := n.dialer(t, "audit", "nothing"); code != exitFailure || !strings.Contains(stderr, `"nothing"`) {
		t.Errorf("of an unknown campaign: exit code %d: %s", code, stderr)
	}
}

func TestAuditOfNothing(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	n.change(t, `TRUNCATE contact, import, attempt, response, receipt, outcome, lost, due, batch, progress`)
	if got, want := lastLine(n.must(t, "audit")), "OK: 0 contacts, nobody twice, nobody forgotten"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// change does to the ledger what its triggers forbid.
func (n *night) change(t *testing.T, statements ...string) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), n.db.Pool(), func(tx pgx.Tx) error {
		for _, sql := range append([]string{`SET LOCAL session_replication_role = replica`}, statements...) {
			tag, err := tx.Exec(t.Context(), sql)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 && (tag.Update() || tag.Delete() || tag.Insert()) {
				t.Errorf("changes nothing: %s", sql)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Each history is good but for one thing, and the audit names it.
func TestAuditFindsWhatDoesNotAddUp(t *testing.T) {
	t.Parallel()
	// attempt makes another attempt of contact n, as the program never would.
	attempt := func(n, try, chance, after string) string {
		return `INSERT INTO attempt SELECT account_id, ((campaign_id::bigint << 41) | (n::bigint << 10) | ` + try + `), phone, intent_at + interval '` + after + `', send_by + interval '` + after + `',
		        campaign_id, n, node_id, ` + try + `, ` + chance + `, caller_id FROM attempt WHERE n = ` + n + ` ORDER BY try DESC LIMIT 1`
	}
	tests := []struct {
		kind   string
		says   string
		change []string
	}{
		{"import", "had 9 rows, and became 8 contacts", []string{`ALTER TABLE import DROP CONSTRAINT import_check`, `UPDATE import SET rows = 9`}},
		{"contacts_missing", "brought 8 contacts, and 7 are there", []string{`DELETE FROM contact WHERE n = 8`}},
		{"conservation", "9 contacts were imported, and the states add up to 8", []string{`UPDATE import SET rows = 9, contacts = 9, last_n = 9`}},
		{"totals", "4 attempts accepted by the running totals, 3 counted", []string{`INSERT INTO progress SELECT account_id, campaign_id, label, node_id, seq + 1, total + 1 FROM progress WHERE label = 'response:accepted' ORDER BY seq DESC LIMIT 1`}},
		{"totals", "contacts unknown by the running totals", []string{`UPDATE progress SET total = total - 1 WHERE label = 'unknown'`}},
		{"totals", "contacts open by the running totals", []string{`INSERT INTO progress SELECT account_id, campaign_id, label, node_id, seq + 1, total - 1 FROM progress WHERE label = 'closed' ORDER BY seq DESC LIMIT 1`}},
		{"forgotten", "1 contacts are used up and have no attempt, no skip and no place in the queue (first: contact 7)", []string{`DELETE FROM attempt WHERE n = 7`}},
		{"before_the_cursor", "the cursor has not passed them (first: contact 6", []string{`UPDATE batch SET upto_n = 5 WHERE upto_n = 7`}},
		{"waits_wrongly", "1 contacts wait for a try that they had", []string{`INSERT INTO due SELECT account_id, campaign_id, n, 1, 1, intent_at, 'cap' FROM attempt WHERE n = 1`}},
		{"stray", "1 rows of outcome are about attempts that are not there", []string{`UPDATE outcome SET attempt_id = attempt_id + 1023 WHERE call_id = 'call-1'`}},
		{"stray", "1 rows of due are about contacts that are not there", []string{`INSERT INTO due SELECT account_id, campaign_id, 99, 1, 1, intent_at, 'cap' FROM attempt WHERE n = 1`}},
		{"not_the_contact", "another number than theirs (first: contact 1", []string{`UPDATE attempt SET phone = phone + 1000 WHERE n = 1`}},
		{"wrong_account", "belong to another account than their campaign", []string{`INSERT INTO account (name, spec, changed_at) SELECT 'other', spec, changed_at FROM account`,
			`UPDATE attempt SET account_id = 2 WHERE n = 1`}},
		{"try_missing", "have none before them that they would follow", []string{`DELETE FROM attempt WHERE n = 2 AND try = 1`}},
		{"again_in_doubt", "followed by another while nobody knew what became of their call (first: contact 4", []string{attempt("4", "2", "2", "90 minutes")}},
		{"again_without_a_rule", "made again without a rule that wants it (first: contact 1", []string{attempt("1", "2", "2", "90 minutes")}},
		{"too_often", "go beyond the max_attempts of their campaign", []string{attempt("1", "3", "3", "90 minutes")}},
		{"too_often", "go beyond the max_attempts of their campaign", []string{attempt("1", "2", "1", "90 minutes")}},
		{"contradiction", "have a call although the platform or a person said there was none, or two calls", []string{`UPDATE outcome SET attempt_id = (SELECT attempt_id FROM attempt WHERE n = 3) WHERE call_id = 'call-1'`}},
		{"contradiction", "or two calls", []string{`UPDATE outcome SET call_id = 'another' WHERE call_id = 'call-1'`}},
		{"contradiction", "or two calls", []string{`INSERT INTO settlement SELECT account_id, attempt_id, 'not_called', false, 'r', 'p', NULL, intent_at FROM attempt WHERE n = 6`}},
		{"suppressed", "1 attempts went to a number that was on the list", []string{`INSERT INTO suppression SELECT phone, NULL, 'asked', 'test', intent_at - interval '1 hour' FROM attempt WHERE n = 1`}},
		{"outside_a_run", "intended while no run of their campaign was open", []string{`UPDATE run SET started_at = started_at + interval '1 hour'`}},
		{"outside_a_run", "intended while no run of their campaign was open", []string{`UPDATE run SET ended_at = started_at, end_reason = 'done', started_at = started_at - interval '1 day'`, `UPDATE run SET ended_at = started_at`}},
		{"over_the_limit", "account tests: 4 requests within one second, and the limit is 3", []string{`UPDATE account SET spec = jsonb_set(spec, '{limit}', '3')`}},
		{"incident", "1 incidents two_calls: somebody may have been called twice", []string{`INSERT INTO incident (at, account_id, campaign_id, kind, detail) SELECT started_at, account_id, campaign_id, 'two_calls', 'x' FROM run`}},
		{"cap", "more often within a minute than the caps allow", []string{attempt("1", "2", "2", "30 seconds")}},
		{"cap", "more often within 24 hours than the caps allow", []string{`UPDATE campaign_version SET spec = jsonb_set(spec, '{caps,per_day}', '1')`, attempt("1", "2", "2", "90 minutes")}},
		{"cap", "more often within 30 days than the caps allow", []string{`UPDATE campaign_version SET spec = jsonb_set(spec, '{caps,per_30_days}', '1')`, attempt("1", "2", "2", "90 minutes")}},
		{"while_open", "went to a number while another call to it was open", []string{attempt("6", "2", "2", "30 minutes")}},
		{"doubled", "1 CallIds are of more than one attempt", []string{`UPDATE response SET call_id = 'call-1' WHERE call_id = 'call-6'`}},
		{"doubled", "1 OutIds are of more than one attempt", []string{`INSERT INTO account (name, spec, changed_at) SELECT 'other', spec, changed_at FROM account`,
			`INSERT INTO attempt SELECT 2, attempt_id, phone, intent_at, send_by, campaign_id, n, node_id, try, chance, caller_id FROM attempt WHERE n = 1`}},
	}
	for _, tt := range tests {
		t.Run(tt.kind, func(t *testing.T) {
			t.Parallel()
			n := newNight(t)
			n.change(t, tt.change...)
			code, stdout, stderr := n.dialer(t, "audit")
			if code != exitFailure || !strings.HasPrefix(stderr, "dialer: the audit found something") {
				t.Errorf("exit code %d, stderr %q", code, stderr)
			}
			if v := lastLine(stdout); !strings.HasPrefix(v, "NOT OK: ") || !strings.Contains(v, tt.says) {
				t.Errorf("the verdict does not say %q: %s", tt.says, v)
			}
			_, a := n.auditJSON(t)
			if named := strings.Count(a.Verdict, tt.says); a.OK || named == 0 {
				t.Errorf("--json: %+v", a)
			}
			found := false
			for _, f := range a.Findings {
				found = found || f.Kind == tt.kind && strings.Contains(a.Verdict, f.What)
			}
			if !found {
				t.Errorf("no finding %s: %+v", tt.kind, a.Findings)
			}
		})
	}
}
