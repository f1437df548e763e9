package torture

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
	"dialer/internal/simulator"
)

// badHistory is the good history with one thing wrong.
type badHistory struct {
	breaks string   // the invariant
	also   []string // what cannot but be broken with it
	what   string
	// One of these makes the difference. In sql r9.1 is the id of the first attempt of
	// contact 9 of the campaign renewal, s is the campaign survey; triggers are off.
	sql   string
	seen  func(*sight)
	rules func(*Rules)
}

// badHistories is sorted by invariant.
var badHistories = []badHistory{
	{breaks: "I1", also: []string{"I2b"}, what: "the request is repeated after the call was over, and accepted",
		seen: func(s *sight) {
			r := *s.request("r11.1")
			r.Wall, r.MonoUS, r.CallID = r.Wall.Add(7*time.Second), r.MonoUS+7_000_000, "other"
			s.add(r)
		}},
	{breaks: "I1", what: "the simulator remembers a call for the OutId that its ledger does not show",
		seen: func(s *sight) { s.request("r2.2").Repeat = true }},
	{breaks: "I1b", what: "a campaign calls a number that is on the phone for another one",
		seen: func(s *sight) { s.call("r1.1").EndedAt = clock(2, "11:00:01") }},
	{breaks: "I2", what: "somebody else is called",
		seen: func(s *sight) { s.request("r1.1").Callee = "13912345678" }},
	{breaks: "I2", what: "another number is shown",
		seen: func(s *sight) { s.request("r10.1").Caller = "057199999999" }},
	{breaks: "I2", what: "the request goes before its intent",
		seen: func(s *sight) { s.moved("r4.1", -time.Second) }},
	{breaks: "I2", also: []string{"I5b", "I14", "I14b"}, what: "the database has forgotten an intent",
		sql: `DELETE FROM attempt WHERE attempt_id = r6.1; DELETE FROM response WHERE attempt_id = r6.1; DELETE FROM lost WHERE attempt_id = r6.1`},
	{breaks: "I2b", what: "a refused request is made again under the same OutId",
		seen: func(s *sight) { s.add(s.later("r4.1", time.Second)) }},
	{breaks: "I2c", what: "the first byte is written after the send_by",
		sql: `UPDATE response SET sent_at = sent_at + interval '4 s', answered_at = answered_at + interval '4 s' WHERE attempt_id = r1.1`},
	{breaks: "I2c", what: "a request arrives long after its send_by",
		seen: func(s *sight) { s.moved("r4.1", 20*time.Second) }},
	{breaks: "I3", also: []string{"I4"}, what: "a contact is called twice and the campaign permits one call",
		sql: `UPDATE campaign_version SET spec = spec || '{"max_attempts": 1}' WHERE campaign_id = s`},
	{breaks: "I3", also: []string{"I1", "I1b", "I2b"}, what: "a contact is rung more often than it has chances",
		seen: func(s *sight) {
			s.add(s.later("s1.1", time.Second))
			s.add(s.later("s1.1", 2*time.Second))
		}},
	{breaks: "I4", also: []string{"I2", "I14", "I14b"}, what: "there is no first try before the second",
		sql: `DELETE FROM attempt WHERE attempt_id = s2.1; DELETE FROM response WHERE attempt_id = s2.1; DELETE FROM lost WHERE attempt_id = s2.1`},
	{breaks: "I4", what: "a lost attempt is redialled by a campaign that holds them",
		sql: `UPDATE campaign_version SET spec = spec || '{"lost": "hold"}' WHERE campaign_id = s`},
	{breaks: "I4", what: "a busy number is called again before its time",
		sql: `UPDATE attempt SET intent_at = intent_at - interval '3 min' WHERE attempt_id = r2.2`},
	{breaks: "I4", also: []string{"I7", "I14", "I14b"}, what: "somebody who answered is called again",
		sql: `UPDATE outcome SET outcome = 'answered' WHERE attempt_id = r2.1`},
	{breaks: "I4", what: "a contact that cannot be called is called again",
		sql: `UPDATE response SET code = 'isv.MOBILE_NUMBER_ILLEGAL', counts = false WHERE attempt_id = r12.1`},
	{breaks: "I4", also: []string{"I6", "I12", "I14", "I14b", "I19"}, what: "a node that died leaves a contact, and the next calls it again",
		sql: `DELETE FROM response WHERE attempt_id = r3.1`},
	{breaks: "I5", also: []string{"I14"}, what: "a contact of the file is missing",
		sql: `DELETE FROM contact WHERE campaign_id = r AND n = 12`},
	{breaks: "I5", what: "a contact is not the one that was called",
		sql: `UPDATE contact SET phone = 13911111111 WHERE campaign_id = r AND n = 4`},
	{breaks: "I5", what: "a row of the file is neither contact nor duplicate nor reject",
		sql: `ALTER TABLE import DROP CONSTRAINT import_check; UPDATE import SET rows = rows + 1 WHERE campaign_id = r`},
	{breaks: "I5", also: []string{"I14"}, what: "a contact comes from no file",
		sql: `INSERT INTO contact SELECT account_id, campaign_id, 16, 13922222222, vars, 1 FROM contact WHERE campaign_id = r AND n = 1`},
	{breaks: "I5", also: []string{"I14"}, what: "a contact waits that does not exist",
		sql: `INSERT INTO due SELECT account_id, campaign_id, 99, 1, 1, due_at, 'cap' FROM due WHERE campaign_id = r AND n = 11`},
	{breaks: "I5b", what: "a busy contact no longer waits",
		sql: `DELETE FROM due WHERE campaign_id = r AND n = 11`},
	{breaks: "I5b", also: []string{"I14"}, what: "the cursor is past a contact that nobody called",
		sql: `DELETE FROM skip WHERE campaign_id = r AND n = 7`},
	{breaks: "I5b", also: []string{"I14"}, what: "a suppressed contact waits for its call",
		sql: `INSERT INTO due SELECT account_id, campaign_id, n, 1, 1, at, 'cap' FROM skip WHERE campaign_id = r AND n = 7`},
	{breaks: "I5b", also: []string{"I14"}, what: "the cursor is before a contact that was called",
		sql: `UPDATE batch SET upto_n = 14 WHERE campaign_id = r`},
	{breaks: "I5b", also: []string{"I14"}, what: "a suppressed contact is called later",
		sql: `INSERT INTO skip SELECT account_id, campaign_id, n, 'suppressed', intent_at - interval '1 min' FROM attempt WHERE attempt_id = r2.2`},
	{breaks: "I5b", what: "a contact whose attempt is lost does not wait, and the campaign redials",
		sql: `UPDATE campaign_version SET spec = spec || '{"lost": "redial"}' WHERE campaign_id = r`},
	{breaks: "I5b", what: "a contact that was called too often does not wait",
		sql: `UPDATE response SET counts = true WHERE attempt_id = r4.1`},
	{breaks: "I5b", what: "a contact is done because the campaign was at fault",
		sql: `UPDATE response SET code = 'isv.VOICE_FILE_ILLEGAL' WHERE attempt_id = r4.1`},
	{breaks: "I5b", what: "a contact that was throttled is taken for done",
		sql: `INSERT INTO response SELECT account_id, r9.1, 'throttled', false, sent_at, answered_at, code FROM response WHERE attempt_id = r3.1;
		      INSERT INTO progress SELECT account_id, campaign_id, 'response:throttled', 99, 1, 1 FROM attempt WHERE attempt_id = r9.1;
		      INSERT INTO progress SELECT account_id, campaign_id, 'unknown', 99, 1, -1 FROM attempt WHERE attempt_id = r9.1`,
		seen: func(s *sight) {
			r := *s.request("r3.1")
			r.OutID, r.Callee = s.outID("r9.1"), number(9).Digits()
			s.add(r)
		}},
	{breaks: "I6", what: "a push is left in the inbox",
		sql: `INSERT INTO inbox (account_id, received_at, body) SELECT account_id, changed_at, '[]' FROM account`},
	{breaks: "I6", also: []string{"I14", "I14b"}, what: "an attempt stays unknown",
		sql: `DELETE FROM lost WHERE attempt_id = r6.1`},
	{breaks: "I6", what: "a run is done and a contact waits",
		sql: `UPDATE run SET end_reason = 'done' WHERE campaign_id = r AND end_reason = 'window_closed'`},
	{breaks: "I7", what: "the seconds of talk are wrong",
		sql: `UPDATE outcome SET talk_s = 21 WHERE attempt_id = r1.1`},
	{breaks: "I7", what: "the outcome is that of another call",
		sql: `UPDATE outcome SET call_id = 'other' WHERE attempt_id = r1.1`},
	{breaks: "I7", what: "an answer to a query is taken wrongly",
		sql: `UPDATE outcome SET status_code = '200001' WHERE attempt_id = r10.1`},
	{breaks: "I7", what: "an outcome is taken from a query that was never made",
		seen: func(s *sight) { s.drop(simulator.KindQuery, "r10.1") }},
	{breaks: "I7", also: []string{"I14c"}, what: "the phone was busy, we say that it was answered",
		seen: func(s *sight) { s.call("r12.2").Outcome = "busy" }},
	{breaks: "I7", also: []string{"I6", "I14", "I14b"}, what: "a report was acknowledged and its outcome is missing",
		sql: `DELETE FROM outcome WHERE attempt_id = r5.1`},
	{breaks: "I7b", also: []string{"I13"}, what: "a phone rang by a request that we take for refused",
		seen: func(s *sight) { r := s.request("r4.1"); r.Verdict, r.CallID = simulator.VerdictAccepted, "other" }},
	{breaks: "I8", what: "a report on the progress was acknowledged and is not stored",
		sql: `DELETE FROM receipt WHERE ctid = (SELECT ctid FROM receipt WHERE attempt_id = r1.1 AND kind = 'VoiceCallReport' LIMIT 1)`},
	{breaks: "I8", also: []string{"I13b"}, what: "a final report was acknowledged and is not stored",
		sql: `DELETE FROM receipt WHERE attempt_id = r2.2`},
	{breaks: "I8", what: "a report is stored twice",
		sql: `INSERT INTO receipt SELECT account_id, attempt_id, '\xff', received_at, kind, final, raw FROM receipt WHERE attempt_id = r2.2`},
	{breaks: "I8", what: "a report is stored that was never pushed",
		seen: func(s *sight) { s.drop(simulator.KindPush, "r8.2") }},
	{breaks: "I9", what: "thirteen requests come within a second, where twelve are allowed",
		seen: func(s *sight) {
			for i, e := range s.requests()[:13] {
				e.MonoUS = 1_000_000 + int64(i)*83_333
			}
		}},
	{breaks: "I10", what: "the campaign's window was closed",
		sql: `UPDATE campaign_version SET spec = spec || '{"windows": ["09:00-11:00", "13:00-20:30"]}' WHERE campaign_id = s`},
	{breaks: "I10", what: "the windows are those of another zone",
		sql: `UPDATE campaign_version SET spec = spec || '{"zone": "Europe/Berlin"}' WHERE campaign_id = r`},
	{breaks: "I10", also: []string{"I2c"}, what: "a request arrives in the second in which the window has closed",
		seen: func(s *sight) { s.request("r2.2").Wall = clock(1, "12:00:00") }},
	{breaks: "I11", what: "a number was on the list before it was called",
		sql: `INSERT INTO suppression SELECT phone, NULL, 'asked', 'test', intent_at - interval '1 min' FROM attempt WHERE attempt_id = r4.1`},
	{breaks: "I11", what: "a number was on the list until later",
		sql: `UPDATE suppression SET until = until + interval '1 day' WHERE until IS NOT NULL`},
	{breaks: "I12", what: "a number gets a second call within a minute",
		sql: `UPDATE attempt SET intent_at = intent_at - interval '90 s' WHERE attempt_id = r12.2`},
	{breaks: "I12", also: []string{"I1b", "I7b", "I13"}, what: "a number gets a second call within a minute, because the first is taken for throttled",
		seen: func(s *sight) { r := s.request("r3.1"); r.Verdict, r.CallID = simulator.VerdictAccepted, "other" }},
	{breaks: "I12", what: "a number gets a second call within a day",
		sql: `UPDATE campaign_version SET spec = jsonb_set(spec, '{caps,per_day}', '1') WHERE campaign_id = r`},
	{breaks: "I12", what: "another campaign has called the number in the last 30 days",
		sql: `UPDATE campaign_version SET spec = jsonb_set(spec, '{caps,per_30_days}', '1') WHERE campaign_id = s`},
	{breaks: "I13", what: "a request that was not sent arrives",
		seen: func(s *sight) {
			r := *s.request("r6.1")
			r.OutID, r.Callee = s.outID("r8.1"), number(8).Digits()
			s.add(r)
		}},
	{breaks: "I13", what: "the CallId is that of another call",
		sql: `UPDATE response SET call_id = 'other' WHERE attempt_id = r1.1`},
	{breaks: "I13", what: "the platform did not say whether it took a request that we take for throttled",
		seen: func(s *sight) { s.request("r3.1").Verdict = simulator.VerdictDropped }},
	{breaks: "I13", what: "the platform did not say whether it took a request that we take for refused",
		seen: func(s *sight) { s.request("r4.1").Verdict = simulator.VerdictDropped }},
	{breaks: "I13", what: "the platform never saw a request that we take for throttled",
		seen: func(s *sight) { s.drop(simulator.KindRequest, "r3.1") }},
	{breaks: "I13", what: "a refusal that the platform never gave",
		seen: func(s *sight) { s.drop(simulator.KindRequest, "r4.1") }},
	{breaks: "I13b", what: "an attempt is lost before its time",
		sql: `UPDATE lost SET at = at - interval '10 min' WHERE attempt_id = r6.1`},
	{breaks: "I13b", what: "an attempt is lost that had ended",
		sql: `INSERT INTO lost SELECT account_id, attempt_id, '2025-03-03 12:00+08', '' FROM attempt WHERE attempt_id = r1.1`},
	{breaks: "I13b", what: "an outcome belongs to no attempt",
		sql: `INSERT INTO outcome (account_id, attempt_id, outcome, call_id, status_code, status_msg, smart_status_code, early_media_code, hangup, talk_s, source, recorded_at)
		      SELECT account_id, r7.1, outcome, 'other', '', '', '', '', '', 0, source, recorded_at FROM outcome WHERE attempt_id = r1.1`},
	{breaks: "I13b", what: "a response belongs to no attempt",
		sql: `INSERT INTO response SELECT account_id, r7.1, class, counts, sent_at, answered_at, code FROM response WHERE attempt_id = r4.1`},
	{breaks: "I13b", what: "a request was sent before its intent",
		sql: `UPDATE response SET sent_at = sent_at - interval '1 s' WHERE attempt_id = r1.1`},
	{breaks: "I13b", what: "a request was answered before it was sent",
		sql: `UPDATE response SET sent_at = sent_at + interval '1 s' WHERE attempt_id = r1.1`},
	{breaks: "I13b", what: "a call had ended before it was intended",
		sql: `UPDATE outcome SET recorded_at = recorded_at - interval '1 min' WHERE attempt_id = r1.1`},
	{breaks: "I13c", what: "somebody who answered waits for another call",
		sql: `INSERT INTO due SELECT account_id, campaign_id, n, 2, 2, intent_at, 'retry' FROM attempt WHERE attempt_id = r5.1`},
	{breaks: "I13c", what: "a busy contact waits for less than the rule says",
		sql: `UPDATE due SET due_at = due_at - interval '1 min' WHERE campaign_id = r AND n = 11`},
	{breaks: "I13c", what: "a contact waits for a try that was made",
		sql: `INSERT INTO due SELECT account_id, campaign_id, n, 2, 2, intent_at + interval '1 day', 'retry' FROM attempt WHERE attempt_id = r2.1`},
	{breaks: "I13d", what: "a holder of an old term writes a batch",
		sql: `UPDATE batch SET term = 9 WHERE seq = 2`},
	{breaks: "I13d", what: "the cursor goes back",
		sql: `UPDATE batch SET upto_n = 16 WHERE seq = 1`},
	{breaks: "I13d", what: "two batches have one number",
		sql: `ALTER TABLE batch DROP CONSTRAINT batch_pkey; INSERT INTO batch SELECT * FROM batch WHERE seq = 1`},
	{breaks: "I13e", what: "somebody may have been called twice, the ledger says",
		sql: `INSERT INTO incident (at, account_id, kind, detail) SELECT changed_at, account_id, 'two_calls', 'outcome with CallId a, receipt with CallId b' FROM account`},
	{breaks: "I14", what: "the cursor's row counts an intent too many",
		sql: `UPDATE batch SET intents = intents + 1 WHERE seq = (SELECT max(seq) FROM batch WHERE campaign_id = r)`},
	{breaks: "I14", what: "the view of contacts takes the unknown for done",
		sql: `DO $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW report.contact AS ' || replace(pg_get_viewdef('report.contact'), '''unknown''::text', '''done''::text'); END $$`},
	{breaks: "I14b", also: []string{"I14"}, what: "an accepted request is counted twice",
		sql: `UPDATE progress SET total = total + 1 WHERE campaign_id = s AND label = 'response:accepted' AND seq = 2`},
	{breaks: "I14b", what: "a total goes back",
		sql: `UPDATE progress SET total = 50 WHERE campaign_id = r AND label = 'response:accepted' AND seq = 1`},
	{breaks: "I14c", also: []string{"I14b"}, what: "a busy call is counted as one that nobody answered",
		sql: `INSERT INTO progress SELECT account_id, campaign_id, 'outcome:no_answer', 99, 1, 1 FROM attempt WHERE attempt_id = r2.1;
		      INSERT INTO progress SELECT account_id, campaign_id, 'outcome:busy', 99, 1, -1 FROM attempt WHERE attempt_id = r2.1`},
	{breaks: "I15", what: "a firing that nobody noticed has no row",
		sql: `DELETE FROM run WHERE end_reason = 'skipped'`},
	{breaks: "I15", what: "a firing has two rows",
		sql: `ALTER TABLE run DROP CONSTRAINT run_campaign_id_planned_at_key;
		      INSERT INTO run (account_id, campaign_id, version, planned_at, ended_at, end_reason) SELECT account_id, campaign_id, version, planned_at, ended_at, end_reason FROM run WHERE end_reason = 'skipped'`},
	{breaks: "I15", what: "a run is planned for a time that the schedule does not know",
		sql: `INSERT INTO run (account_id, campaign_id, version, planned_at, ended_at, end_reason)
		      SELECT account_id, campaign_id, version, planned_at + interval '1 h', ended_at, end_reason FROM run WHERE end_reason = 'skipped'`},
	{breaks: "I15", what: "the schedule was forgotten",
		sql: `UPDATE campaign SET next_run_at = NULL WHERE campaign_id = r`},
	{breaks: "I16", what: "a campaign goes on after its pause was acknowledged",
		rules: func(r *Rules) { r.Pauses = append(r.Pauses, Pause{Campaign: "renewal", At: clock(1, "10:00:03")}) }},
	{breaks: "I16", what: "an account goes on after its pause was acknowledged",
		rules: func(r *Rules) {
			r.Pauses = []Pause{{Account: "acme", At: clock(1, "12:30:00"), ResumedAt: clock(2, "11:00:01")}}
		}},
	{breaks: "I16b", what: "contacts are called before the run begins",
		sql: `UPDATE run SET started_at = started_at + interval '3 s' WHERE campaign_id = r AND started_at IS NOT NULL`},
	{breaks: "I16b", what: "contacts are called after the run has ended",
		sql: `UPDATE run SET ended_at = ended_at - interval '2 h' WHERE campaign_id = r AND started_at IS NOT NULL`},
	{breaks: "I17", also: []string{"I2"}, what: "a request names no attempt",
		seen: func(s *sight) {
			r := *s.request("r4.1")
			r.OutID, r.MonoUS = "0123456789abcde", r.MonoUS+10_000_000
			s.add(r)
		}},
	{breaks: "I17", what: "the database names attempts otherwise than the program",
		sql: `CREATE OR REPLACE FUNCTION out_id(attempt_id bigint) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'ABCDEFGHJKMNPQR' $$`},
	{breaks: "I18", what: "an outcome comes after the deadline",
		sql: `UPDATE outcome SET recorded_at = '2025-03-04 13:00:01+08' WHERE attempt_id = r1.1`},
	{breaks: "I19", what: "more attempts are in doubt than the faults explain",
		rules: func(r *Rules) { r.MostDoubt = new(4) }},
	{breaks: "I20", what: "the platform's text holds a number",
		sql: `UPDATE response SET message = 'called 13900000004: refused' WHERE attempt_id = r4.1`},
	{breaks: "I20", what: "the reason of a pause holds the number of a landline",
		sql: `UPDATE campaign SET reason = '057188880010 complained' WHERE campaign_id = r`},
}

