package main

import (
	"maps"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
)

// night is a database after a night of dialling, long enough ago that nothing of it is
// still under way.
type night struct {
	environment
	db       *postgres.DB
	campaign campaign.ID
	began    time.Time
	lease    campaign.Lease
	outIDs   map[string]string // of attempts, by what became of them
}

const nightFile = testCampaign + "max_attempts: 2\n"

// newNight dials a campaign of eight: one answers, one is throttled and then busy, one
// is refused, one is lost, one is unknown, one is accepted and waits for its receipt,
// one is unknown because its node recorded nothing, one is pending.
func newNight(t *testing.T) *night {
	t.Helper()
	url := postgrestest.URL(t)
	n := &night{environment: environment{"DATABASE_URL": url}, db: open(t, url), began: time.Now().Add(-2 * time.Hour).Truncate(time.Microsecond), outIDs: make(map[string]string)}
	maps.Copy(n.environment, secretless)
	n.must(t, "account", "apply", write(t, "account.yaml", testAccount))
	n.must(t, "campaign", "apply", write(t, "campaign.yaml", nightFile))
	n.must(t, "import", "greeting", write(t, "c.csv", "手机号,姓名\n13800000001,a\n13800000002,b\n13800000003,c\n13800000004,d\n13800000005,e\n13800000006,f\n13800000007,g\n13800000008,h\n"))
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	stored, err := n.db.Campaign(t.Context(), "greeting")
	ok(err)
	n.campaign = stored.ID
	_, _, err = n.db.Start(t.Context(), n.campaign, n.began.Add(-time.Minute))
	ok(err)
	node, err := n.db.NewNode(t.Context(), "blue", "test", n.began)
	ok(err)
	leases, err := n.db.Acquire(t.Context(), []campaign.AccountID{stored.AccountID}, node, time.Hour)
	ok(err)
	n.lease = leases[0]
	fresh, err := n.db.Fresh(t.Context(), stored.AccountID, n.campaign, 0, 7)
	ok(err)
	at := n.began.Add(time.Second)
	said := func(id campaign.AttemptID, r campaign.Response) campaign.Response {
		r.Attempt, r.SentAt, r.AnsweredAt = id, at, at
		return r
	}
	first := n.intend(t, 1, n.began, fresh[:4]...)
	ok(n.db.WriteResponses(t.Context(), stored.AccountID, node, []campaign.Response{
		said(first[0], campaign.Response{State: campaign.Accepted, Counts: true, Code: "OK", CallID: "call-1"}),
		said(first[1], campaign.Response{State: campaign.Throttled, Code: "isv.BUSINESS_LIMIT_CONTROL", Again: campaign.Again{At: at, Reason: campaign.DueThrottled, Chance: 1}}),
		said(first[2], campaign.Response{State: campaign.Refused, Code: "isv.MOBILE_NUMBER_ILLEGAL"}),
		said(first[3], campaign.Response{State: campaign.Unknown, Counts: true, Code: "timeout"}),
	}, at))
	due, err := n.db.Due(t.Context(), stored.AccountID, n.campaign, at, 10)
	ok(err)
	second := n.intend(t, 2, at, append(due, fresh[4:]...)...)
	at = at.Add(time.Second)
	ok(n.db.WriteResponses(t.Context(), stored.AccountID, node, []campaign.Response{
		said(second[0], campaign.Response{State: campaign.Accepted, Counts: true, Code: "OK", CallID: "call-2"}),
		said(second[1], campaign.Response{State: campaign.Unknown, Counts: true, Code: "timeout"}),
		said(second[2], campaign.Response{State: campaign.Accepted, Counts: true, Code: "OK", CallID: "call-6"}),
	}, at))
	for i, r := range []campaign.Receipt{
		{Attempt: first[0], CallID: "call-1", Outcome: campaign.Answered},
		{Attempt: second[0], CallID: "call-2", Outcome: campaign.Busy},
	} {
		r.Key, r.Kind, r.Final, r.Raw = [16]byte{byte(i)}, "report", true, []byte("{}")
		ok(n.db.ApplyAnswer(t.Context(), stored.AccountID, node, r, at.Add(time.Minute)))
	}
	if lost, err := n.db.Lose(t.Context(), stored.AccountID, node, n.began.Add(-time.Hour), n.began, at.Add(80*time.Minute)); err != nil || len(lost) != 1 {
		t.Fatalf("lost %v, %v", lost, err)
	}
	for what, id := range map[string]campaign.AttemptID{
		"answered": first[0], "busy": second[0], "throttled": first[1], "refused": first[2], "lost": first[3],
		"unknown": second[1], "accepted": second[2], "silent": second[3],
	} {
		n.outIDs[what] = n.db.OutIDKey().OutID(id)
	}
	return n
}

// intend makes attempts of contacts in the account's batch number seq.
func (n *night) intend(t *testing.T, seq int64, at time.Time, contacts ...campaign.Pending) []campaign.AttemptID {
	t.Helper()
	verdicts, err := n.db.WriteIntents(t.Context(), &campaign.IntentBatch{
		Lease: n.lease, Seq: seq, Campaign: n.campaign, CallerID: "057100000000", At: at, SendBy: at.Add(3 * time.Second),
		Window: campaign.Span{Start: at.Add(-time.Hour), End: time.Now().Add(time.Hour)}, MaxSkew: 24 * time.Hour,
		Caps: campaign.Caps{PerMinute: 1, PerDay: 2, Per30Days: 6}, Contacts: contacts,
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []campaign.AttemptID
	for _, v := range verdicts {
		if v.Attempt == 0 {
			t.Fatalf("no attempt was made: %+v", v)
		}
		ids = append(ids, v.Attempt)
	}
	return ids
}
