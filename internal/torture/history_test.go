package torture

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
	"dialer/internal/simulator"
)

// history is a good history: two days of two campaigns, written through the methods
// of postgres.DB, beside what a simulator would have seen of them.
type history struct {
	*testing.T
	db      *postgres.DB
	account campaign.AccountID
	lease   campaign.Lease
	seq     int64
	now     time.Time
	// renewal and survey are its campaigns.
	renewal, survey campaign.ID
	seen            []simulator.Entry
	calls, pushes   int
}

const shown = "057100000000"

var china = time.FixedZone("CST", 8*60*60)

// clock is a time of the first (1) or second day, 3 and 4 March 2025.
func clock(day int, text string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04:05", fmt.Sprintf("2025-03-%02d %s", 2+day, text), china)
	if err != nil {
		panic(err)
	}
	return t
}

// numbers of the first campaign's contacts; the tenth is a landline.
func number(n int) campaign.Phone {
	if n == 10 {
		return 57188880010
	}
	return 13900000000 + campaign.Phone(n)
}

func goodHistory(t *testing.T) *history {
	t.Helper()
	h := &history{T: t, db: postgrestest.New(t)}
	h.prepare()
	h.firstDay()
	h.secondDay()
	return h
}

func (h *history) rules() Rules {
	return Rules{
		Quiescent: true, LostAfter: 80 * time.Minute,
		Pauses:   []Pause{{Campaign: "renewal", At: clock(1, "10:05:00"), ResumedAt: clock(1, "10:06:00")}},
		Deadline: clock(2, "13:00:00"), MostDoubt: new(5),
	}
}

func (h *history) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *history) at(day int, text string) { h.now = clock(day, text) }

func (h *history) prepare() {
	h.Helper()
	ctx := h.Context()
	h.at(1, "09:00:00")
	var err error
	h.account, err = h.db.ApplyAccount(ctx, &campaign.Account{
		Name: "acme", Endpoint: "http://127.0.0.1:1", Limit: 12, CallerIDs: []campaign.CallerID{{Number: shown, Lines: 10}},
	}, h.now)
	h.must(err)
	node, err := h.db.NewNode(ctx, "first", "test", h.now)
	h.must(err)
	leases, err := h.db.Acquire(ctx, []campaign.AccountID{h.account}, node, time.Hour)
	h.must(err)
	h.lease = leases[0]

	renewal := file("renewal")
	renewal.Schedule = &campaign.Schedule{Cron: "0 10 * * *", Zone: "Asia/Shanghai"}
	renewal.Windows = campaign.Windows{{From: 9 * 60, To: 12 * 60}, {From: 22 * 60, To: 2 * 60}}
	renewal.Retry = campaign.RetryPolicy{campaign.Busy: {campaign.Duration(10 * time.Minute), campaign.Duration(time.Hour)}}
	renewal.MaxAttempts = 3
	next, err := renewal.Schedule.Next(h.now)
	h.must(err)
	h.renewal = h.apply(renewal, next, 15, 1, 0)
	survey := file("survey")
	survey.MaxAttempts, survey.Lost = 2, campaign.LostRedial
	h.survey = h.apply(survey, time.Time{}, 2, 1)

	h.must(h.db.Suppress(ctx, number(7), time.Time{}, "asked", "test", clock(1, "09:30:00")))
	h.must(h.db.Suppress(ctx, number(5), clock(1, "09:59:00"), "holiday", "test", clock(1, "09:30:00")))
}

func file(name string) *campaign.Campaign {
	return &campaign.Campaign{
		Name: name, Account: "acme", CallerIDs: []string{shown}, Call: campaign.Call{VoiceCode: "open.wav"},
		Zone: "Asia/Shanghai", Windows: campaign.Windows{{From: 9 * 60, To: 20*60 + 30}}, MaxAttempts: 1,
		Caps: campaign.Caps{PerMinute: 1, PerDay: 2, Per30Days: 6}, Lost: campaign.LostHold,
	}
}