// Each bad history is found bad for its reason and for no other. Every invariant, and
// every query of one, finds something in some history: a check that was never seen to
// fail might as well not be there.
func TestBadHistories(t *testing.T) {
	h := goodHistory(t)
	found := make(map[string][]bool)
	for _, invariant := range Invariants() {
		found[invariant.Name] = make([]bool, len(invariant.queries))
	}
	for _, bad := range badHistories {
		t.Run(bad.breaks+" "+bad.what, func(t *testing.T) {
			h.spoilt(t, bad, func(tx pgx.Tx, r Report) {
				want := append([]string{bad.breaks}, bad.also...)
				got := r.Broken()
				slices.Sort(want)
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
					h.must(r.Summary(t.Output()))
				}
				masked(t, r)
				i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Name == bad.breaks })
				if i < 0 {
					return
				}
				for q, query := range r.Findings[i].queries {
					var finds bool
					h.must(tx.QueryRow(t.Context(), `SELECT EXISTS (`+query+`)`, pgx.QueryExecModeSimpleProtocol).Scan(&finds))
					found[bad.breaks][q] = found[bad.breaks][q] || finds
				}
			})
		})
	}
	for _, invariant := range Invariants() {
		for q, finds := range found[invariant.Name] {
			if !finds {
				t.Errorf("%s: %s No history is found bad by its query %d", invariant.Name, invariant.Says, q+1)
			}
		}
	}
}

