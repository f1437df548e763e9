package postgres_test

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
)

// world is a database with one account that one node holds. Its methods go through
// those of postgres.DB, so that every test also walks the paths before its own.
type world struct {
	testing.TB
	db      *postgres.DB
	account campaign.AccountID
	lease   campaign.Lease
	seq     int64 // of the last batch
	now     time.Time
}

const callerID = "057100000000"

func accountFile(name string) *campaign.Account {
	return &campaign.Account{
		Name: name, Endpoint: "http://127.0.0.1:1", Limit: 100,
		CallerIDs: []campaign.CallerID{{Number: callerID, Lines: 10}},
	}
}

func campaignFile(name string, change ...func(*campaign.Campaign)) *campaign.Campaign {
	c := &campaign.Campaign{
		Name: name, Account: "acme", CallerIDs: []string{callerID}, Call: campaign.Call{VoiceCode: "open.wav"},
		Zone: "Asia/Shanghai", MaxAttempts: 1, Caps: campaign.Caps{PerMinute: 1, PerDay: 2, Per30Days: 6}, Lost: campaign.LostHold,
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func retryBusy(c *campaign.Campaign) {
	c.MaxAttempts = 3
	c.Retry = campaign.RetryPolicy{campaign.Busy: {campaign.Duration(10 * time.Minute), campaign.Duration(time.Hour)}}
}

func redialLost(c *campaign.Campaign) {
	c.MaxAttempts = 3
	c.Lost = campaign.LostRedial
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return worldIn(t, postgrestest.New(t))
}

// worldIn makes a world of an empty database.
func worldIn(t testing.TB, db *postgres.DB) *world {
	t.Helper()
	w := &world{TB: t, db: db, now: time.Now().Truncate(time.Microsecond)}
	var err error
	w.account, err = w.db.ApplyAccount(t.Context(), accountFile("acme"), w.now)
	w.must(err)
	w.lease, err = w.db.Acquire(t.Context(), w.account, w.node(), time.Hour)
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) exec(statement string, args ...any) {
	w.Helper()
	_, err := w.db.Pool().Exec(w.Context(), statement, args...)
	w.must(err)
}

func (w *world) node() campaign.NodeID {
	w.Helper()
	id, err := w.db.NewNode(w.Context(), "node", "test", w.now)
	w.must(err)
	return id
}

// idle makes a campaign with n contacts, whose numbers start at first.
func (w *world) idle(name string, first campaign.Phone, n int, change ...func(*campaign.Campaign)) campaign.ID {
	w.Helper()
	c, _, err := w.db.ApplyCampaign(w.Context(), campaignFile(name, change...), time.Time{}, w.now)
	w.must(err)
	if n > 0 {
		_, err = w.db.ImportContacts(w.Context(), c.ID, name+".csv", numbers(first, n), w.now)
		w.must(err)
	}
	return c.ID
}

// running makes a campaign with n contacts and an open run.
func (w *world) running(name string, first campaign.Phone, n int, change ...func(*campaign.Campaign)) campaign.ID {
	w.Helper()
	id := w.idle(name, first, n, change...)
	_, _, err := w.db.Start(w.Context(), id, w.now)
	w.must(err)
	return id
}

func (w *world) fresh(id campaign.ID, after int32, limit int) []campaign.Pending {
	w.Helper()
	p, err := w.db.Fresh(w.Context(), w.account, id, after, limit)
	w.must(err)
	return p
}

func (w *world) due(id campaign.ID, at time.Time) []campaign.Pending {
	w.Helper()
	p, err := w.db.Due(w.Context(), w.account, id, at, 100)
	w.must(err)
	return p
}

// batch asks for contacts at a time. The skew allowed is large, so that a test can
// have a past.
func (w *world) batch(id campaign.ID, at time.Time, contacts ...campaign.Pending) *campaign.IntentBatch {
	return &campaign.IntentBatch{
		Lease: w.lease, Seq: w.seq + 1, Campaign: id, CallerID: callerID, At: at, SendBy: at.Add(5 * time.Second),
		Window: campaign.Span{Start: w.now.Add(-24 * time.Hour), End: w.now.Add(24 * time.Hour)}, MaxSkew: 100 * 24 * time.Hour,
		Caps: campaign.Caps{PerMinute: 100, PerDay: 100, Per30Days: 100}, Contacts: contacts,
	}
}

func (w *world) write(b *campaign.IntentBatch) []campaign.Verdict {
	w.Helper()
	v, err := w.db.WriteIntents(w.Context(), b)
	w.must(err)
	w.seq++
	return v
}

// intend makes attempts of contacts, all of which must be let through.
func (w *world) intend(id campaign.ID, at time.Time, contacts ...campaign.Pending) []campaign.AttemptID {
	w.Helper()
	var ids []campaign.AttemptID
	for _, v := range w.write(w.batch(id, at, contacts...)) {
		if v.Attempt == 0 {
			w.Fatalf("no attempt was made: %+v", v)
		}
		ids = append(ids, v.Attempt)
	}
	return ids
}

// dial makes an attempt of each fresh contact of a new running campaign.
func (w *world) dial(name string, first campaign.Phone, n int, change ...func(*campaign.Campaign)) (campaign.ID, []campaign.AttemptID) {
	w.Helper()
	id := w.running(name, first, n, change...)
	return id, w.intend(id, w.now, w.fresh(id, 0, n)...)
}

func (w *world) respond(responses ...campaign.Response) {
	w.Helper()
	w.must(w.db.WriteResponses(w.Context(), w.account, w.lease.Node, responses, w.now))
}

func (w *world) accepted(id campaign.AttemptID, call string) campaign.Response {
	return campaign.Response{Attempt: id, State: campaign.Accepted, Counts: true, SentAt: w.now, AnsweredAt: w.now, Code: "OK", CallID: call}
}

func (w *world) throttled(id campaign.AttemptID, again time.Time) campaign.Response {
	return campaign.Response{Attempt: id, State: campaign.Throttled, SentAt: w.now, AnsweredAt: w.now, Code: "isv.BUSINESS_LIMIT_CONTROL",
		Again: campaign.Again{At: again, Reason: campaign.DueThrottled, Chance: 1}}
}

func (w *world) refused(id campaign.AttemptID) campaign.Response {
	return campaign.Response{Attempt: id, State: campaign.Refused, SentAt: w.now, AnsweredAt: w.now, Code: "isv.MOBILE_NUMBER_ILLEGAL"}
}

func (w *world) unsure(id campaign.AttemptID) campaign.Response {
	return campaign.Response{Attempt: id, State: campaign.Unknown, Counts: true, SentAt: w.now, AnsweredAt: w.now, Code: "timeout"}
}

func receipt(id campaign.AttemptID, call string, o campaign.Outcome, key byte) campaign.Receipt {
	return campaign.Receipt{Attempt: id, CallID: call, Key: [16]byte{key}, Kind: "report", Final: o != "", Outcome: o, StatusCode: "200002", Raw: []byte(`{"a":1}`)}
}

// push stores each receipt as a push of its own and applies all of them, until the
// inbox is empty. It returns the attempts that were settled.
func (w *world) push(receipts ...campaign.Receipt) []campaign.AttemptID {
	w.Helper()
	var pushes []postgres.Push
	for i := range receipts {
		pushes = append(pushes, postgres.Push{ReceivedAt: w.now, Body: []byte(strconv.Itoa(i))})
	}
	w.must(w.db.StorePushes(w.Context(), w.account, pushes))
	var settled []campaign.AttemptID
	for {
		ids, n, err := w.db.ApplyInbox(w.Context(), w.account, w.lease.Node, 100, w.now, func(body []byte) []campaign.Receipt {
			i, err := strconv.Atoi(string(body))
			if err != nil {
				w.Error(err)
			}
			return receipts[i : i+1]
		})
		w.must(err)
		if n == 0 {
			return settled
		}
		settled = append(settled, ids...)
	}
}

// count runs a query of one number.
func (w *world) count(want int, query string, args ...any) {
	w.Helper()
	var got int
	w.must(w.db.Pool().QueryRow(w.Context(), query, args...).Scan(&got))
	if got != want {
		w.Errorf("%s: got %d, want %d", query, got, want)
	}
}

func (w *world) progress(id campaign.ID) campaign.Progress {
	w.Helper()
	p, err := w.db.Progress(w.Context(), id)
	w.must(err)
	return p
}

// balanced checks that the running totals agree with the ledger and add up.
func (w *world) balanced(id campaign.ID) {
	w.Helper()
	p := w.progress(id)
	counts, err := w.db.Recount(w.Context(), id)
	w.must(err)
	var sum int64
	for state, got := range map[string]int64{
		"pending": p.Pending, "open": p.Open, "done": p.Done, "suppressed": p.Suppressed,
		"cancelled": p.Cancelled, "expired": p.Expired, "unknown": p.Unknown,
	} {
		sum += got
		if got != counts[state] {
			w.Errorf("campaign %s: %d contacts %s by the running totals, %d by the ledger", p.Campaign, got, state, counts[state])
		}
	}
	if sum != p.Imported {
		w.Errorf("campaign %s: the states add up to %d, %d were imported", p.Campaign, sum, p.Imported)
	}
}

func (w *world) state(name string, want campaign.State) {
	w.Helper()
	c, err := w.db.Campaign(w.Context(), name)
	w.must(err)
	if c.State != want {
		w.Errorf("campaign %s is %s, want %s", name, c.State, want)
	}
}

// refusedSQL runs a statement that the schema must refuse.
func (w *world) refusedSQL(why, statement string, args ...any) {
	w.Helper()
	_, err := w.db.Pool().Exec(w.Context(), statement, args...)
	if err == nil || !strings.Contains(err.Error(), why) {
		w.Errorf("%s: got %v, want an error with %q", statement, err, why)
	}
}

// source is a contact file in memory.
type source struct {
	contacts   []campaign.Contact // a zero number is a reject
	end        error              // instead of io.EOF
	sum        byte
	duplicates []campaign.Phone
}

func numbers(first campaign.Phone, n int) *source {
	s := &source{sum: byte(n)}
	for i := range n {
		s.contacts = append(s.contacts, campaign.Contact{Line: i + 2, Phone: first + campaign.Phone(i), Vars: map[string]string{"name": "x"}})
	}
	return s
}

func (s *source) Next() (campaign.Contact, bool, error) {
	if len(s.contacts) == 0 {
		if s.end != nil {
			return campaign.Contact{}, false, s.end
		}
		return campaign.Contact{}, false, io.EOF
	}
	c := s.contacts[0]
	s.contacts = s.contacts[1:]
	return c, c.Phone == 0, nil
}

func (s *source) Duplicate(c campaign.Contact) error {
	s.duplicates = append(s.duplicates, c.Phone)
	return nil
}

func (s *source) SHA256() [32]byte { return [32]byte{s.sum} }

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

// eventually waits until a query says true.
func (w *world) eventually(query string) {
	w.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for {
		var ok bool
		w.must(w.db.Pool().QueryRow(w.Context(), query).Scan(&ok))
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("in vain: %s", query)
		}
	}
}