// apply makes a campaign of the first n contacts, after which the file has more rows:
// numbers that are there already, and 0 for a reject.
func (h *history) apply(c *campaign.Campaign, next time.Time, n int, more ...int) campaign.ID {
	h.Helper()
	stored, _, err := h.db.ApplyCampaign(h.Context(), c, next, h.now)
	h.must(err)
	rows := &contactRows{}
	for i := range n {
		rows.numbers = append(rows.numbers, number(i+1))
	}
	for _, again := range more {
		rows.numbers = append(rows.numbers, 0)
		if again > 0 {
			rows.numbers[len(rows.numbers)-1] = number(again)
		}
	}
	_, err = h.db.ImportContacts(h.Context(), stored.ID, c.Name+".csv", rows, h.now)
	h.must(err)
	return stored.ID
}

// contactRows is a contact file in memory. A zero number is a reject.
type contactRows struct {
	numbers []campaign.Phone
	line    int
}

func (r *contactRows) Next() (campaign.Contact, bool, error) {
	if r.line == len(r.numbers) {
		return campaign.Contact{}, false, io.EOF
	}
	r.line++
	phone := r.numbers[r.line-1]
	return campaign.Contact{Line: r.line + 1, Phone: phone}, phone == 0, nil
}

func (r *contactRows) Duplicate(campaign.Contact) error { return nil }

func (r *contactRows) SHA256() [32]byte { return [32]byte{byte(len(r.numbers))} }

