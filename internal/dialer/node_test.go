package dialer_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/dialer"
	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
	"dialer/internal/simulator"
)

const receiptSecret = "0123456789abcdef0123456789abcdef"

// night is a database, a simulated platform and a node that dials the one with the
// other.
type night struct {
	db       *postgres.DB
	sim      *simulator.Simulator
	platform *httptest.Server
	receipts *httptest.Server
	account  campaign.Account
}

func newNight(t *testing.T, config simulator.Config) *night {
	t.Helper()
	return newNightOf(t, 200, config)
}

// newNightOf is a night with an account of another limit.
func newNightOf(t *testing.T, limit int, config simulator.Config) *night {
	t.Helper()
	n := &night{db: postgrestest.New(t)}
	config.Accounts = map[string]simulator.Account{"key": {Name: "main", Secret: "secret", Limit: limit}}
	if config.TimeScale == 0 {
		config.TimeScale = 100
	}
	sim, err := simulator.New(config)
	if err != nil {
		t.Fatal(err)
	}
	n.sim = sim
	n.platform = httptest.NewServer(sim)
	t.Cleanup(func() {
		n.platform.CloseClientConnections()
		n.platform.Close()
		sim.Close()
	})
	n.account = campaign.Account{
		Name: "main", Endpoint: n.platform.URL, Limit: limit, AccessKeyID: "id", AccessKeySecret: "secret", ReceiptSecret: "receipts",
		CallerIDs: []campaign.CallerID{{Number: "057100000000", Lines: 1000}},
	}
	if _, err := n.db.ApplyAccount(t.Context(), &n.account, time.Now()); err != nil {
		t.Fatal(err)
	}
	return n
}

// node starts a node; it has stopped when the test ends, or when stop returns.
func (n *night) node(t *testing.T) (stop func()) {
	t.Helper()
	d := dialer.New(dialer.Config{
		DB: n.db, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Name: "test", Poll: 20 * time.Millisecond, LeaseTTL: 1500 * time.Millisecond, AskAfter: 5 * time.Second,
		Secret: func(ref string) (string, error) {
			return map[string]string{"id": "key", "secret": "secret", "receipts": receiptSecret}[ref], nil
		},
	})
	n.receipts = httptest.NewServer(d.Receipts())
	if err := n.sim.SetPushURL(n.receipts.URL + "/receipts/main/" + receiptSecret); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the node stopped with %v", err)
		}
		n.receipts.Close()
	}
	t.Cleanup(stop)
	return stop
}

type contacts struct{ left, next int }

func (c *contacts) Next() (campaign.Contact, bool, error) {
	if c.left == 0 {
		return campaign.Contact{}, false, io.EOF
	}
	c.left--
	c.next++
	return campaign.Contact{Line: c.next + 1, Phone: campaign.Phone(13800000000 + c.next), Vars: map[string]string{"姓名": "测试"}}, false, nil
}
func (*contacts) Duplicate(campaign.Contact) error { return nil }
func (c *contacts) SHA256() [32]byte               { return [32]byte{byte(c.next)} }