var wholeNumber = regexp.MustCompile(`\b(139\d{8}|0?57188880010)\b`)

func masked(t *testing.T, r Report) {
	t.Helper()
	for _, f := range r.Findings {
		for _, line := range f.Lines {
			if wholeNumber.MatchString(line) {
				t.Errorf("%s shows a whole number: %s", f.Name, line)
			}
		}
	}
}

// spoil checks the history with one thing wrong, and undoes it.
func (h *history) spoil(t *testing.T, bad badHistory) (report Report) {
	t.Helper()
	h.spoilt(t, bad, func(_ pgx.Tx, r Report) { report = r })
	return report
}

// spoilt does the same and shows the database before it undoes it.
func (h *history) spoilt(t *testing.T, bad badHistory, look func(pgx.Tx, Report)) {
	t.Helper()
	ctx := t.Context()
	tx, err := h.db.Pool().Begin(ctx)
	h.must(err)
	defer func() { h.must(tx.Rollback(ctx)) }()
	if bad.sql != "" {
		_, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica;`+h.named(bad.sql)+`; SET LOCAL session_replication_role = origin`, pgx.QueryExecModeSimpleProtocol)
		h.must(err)
	}
	s := &sight{t: t, h: h, entries: slices.Clone(h.seen)}
	if bad.seen != nil {
		bad.seen(s)
	}
	rules := h.rules()
	if bad.rules != nil {
		bad.rules(&rules)
	}
	r, err := Check(ctx, tx, written(t, s.entries), rules)
	h.must(err)
	look(tx, r)
}

var attemptName = regexp.MustCompile(`\b([rs])(\d+)\.(\d+)\b`)
var campaignName = regexp.MustCompile(`campaign_id = ([rs])\b`)

// named replaces the names of attempts and campaigns by their numbers.
func (h *history) named(sql string) string {
	sql = attemptName.ReplaceAllStringFunc(sql, func(name string) string { return strconv.FormatInt(int64(h.attempt(name)), 10) })
	return campaignName.ReplaceAllStringFunc(sql, func(is string) string {
		return fmt.Sprintf("campaign_id = %d", h.campaign(is[len(is)-1:]))
	})
}

func (h *history) campaign(name string) campaign.ID {
	if name == "s" {
		return h.survey
	}
	return h.renewal
}

func (h *history) attempt(name string) campaign.AttemptID {
	m := attemptName.FindStringSubmatch(name)
	if m == nil {
		h.Fatalf("%q names no attempt", name)
	}
	n, _ := strconv.Atoi(m[2])
	try, _ := strconv.Atoi(m[3])
	return campaign.NewAttemptID(h.campaign(m[1]), int32(n), try)
}

// sight is what the simulator saw, to be spoilt. The entries are copies.
type sight struct {
	t       *testing.T
	h       *history
	entries []simulator.Entry
}

func (s *sight) outID(attempt string) string { return s.h.db.OutIDKey().OutID(s.h.attempt(attempt)) }

func (s *sight) find(kind, attempt string) int {
	s.t.Helper()
	outID := s.outID(attempt)
	i := slices.IndexFunc(s.entries, func(e simulator.Entry) bool {
		return e.Kind == kind && (e.OutID == outID || len(e.Items) > 0 && e.Items[0].OutID == outID)
	})
	if i < 0 {
		s.t.Fatalf("the simulator saw no %s of %s", kind, attempt)
	}
	return i
}

func (s *sight) request(attempt string) *simulator.Entry {
	s.t.Helper()
	return &s.entries[s.find(simulator.KindRequest, attempt)]
}

func (s *sight) call(attempt string) *simulator.Entry {
	s.t.Helper()
	return &s.entries[s.find(simulator.KindCall, attempt)]
}

func (s *sight) requests() []*simulator.Entry {
	var all []*simulator.Entry
	for i := range s.entries {
		if s.entries[i].Kind == simulator.KindRequest {
			all = append(all, &s.entries[i])
		}
	}
	return all
}

func (s *sight) moved(attempt string, by time.Duration) {
	s.t.Helper()
	e := s.request(attempt)
	*e = s.later(attempt, by)
}

// later is a copy of a request that arrives later.
func (s *sight) later(attempt string, by time.Duration) simulator.Entry {
	s.t.Helper()
	e := *s.request(attempt)
	e.Wall, e.MonoUS = e.Wall.Add(by), e.MonoUS+by.Microseconds()
	return e
}

func (s *sight) add(e simulator.Entry) { s.entries = append(s.entries, e) }

func (s *sight) drop(kind, attempt string) {
	s.t.Helper()
	i := s.find(kind, attempt)
	s.entries = slices.Delete(s.entries, i, i+1)
}