func (h *history) firstDay() {
	h.Helper()
	ctx := h.Context()
	h.fire(1, "10:00:00")
	h.at(1, "10:00:01")
	ids := h.intend(h.renewal, h.fresh(h.renewal, 15)...)
	first := func(n int) campaign.AttemptID { return ids[n-1] }
	call := make(map[int]*simulator.Entry)
	for _, n := range []int{1, 2, 10, 11} {
		call[n] = h.request(first(n), simulator.VerdictAccepted, "OK")
		h.accepted(first(n), call[n].CallID)
	}
	h.request(first(3), simulator.VerdictThrottled, "Throttling.User")
	h.answer(campaign.Response{Attempt: first(3), State: campaign.Throttled, Code: "Throttling.User",
		Again: campaign.Again{At: h.now.Add(2 * time.Second), Reason: campaign.DueThrottled, Chance: 1}})
	h.request(first(4), simulator.VerdictRefused, "isv.MOBILE_NUMBER_ILLEGAL")
	h.answer(campaign.Response{Attempt: first(4), State: campaign.Refused, Code: "isv.MOBILE_NUMBER_ILLEGAL"})
	call[5] = h.request(first(5), simulator.VerdictAccepted, "") // and the connection was cut
	h.answer(campaign.Response{Attempt: first(5), State: campaign.Unknown, Counts: true, Code: "no_answer_understood"})
	h.request(first(6), simulator.VerdictDropped, "ServiceUnavailable")
	h.answer(campaign.Response{Attempt: first(6), State: campaign.Unknown, Counts: true, Code: "ServiceUnavailable"})
	h.answer(campaign.Response{Attempt: first(8), State: campaign.Unsent, Code: "not_sent",
		Again: campaign.Again{At: h.now.Add(time.Second), Reason: campaign.DueUnsent, Chance: 1}})
	// Of the ninth nothing is known: its node was killed.
	h.request(first(12), simulator.VerdictRefused, "isv.BUSINESS_LIMIT_CONTROL")
	h.answer(campaign.Response{Attempt: first(12), State: campaign.Refused, Counts: true, Code: "isv.BUSINESS_LIMIT_CONTROL",
		Again: campaign.Again{At: h.now.Add(time.Minute), Reason: campaign.DueTooOften, Chance: 2}})

	h.request(first(13), simulator.VerdictRefused, "isv.VOICE_FILE_ILLEGAL")
	h.answer(campaign.Response{Attempt: first(13), State: campaign.Refused, Code: "isv.VOICE_FILE_ILLEGAL",
		Again: campaign.Again{At: h.now, Reason: campaign.DueHold, Chance: 1}})
	call[14] = h.request(first(14), simulator.VerdictAccepted, "")
	h.answer(campaign.Response{Attempt: first(14), State: campaign.Unknown, Counts: true, Code: "no_answer_understood"})
	// What the file says of the fifteenth does not fit the template.
	h.must(h.db.WriteResponses(ctx, h.account, h.lease.Node, []campaign.Response{{Attempt: first(15), State: campaign.Refused, AnsweredAt: h.now, Code: "template"}}, h.now))

	h.at(1, "10:00:05")
	h.end(call[2], campaign.Busy, "200002", "USER_BUSY", 0)
	h.end(call[11], campaign.Busy, "200002", "USER_BUSY", 0)
	h.at(1, "10:00:06")
	due := h.intend(h.renewal, h.due(h.renewal, 3, 8)...)
	for _, id := range due {
		call[int(id.Contact())] = h.request(id, simulator.VerdictAccepted, "OK")
		h.accepted(id, call[int(id.Contact())].CallID)
	}
	h.at(1, "10:00:30")
	h.progress(call[1], 2)
	h.end(call[1], campaign.Answered, "200000", "ANSWERED", 20)
	h.end(call[3], campaign.NoAnswer, "200003", "NO_ANSWER", 0)
	h.end(call[5], campaign.Answered, "200001", "ANSWERED", 7)
	h.end(call[8], campaign.PoweredOff, "200010", "POWERED_OFF", 0)
	h.over(call[10], campaign.Answered, "200000", "ANSWERED", 12) // its report is lost
	h.at(1, "10:02:30")
	h.dial(h.due(h.renewal, 12)[0], 8)
	h.at(1, "10:10:40")
	h.dial(h.due(h.renewal, 2)[0], 9)
	h.at(1, "10:15:00")
	h.dial(h.due(h.renewal, 13)[0], 10)

	h.at(1, "10:30:00")
	h.seen = append(h.seen, simulator.Entry{
		Kind: simulator.KindQuery, Wall: h.now.UTC(), Account: "main", CallID: call[10].CallID, OutID: call[10].OutID, Verdict: simulator.VerdictAccepted, Code: "OK",
	})
	h.must(h.db.ApplyAnswer(ctx, h.account, h.lease.Node, campaign.Receipt{
		Attempt: first(10), CallID: call[10].CallID, Key: [16]byte{10}, Kind: "query", Final: true, Outcome: campaign.Answered,
		StatusCode: "200000", TalkSeconds: 12, Raw: []byte(`{}`),
	}, h.now))
	h.at(1, "11:25:00")
	h.lose(3)
	h.at(1, "11:30:00")
	h.end(call[14], campaign.NoAnswer, "200003", "NO_ANSWER", 0) // the report was late
	h.at(1, "12:00:00")
	h.endRun(h.renewal, "window_closed")
}

func (h *history) secondDay() {
	h.Helper()
	h.fire(2, "10:30:00") // too late: skipped
	h.at(2, "11:00:00")
	_, _, err := h.db.Start(h.Context(), h.survey, h.now)
	h.must(err)
	ids := h.intend(h.survey, h.fresh(h.survey, 2)...)
	one := h.request(ids[0], simulator.VerdictAccepted, "OK")
	h.accepted(ids[0], one.CallID)
	h.request(ids[1], simulator.VerdictDropped, "")
	h.answer(campaign.Response{Attempt: ids[1], State: campaign.Unknown, Counts: true, Code: "no_answer_understood"})
	h.at(2, "11:00:20")
	h.end(one, campaign.Answered, "200000", "ANSWERED", 5)
	h.at(2, "12:21:00")
	h.lose(1)
	h.at(2, "12:22:00")
	h.dial(h.due(h.survey, 2)[0], 3)
	h.at(2, "12:30:00")
	h.endRun(h.survey, "done")
}

