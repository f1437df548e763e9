package torture

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
	"dialer/internal/simulator"
)

var benchContacts = flag.Int("check.contacts", 20_000, "contacts of BenchmarkCheck")

// BenchmarkCheck checks a night in which everybody was called once and busy at most.
// go test ./internal/torture -run - -bench Check -check.contacts 200000
func BenchmarkCheck(b *testing.B) {
	db := postgrestest.New(b)
	n := *benchContacts
	at := clock(1, "10:00:00")
	ledger := bigNight(b, db, n, at)
	b.ReportAllocs()
	for b.Loop() {
		r, err := Check(b.Context(), db.Pool(), bytes.NewReader(ledger), Rules{Quiescent: true})
		if err != nil {
			b.Fatal(err)
		}
		if !r.OK() {
			if err := r.Summary(b.Output()); err != nil {
				b.Fatal(err)
			}
			b.Fatalf("the night is found bad: %v", r.Broken())
		}
		if r.Figures.Contacts != int64(n) || r.Figures.Calls != int64(n) {
			b.Fatalf("got %+v, want %d contacts and calls", r.Figures, n)
		}
	}
}

// bigNight fills the dialer's ledger by plain SQL, a thousand attempts a second, and
// returns the simulator's.
func bigNight(b *testing.B, db *postgres.DB, n int, at time.Time) []byte {
	b.Helper()
	ctx := b.Context()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	_, err := db.ApplyAccount(ctx, &campaign.Account{
		Name: "acme", Endpoint: "http://127.0.0.1:1", Limit: 1000, CallerIDs: []campaign.CallerID{{Number: shown, Lines: 2000}},
	}, at)
	must(err)
	c, _, err := db.ApplyCampaign(ctx, file("renewal"), time.Time{}, at)
	must(err)
	rows := &contactRows{}
	for i := range n {
		rows.numbers = append(rows.numbers, 13800000000+campaign.Phone(i))
	}
	_, err = db.ImportContacts(ctx, c.ID, "big.csv", rows, at)
	must(err)
	run, _, err := db.Start(ctx, c.ID, at)
	must(err)
	_, err = db.Pool().Exec(ctx, fmt.Sprintf(`
		INSERT INTO attempt
		SELECT account_id, (campaign_id::bigint << 41) | (n::bigint << 10) | 1, phone, '%[1]s'::timestamptz + n * interval '1.001 ms', '%[1]s'::timestamptz + n * interval '1.001 ms' + interval '3 s',
		       campaign_id, n, 1, 1, 1, '%[2]s' FROM contact;
		INSERT INTO response
		SELECT account_id, attempt_id, 'accepted', true, intent_at, intent_at + interval '50 ms', 'OK', NULL, 'call-' || n, NULL FROM attempt;
		INSERT INTO receipt
		SELECT account_id, attempt_id, int8send(attempt_id), intent_at + interval '20 s', 'VoiceReport', true, jsonb_build_object('call_id', 'call-' || n) FROM attempt;
		INSERT INTO outcome
		SELECT account_id, attempt_id, 'busy', 'call-' || n, '200002', '', 'USER_BUSY', '', '', 0, NULL, NULL, intent_at + interval '10 s', 'push', intent_at + interval '20 s' FROM attempt;
		INSERT INTO batch SELECT account_id, 1, campaign_id, 1, 1, '%[1]s', count(*), count(*), 0 FROM attempt GROUP BY account_id, campaign_id;
		INSERT INTO progress SELECT account_id, campaign_id, label, 1, 1, count(*) FROM attempt, (VALUES ('response:accepted'), ('outcome:busy')) l (label) GROUP BY account_id, campaign_id, label`,
		at.Format(time.RFC3339), shown))
	must(err)
	must(db.EndRun(ctx, run, "done", at.Add(time.Hour)))

	var ledger bytes.Buffer
	lines := json.NewEncoder(&ledger)
	push := simulator.Entry{Kind: simulator.KindPush, Account: "main", Try: 1, Report: "VoiceReport", Acked: true}
	for i := 1; i <= n; i++ {
		id := db.OutIDKey().OutID(campaign.NewAttemptID(c.ID, int32(i), 1))
		wall := at.Add(time.Duration(i)*1001*time.Microsecond + 10*time.Millisecond)
		e := simulator.Entry{
			Wall: wall.UTC(), MonoUS: wall.Sub(at).Microseconds(), Account: "main", OutID: id, CallID: fmt.Sprintf("call-%d", i),
			Callee: (13800000000 + campaign.Phone(i) - 1).Digits(), Caller: shown,
		}
		request, call := e, e
		request.Kind, request.Action, request.Verdict, request.Code = simulator.KindRequest, "SmartCall", simulator.VerdictAccepted, "OK"
		call.Kind, call.Outcome, call.StatusCode, call.SmartStatusCode = simulator.KindCall, "busy", "200002", "USER_BUSY"
		call.AcceptedAt, call.EndedAt = wall.UTC(), wall.Add(10*time.Second).UTC()
		must(lines.Encode(request))
		must(lines.Encode(call))
		push.Items = append(push.Items, simulator.Item{CallID: e.CallID, OutID: id})
		if len(push.Items) == 50 || i == n {
			push.PushID, push.Wall = int64(i), call.EndedAt
			must(lines.Encode(push))
			push.Items = nil
		}
	}
	return ledger.Bytes()
}