// campaign applies a campaign with count contacts and opens a run of it.
func (n *night) campaign(t *testing.T, name string, count int, change func(*campaign.Campaign)) postgres.Campaign {
	t.Helper()
	spec, err := campaign.ParseCampaign("test", fmt.Appendf(nil, `
campaign: %s
account: main
caller_ids: ["057100000000"]
call: {voice_code: "open.wav,$name$", voice_code_param: {name: "{姓名}您好"}}
windows: ["00:00-24:00"]
`, name))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(spec)
	}
	stored, _, err := n.db.ApplyCampaign(t.Context(), spec, time.Time{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.db.ImportContacts(t.Context(), stored.ID, "test.csv", &contacts{left: count}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.db.Start(t.Context(), stored.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	return stored
}

// until waits for the progress of a campaign to be as wanted.
func (n *night) until(t *testing.T, id campaign.ID, what string, wanted func(campaign.Progress) bool) campaign.Progress {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(40 * time.Second)
	for {
		p, err := n.db.Progress(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if wanted(p) {
			return p
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s; progress: %+v", what, p)
		}
	}
}

func idle(p campaign.Progress) bool   { return p.State == campaign.Idle }
func paused(p campaign.Progress) bool { return p.State == campaign.Paused }

func TestEveryContactIsCalledOnceAndTheRunEnds(t *testing.T) {
	t.Parallel()
	n := newNight(t, simulator.Config{Duplicate: 0.2, Reorder: 0.2, ProgressReports: true})
	n.node(t)
	c := n.campaign(t, "all", 300, nil)
	p := n.until(t, c.ID, "the run ends", idle)
	if p.Done != 300 || p.Attempts != 300 || p.Accepted != 300 {
		t.Errorf("progress %+v, want 300 done by 300 accepted attempts", p)
	}
	st := n.sim.Stats()
	if st.Accepted != 300 || st.Repeats != 0 || st.Overlaps != 0 || st.Accounts["main"].WorstSecond > 200 {
		t.Errorf("simulator: %+v", st)
	}
}

// What may have rung is never dialled again, whatever is answered.
func TestDoubtIsNeverDialledAgain(t *testing.T) {
	t.Parallel()
	n := newNight(t, simulator.Config{Faults: simulator.Faults{Cut: 0.1, CutBefore: 0.1, HTML: 0.1, Status503: 0.1, Redirect302: 0.1, OKWithoutCallID: 0.1, SystemError: 0.1}})
	n.node(t)
	c := n.campaign(t, "doubt", 200, nil)
	p := n.until(t, c.ID, "every contact has an attempt", func(p campaign.Progress) bool {
		return p.Pending == 0 && p.Accepted+p.Doubtful+p.Unsent == p.Attempts
	})
	// On a busy machine a request may not even begin in time; that one may be tried again.
	if p.Attempts-p.Unsent != 200 || p.Doubtful < 100 {
		t.Errorf("progress %+v, want one request per contact, most in doubt", p)
	}
	if st := n.sim.Stats(); st.Requests != 200 || st.Repeats != 0 {
		t.Errorf("simulator saw %d requests, %d repeats; want 200, 0", st.Requests, st.Repeats)
	}
	// Those that were placed after all are settled by their receipts.
	if err := n.sim.WaitQuiet(t.Context()); err != nil {
		t.Fatal(err)
	}
	placed := n.sim.Stats().Accepted
	n.until(t, c.ID, "every placed call has its outcome", func(p campaign.Progress) bool { return p.Done == placed })
}

func TestAccountFaultPausesTheAccountAndKeepsTheContacts(t *testing.T) {
	t.Parallel()
	n := newNight(t, simulator.Config{Faults: simulator.Faults{Business: map[string]float64{"isv.AMOUNT_NOT_ENOUGH": 1}}})
	n.node(t)
	c := n.campaign(t, "poor", 500, nil)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		a, err := n.db.Account(t.Context(), "main")
		if err != nil {
			t.Fatal(err)
		}
		if !a.Active {
			if !strings.Contains(a.Reason, "isv.AMOUNT_NOT_ENOUGH") {
				t.Errorf("reason %q does not name the code", a.Reason)
			}
			break
		}
		<-tick.C
	}
	p := n.until(t, c.ID, "the answers are recorded", func(p campaign.Progress) bool { return p.Open == 0 })
	if p.Pending != 500 || p.Attempts > 100 {
		t.Errorf("progress %+v, want all 500 pending after a few attempts", p)
	}
	if err := n.sim.SetFaults(simulator.Faults{}); err != nil {
		t.Fatal(err)
	}
	if err := n.db.ResumeAccount(t.Context(), "main", time.Now()); err != nil {
		t.Fatal(err)
	}
	if p := n.until(t, c.ID, "the run ends", idle); p.Done != 500 {
		t.Errorf("progress %+v, want 500 done after the account was mended", p)
	}
}

func TestCampaignFaultPausesTheCampaignOnly(t *testing.T) {
	t.Parallel()
	n := newNight(t, simulator.Config{Faults: simulator.Faults{Business: map[string]float64{"isv.VOICE_FILE_ILLEGAL": 1}}})
	n.node(t)
	c := n.campaign(t, "wrong", 500, nil)
	p := n.until(t, c.ID, "the campaign is paused", paused)
	if !strings.Contains(p.Reason, "isv.VOICE_FILE_ILLEGAL") {
		t.Errorf("reason %q does not name the code", p.Reason)
	}
	if a, err := n.db.Account(t.Context(), "main"); err != nil || !a.Active {
		t.Errorf("account: %+v, %v; want active", a, err)
	}
}

// Two CallIds for one OutId: somebody was called twice. It is not our doing, and it
// stops the campaign.
func TestTwoCallsForOneRequestStopTheCampaign(t *testing.T) {
	t.Parallel()
	n := newNight(t, simulator.Config{Faults: simulator.Faults{RingTwice: 0.1}})
	n.node(t)
	c := n.campaign(t, "twice", 300, nil)
	n.until(t, c.ID, "the campaign is paused", paused)
	if found, err := n.db.Incidents(t.Context(), c.AccountID); err != nil || found == 0 {
		t.Errorf("%d incidents, %v; want some", found, err)
	}
}

func TestLinesAreNotExceeded(t *testing.T) {
	t.Parallel()
	n := newNight(t, simulator.Config{TimeScale: 40})
	n.account.CallerIDs[0].Lines = 5
	if _, err := n.db.ApplyAccount(t.Context(), &n.account, time.Now()); err != nil {
		t.Fatal(err)
	}
	n.node(t)
	c := n.campaign(t, "narrow", 40, nil)
	n.until(t, c.ID, "the run ends", idle)
	if most := n.sim.Stats().MostOpen["057100000000"]; most > 5 {
		t.Errorf("%d calls at once on 5 lines", most)
	}
}

// A node that is told to stop leaves no doubt behind, and the next one goes on.
func TestStopAndGoOn(t *testing.T) {
	t.Parallel()
	n := newNight(t, simulator.Config{})
	stop := n.node(t)
	c := n.campaign(t, "stopped", 400, nil)
	n.until(t, c.ID, "it dials", func(p campaign.Progress) bool { return p.Attempts > 50 })
	stop()
	p := n.until(t, c.ID, "it has stopped", func(campaign.Progress) bool { return true })
	if p.Accepted != p.Attempts || p.Attempts == 400 {
		t.Errorf("progress %+v after the stop, want every attempt accepted and some left", p)
	}
	n.node(t)
	if p := n.until(t, c.ID, "the run ends", idle); p.Done != 400 {
		t.Errorf("progress %+v, want 400 done", p)
	}
	if st := n.sim.Stats(); st.Accepted != 400 || st.Repeats != 0 {
		t.Errorf("simulator: %+v", st)
	}
}

// A node that is told to stop before it has begun has stopped in order.
func TestStopBeforeTheBeginning(t *testing.T) {
	t.Parallel()
	n := newNight(t, simulator.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := dialer.New(dialer.Config{DB: n.db, Log: slog.New(slog.DiscardHandler), Name: "test"}).Run(ctx); err != nil {
		t.Errorf("the node stopped with %v", err)
	}
}

func TestPauseIsEffectiveWhenItReturns(t *testing.T) {
	t.Parallel()
	n := newNight(t, simulator.Config{})
	n.node(t)
	c := n.campaign(t, "paused", 600, nil)
	n.until(t, c.ID, "it dials", func(p campaign.Progress) bool { return p.Attempts > 50 })
	if err := n.db.Pause(t.Context(), c.ID, "test", time.Now()); err != nil {
		t.Fatal(err)
	}
	at, err := n.db.Progress(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	p := n.until(t, c.ID, "what was intended is answered", func(p campaign.Progress) bool { return p.Accepted == p.Attempts })
	if p.Attempts != at.Attempts {
		t.Errorf("%d attempts after the pause had returned with %d", p.Attempts, at.Attempts)
	}
	if err := n.db.Resume(t.Context(), c.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	n.until(t, c.ID, "the run ends", idle)
}

// Receipts that never come are made up for by asking.
func TestLostReceiptsAreAskedFor(t *testing.T) {
	t.Parallel()
	n := newNight(t, simulator.Config{LoseReceipts: 1, TimeScale: 1000})
	n.node(t)
	c := n.campaign(t, "silent", 20, nil)
	if p := n.until(t, c.ID, "the run ends", idle); p.Done != 20 {
		t.Errorf("progress %+v, want 20 done", p)
	}
	asked := 0
	err := n.db.Ask(t.Context(), `SELECT source, outcome FROM report.attempt`, func([]string) {}, func(v []any) {
		if v[0] == "query" {
			asked++
		}
	})
	if err != nil || asked != 20 {
		t.Errorf("%d outcomes by asking, %v; want 20", asked, err)
	}
}

func TestWindowClosedMeansNoCall(t *testing.T) {
	t.Parallel()
	n := newNight(t, simulator.Config{})
	n.node(t)
	hour := time.Now().In(time.FixedZone("CST", 8*3600)).Hour()
	from := ((hour + 2) % 24) * 60
	c := n.campaign(t, "night", 10, func(spec *campaign.Campaign) {
		spec.Windows = campaign.Windows{{From: from, To: from + 60}}
	})
	// Nothing may be dialled now: the run ends, or waits for its window later today.
	other := n.campaign(t, "day", 20, func(spec *campaign.Campaign) {
		// The same numbers are in both: other ones would do as well.
		spec.Caps = campaign.Caps{PerMinute: 9, PerDay: 9, Per30Days: 9}
	})
	n.until(t, other.ID, "the other campaign is done", idle)
	if p := n.until(t, c.ID, "anything", func(campaign.Progress) bool { return true }); p.Attempts != 0 {
		t.Errorf("%d attempts outside the window", p.Attempts)
	}
}

func TestReceiptsAddress(t *testing.T) {
	t.Parallel()
	n := newNight(t, simulator.Config{})
	n.node(t)
	// Until the node knows its accounts it asks the platform to come again.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ready := false; !ready; <-tick.C {
		resp, err := http.Post(n.receipts.URL+"/receipts/main/"+receiptSecret, "application/json", strings.NewReader(`{"json":"test-content"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if ready = resp.StatusCode == 200; !ready && resp.StatusCode != 503 {
			t.Fatalf("while starting: %d", resp.StatusCode)
		}
	}
	for _, c := range []struct {
		name, path, body, answer string
		status                   int
	}{
		{"the console's test", "/receipts/main/" + receiptSecret, `{"json":"test-content"}`, `{"code":0,"msg":"ok"}`, 200},
		{"a stranger's report", "/receipts/main/" + receiptSecret, `[{"call_id":"1^2","out_id":"x","status_code":"200000","duration":"3"}]`, `{"code":0,"msg":"ok"}`, 200},
		{"wrong secret", "/receipts/main/" + strings.Repeat("0", 32), `[]`, `{"code":404`, 404},
		{"no such account", "/receipts/other/" + receiptSecret, `[]`, `{"code":404`, 404},
		{"not JSON", "/receipts/main/" + receiptSecret, `call_id=1`, `{"code":400`, 400},
		{"too big", "/receipts/main/" + receiptSecret, `["` + strings.Repeat("x", 3<<20) + `"]`, `{"code":413`, 413},
	} {
		resp, err := http.Post(n.receipts.URL+c.path, "application/json", strings.NewReader(c.body))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || !strings.HasPrefix(string(body), c.answer) {
			t.Errorf("%s: got %d %s, want %d %s", c.name, resp.StatusCode, body, c.status, c.answer)
		}
	}
}