// fire lets the schedules fire.
func (h *history) fire(day int, text string) {
	h.Helper()
	h.at(day, text)
	_, err := h.db.FireSchedules(h.Context(), h.now, 10*time.Minute, func(s campaign.Schedule, after time.Time) (time.Time, error) { return s.Next(after) })
	h.must(err)
}

func (h *history) endRun(id campaign.ID, reason string) {
	h.Helper()
	runs, err := h.db.OpenRuns(h.Context(), h.account)
	h.must(err)
	i := slices.IndexFunc(runs, func(r postgres.Run) bool { return r.Campaign == id })
	h.must(h.db.EndRun(h.Context(), runs[i].ID, reason, h.now))
}

func (h *history) lose(want int) {
	h.Helper()
	ids, err := h.db.Lose(h.Context(), h.account, h.lease.Node, time.Time{}, h.now.Add(-80*time.Minute), h.now)
	h.must(err)
	if len(ids) != want {
		h.Fatalf("%d attempts are lost, want %d", len(ids), want)
	}
}

func (h *history) fresh(id campaign.ID, n int) []campaign.Pending {
	h.Helper()
	p, err := h.db.Fresh(h.Context(), h.account, id, 0, n)
	h.must(err)
	return p
}

// due returns the contacts that wait, of which there must be these.
func (h *history) due(id campaign.ID, numbers ...int32) []campaign.Pending {
	h.Helper()
	all, err := h.db.Due(h.Context(), h.account, id, h.now, 100)
	h.must(err)
	var found []campaign.Pending
	for _, p := range all {
		if slices.Contains(numbers, p.N) {
			found = append(found, p)
		}
	}
	if len(found) != len(numbers) {
		h.Fatalf("contacts %v are to be due at %s, %d are", numbers, h.now, len(found))
	}
	return found
}

// intend turns contacts into attempts, in their order; 0 where one is suppressed.
func (h *history) intend(id campaign.ID, contacts ...campaign.Pending) []campaign.AttemptID {
	h.Helper()
	h.seq++
	verdicts, err := h.db.WriteIntents(h.Context(), &campaign.IntentBatch{
		Lease: h.lease, Seq: h.seq, Campaign: id, CallerID: shown, At: h.now, SendBy: h.now.Add(3 * time.Second),
		// The history is long past.
		Window: campaign.Span{Start: h.now, End: time.Now().Add(time.Hour)}, MaxSkew: 100 * 365 * 24 * time.Hour,
		Caps: campaign.Caps{PerMinute: 1, PerDay: 2, Per30Days: 6}, Contacts: contacts,
	})
	h.must(err)
	var ids []campaign.AttemptID
	for _, v := range verdicts {
		if v.Attempt == 0 && !v.Suppressed {
			h.Fatalf("an attempt of campaign %d was held until %s", id, v.HeldUntil)
		}
		ids = append(ids, v.Attempt)
	}
	return ids
}

// dial is one attempt that is answered and talked to for some seconds.
func (h *history) dial(p campaign.Pending, talk int) {
	h.Helper()
	id := h.renewal
	if h.now.After(clock(2, "11:00:00")) {
		id = h.survey
	}
	attempt := h.intend(id, p)[0]
	call := h.request(attempt, simulator.VerdictAccepted, "OK")
	h.accepted(attempt, call.CallID)
	h.now = h.now.Add(30 * time.Second)
	h.end(call, campaign.Answered, "200000", "ANSWERED", talk)
}

// request is the arrival of an attempt's request.
func (h *history) request(id campaign.AttemptID, verdict, code string) *simulator.Entry {
	h.Helper()
	var phone int64
	h.must(h.db.Pool().QueryRow(h.Context(), `SELECT phone FROM attempt WHERE attempt_id = $1`, id).Scan(&phone))
	at := h.now.Add(time.Duration(len(h.seen)%50+10) * time.Millisecond)
	e := simulator.Entry{
		Kind: simulator.KindRequest, Wall: at.UTC(), MonoUS: at.Sub(clock(1, "00:00:00")).Microseconds(), Account: "main", Action: "SmartCall",
		OutID: h.db.OutIDKey().OutID(id), Callee: campaign.Phone(phone).Digits(), Caller: shown, Verdict: verdict, Code: code, Answered: code != "", Status: 200,
	}
	if verdict == simulator.VerdictAccepted {
		h.calls++
		e.CallID = fmt.Sprintf("1163%08d^1028%08d", h.calls, h.calls)
	}
	h.seen = append(h.seen, e)
	return new(e)
}

func (h *history) answer(r campaign.Response) {
	h.Helper()
	r.AnsweredAt = h.now.Add(100 * time.Millisecond)
	if r.State != campaign.Unsent {
		r.SentAt = h.now.Add(5 * time.Millisecond)
	}
	h.must(h.db.WriteResponses(h.Context(), h.account, h.lease.Node, []campaign.Response{r}, r.AnsweredAt))
}

func (h *history) accepted(id campaign.AttemptID, callID string) {
	h.Helper()
	h.answer(campaign.Response{Attempt: id, State: campaign.Accepted, Counts: true, Code: "OK", CallID: callID})
}

// over is the end of a call.
func (h *history) over(call *simulator.Entry, outcome campaign.Outcome, status, smart string, talk int) {
	h.Helper()
	h.seen = append(h.seen, simulator.Entry{
		Kind: simulator.KindCall, Wall: h.now.UTC(), Account: call.Account, CallID: call.CallID, OutID: call.OutID, Callee: call.Callee, Caller: call.Caller,
		Outcome: string(outcome), StatusCode: status, SmartStatusCode: smart, DurationS: talk, AcceptedAt: call.Wall, EndedAt: h.now.UTC(),
	})
}

// end is the end of a call and its report, pushed and applied.
func (h *history) end(call *simulator.Entry, outcome campaign.Outcome, status, smart string, talk int) {
	h.Helper()
	h.over(call, outcome, status, smart, talk)
	h.push(call, campaign.Receipt{Kind: "VoiceReport", Final: true, Outcome: outcome, StatusCode: status, SmartStatusCode: smart, TalkSeconds: talk, EndedAt: h.now})
}

// progress are n reports on how far a call is.
func (h *history) progress(call *simulator.Entry, n int) {
	h.Helper()
	for range n {
		h.push(call, campaign.Receipt{Kind: "VoiceCallReport"})
	}
}

func (h *history) push(call *simulator.Entry, r campaign.Receipt) {
	h.Helper()
	h.pushes++
	r.Attempt, _ = h.db.OutIDKey().AttemptID(call.OutID)
	r.CallID, r.Key = call.CallID, [16]byte{byte(h.pushes)}
	r.Raw = fmt.Appendf(nil, `{"call_id": %q, "out_id": %q}`, call.CallID, call.OutID)
	h.must(h.db.StorePushes(h.Context(), h.account, []postgres.Push{{ReceivedAt: h.now, Body: r.Raw}}))
	_, n, err := h.db.ApplyInbox(h.Context(), h.account, h.lease.Node, 100, h.now, func([]byte) []campaign.Receipt { return []campaign.Receipt{r} })
	h.must(err)
	if n != 1 {
		h.Fatalf("%d pushes were applied", n)
	}
	h.seen = append(h.seen, simulator.Entry{
		Kind: simulator.KindPush, Wall: h.now.UTC(), Account: call.Account, PushID: int64(h.pushes), Try: 1, Report: r.Kind,
		Items: []simulator.Item{{CallID: call.CallID, OutID: call.OutID}}, Acked: true, Status: 200,
	})
}

// written is a ledger of these entries.
func written(t *testing.T, entries []simulator.Entry) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	for _, e := range entries {
		if err := json.NewEncoder(&b).Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	return &b
}
